"""Answers that no API should give: huge ones, and redirects."""

from __future__ import annotations

import gzip
import logging
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.delivery.harness import Held, delivery, held, queue, turn, words
from tests.delivery.twisting import gateway

if TYPE_CHECKING:
    from collections.abc import Callable

    from converra.server.run import LocalServer
    from tests.delivery.twisting import Reply

OUTBOXES = pytest.mark.parametrize("outbox", [None, "outbox.sqlite3"], ids=["memory", "durable"])
BOMB: Reply = (200, {"Content-Encoding": "gzip"}, gzip.compress(b" " * 100_000_000))
LONG: Reply = (200, {}, b'{"id": "' + b"x" * 10_000_000 + b'"}')

MEMORY = """
import resource, sys
import converra
converra.instrument(api_key="k", base_url=sys.argv[1], flush_interval=0.1)
with converra.conversation("warm") as conv:
    conv.add_message("user", "hello")
converra.flush(20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for number in range(3):
    with converra.conversation("p") as conv:
        conv.add_message("user", "hello")
        conv.add_message("assistant", "hi", latency_ms=3)
print(converra.flush(20), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def _appends(answers: list[Reply]) -> Callable[[str, str, Callable[[], Reply]], Reply]:
    """The first answers to appends are these; the server behind has stored what was sent."""

    def twist(method: str, path: str, ask: Callable[[], Reply]) -> Reply:
        real = ask()
        return answers.pop(0) if answers and method == "POST" and path.endswith("/messages") else real

    return twist


@OUTBOXES
@pytest.mark.parametrize("odd", [BOMB, LONG], ids=["bomb", "long"])
def test_a_huge_answer_to_an_append_is_settled_by_reading_back(
    odd: Reply, outbox: str | None, server: LocalServer, tmp_path: Any
) -> None:
    """What was stored is not sent again, and what follows arrives behind it."""
    with gateway(server.url, _appends([odd, odd])) as api:
        sender = delivery(server, base_url=api.base_url, outbox=outbox and str(tmp_path / outbox))
        conversation = queue(sender)
        for number in (1, 2, 3):
            conversation.append(turn(number))
            assert sender.flush(10)
        assert sender.shutdown(10)
    assert (Held(server).words[:6], Held(server).status) == (words(1, 2, 3), "completed")
    assert sender.stats().delivered == 6
    assert sender.stats().duplicated_risk == 0


def test_an_api_whose_every_answer_is_huge_gets_each_message_once(server: LocalServer) -> None:
    """An append that was answered with success is stored, also where no answer about it can be read."""

    def twist(method: str, path: str, ask: Callable[[], Reply]) -> Reply:
        real = ask()
        return BOMB if path.count("/") > 3 else real

    with gateway(server.url, twist) as api:
        sender = delivery(server, base_url=api.base_url)
        conversation = queue(sender)
        for number in (1, 2):
            conversation.append(turn(number))
            assert sender.flush(10)
        assert sender.shutdown(10)
    assert (Held(server).words[:4], Held(server).status) == (words(1, 2), "completed")
    assert (sender.stats().delivered, sender.stats().pending) == (4, 0)


def test_huge_answers_cost_an_app_no_memory(server: LocalServer) -> None:
    """A few megabytes, in a process of its own that records three conversations."""
    with gateway(server.url, _appends([BOMB, LONG, BOMB])) as api:
        command = [sys.executable, "-c", MEMORY, api.base_url]
        out = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.split()
    assert out[0] == "True"
    assert int(out[1]) < 30  # of MiB; the answers decompress to 100 each
    assert [one.status for one in held(server)] == ["abandoned", "completed", "completed", "completed"]


@OUTBOXES
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("endpoint", ["create", "append", "read"])
def test_a_redirect_is_waited_out(
    endpoint: str,
    status: int,
    outbox: str | None,
    server: LocalServer,
    tmp_path: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is said once with what to do and pauses no other conversation; the key never goes where it leads."""
    with gateway(server.url, lambda *_: (200, {}, b"{}")) as elsewhere:
        moved = (status, {"Location": f"{elsewhere.base_url}/conversations?token=x"}, b"")
        left = {"create": 2, "append": 2, "read": 2}
        dropped = [endpoint == "read"]

        def twist(method: str, path: str, ask: Callable[[], Reply]) -> Reply:
            kind = "read" if method == "GET" else "append" if path.endswith("/messages") else "create"
            if kind == endpoint and left[kind]:
                left[kind] -= 1
                return moved
            real = ask()
            return (500, {}, b"") if kind == "append" and dropped and dropped.pop() else real

        with gateway(server.url, twist) as api, caplog.at_level(logging.WARNING):
            sender = delivery(server, base_url=api.base_url, outbox=outbox and str(tmp_path / outbox))
            conversation = queue(sender)
            conversation.append(turn(1))
            assert sender.flush(10)
            assert sender.shutdown(10)
        assert elsewhere.asked == []
    assert (Held(server).count, Held(server).words[:2], Held(server).status) == (1, words(1), "completed")
    told = [record.getMessage() for record in caplog.records]
    host = api.base_url.split("/")[2]
    where = f"converra: {host} answers with a redirect ({status}) to {elsewhere.base_url}/conversations. Redirects are "
    assert [line.removeprefix(where) for line in told] == [WHAT_TO_DO]


WHAT_TO_DO = (
    "not followed, because the API key must not travel to another host: set base_url (CONVERRA_BASE_URL) to the "
    "address that answers itself. Recorded messages wait, and are sent again later."
)

LOGGED = """
import logging, sys
logging.basicConfig(level=getattr(logging, sys.argv[3]))
{import_first}
import converra
converra.instrument(api_key="k", base_url=sys.argv[1], flush_interval=0.05)
with converra.conversation("p") as conv:
    conv.add_message("user", "hello")
    conv.add_message("assistant", "hi", latency_ms=3)
import {name}
with {name}.Client(trust_env=False) as client:
    client.get(sys.argv[2])
converra.shutdown(10)
"""


@pytest.mark.parametrize("name", ["httpx", "httpx2"])
@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
def test_our_requests_are_not_in_the_app_s_log(name: str, level: str, server: LocalServer) -> None:
    """An app that logs everything reads about its own requests, as before, and not about ours."""
    code = LOGGED.format(name=name, import_first=f"import {name}" if name == "httpx2" else "")
    own = f"{server.url}/health"
    command = [sys.executable, "-c", code, server.base_url, own, level]
    err = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stderr
    assert [one.status for one in held(server)] == ["completed"]
    lines = [line for line in err.splitlines() if "httpx" in line or "httpcore" in line]
    assert [line for line in lines if "HTTP Request" in line] == [
        f'INFO:{name}:HTTP Request: GET {own} "HTTP/1.1 200 OK"'
    ]
    assert not [line for line in lines if "POST" in line]
    assert any("httpcore" in line for line in lines) == (level == "DEBUG")
