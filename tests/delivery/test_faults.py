"""The fault matrix: whatever the network or the API does to a request, every turn arrives once, in order."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

import pytest

from converra.api.connection import Connection
from converra.delivery.worker import transport
from tests.delivery.harness import Held, delivery, queue, turn, words
from tests.patience import LONG

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from converra.api.operations import Operation
    from converra.delivery.stats import Stats
    from converra.server.run import LocalServer

    Converse = Callable[..., Stats]

RETRY_AFTER = {"Retry-After": "0.1"}

FAULTS: dict[str, dict[str, Any]] = {
    "refused": {"kind": "refused"},
    "reset before": {"kind": "reset"},
    "reset after": {"kind": "reset", "when": "after"},
    "closed before": {"kind": "close"},
    "closed after": {"kind": "close", "when": "after"},
    "answer cut": {"kind": "cut"},
    "408": {"kind": "status", "status": 408},
    "425": {"kind": "status", "status": 425},
    "429": {"kind": "status", "status": 429},
    "429 with Retry-After": {"kind": "status", "status": 429, "headers": RETRY_AFTER},
    "500 before": {"kind": "status", "status": 500},
    "500 after": {"kind": "status", "status": 500, "when": "after"},
    "502 before": {"kind": "status", "status": 502},
    "502 after": {"kind": "status", "status": 502, "when": "after"},
    "503 with Retry-After": {"kind": "status", "status": 503, "headers": RETRY_AFTER},
    "unreadable": {"kind": "unreadable"},
    "drip": {"kind": "drip", "seconds": 0.1},
    "hang before": {"kind": "hang"},
    "hang after": {"kind": "hang", "when": "after"},
}

KINDS = pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
pytestmark = pytest.mark.parametrize("outbox", [None, "outbox.sqlite3"], ids=["memory", "durable"])


class Refused(Connection):
    """Connections of which some requests to one endpoint find nobody listening."""

    left = 0
    endpoint = ""

    def send(self, operation: Operation[Any], *, timeout: float | None = None) -> Any:
        if not Refused.left or _endpoint(operation) != Refused.endpoint:
            return super().send(operation, timeout=timeout)
        Refused.left -= 1
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            elsewhere = Connection("k", f"http://127.0.0.1:{nobody.getsockname()[1]}/api/v1", 5.0)
            return elsewhere.send(operation, timeout=timeout)


def _endpoint(operation: Operation[Any]) -> str:
    if operation.method == "GET":
        return "read"
    if not operation.path.endswith("/messages"):
        return "create"
    return "complete" if json.loads(operation.body or b"{}").get("status") == "completed" else "append"


@pytest.fixture
def spoil(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the first two requests to an endpoint fail."""

    def fail(endpoint: Any, fault: dict[str, Any]) -> None:
        if fault["kind"] != "refused":
            server.faults.add(endpoint, times=2, **fault)
            return
        monkeypatch.setattr(Refused, "left", 2)
        monkeypatch.setattr(Refused, "endpoint", endpoint)
        monkeypatch.setattr(transport, "open_connection", Refused)

    return fail


@pytest.fixture
def converse(server: LocalServer, tmp_path: Path, outbox: str | None) -> Converse:
    """Three turns, each flushed; the first request is a create, the last completes."""

    def three_turns(timeout: float = LONG) -> Stats:
        sender = delivery(server, timeout=timeout, outbox=outbox and str(tmp_path / outbox))
        conversation = queue(sender)
        for number in (1, 2):
            conversation.append(turn(number))
            assert sender.flush(LONG)
        conversation.append(turn(3))
        conversation.end()
        assert sender.shutdown(LONG)
        return sender.stats()

    return three_turns


def _timeout(fault: dict[str, Any]) -> float:
    """Seconds for one request: short where the fault is that no answer comes."""
    return 0.4 if fault["kind"] in ("hang", "drip") else LONG


def _check(server: LocalServer) -> None:
    conversation = Held(server)
    assert (conversation.count, conversation.words, conversation.status) == (1, words(1, 2, 3), "completed")
    appends = [request for request in server.requests if request.path.endswith("/messages")]
    completing = [request.status for request in appends if request.json().get("status") == "completed"]
    assert completing.count(200) <= 1
    assert 400 not in completing  # so says the local server to one that it has completed already


@KINDS
@pytest.mark.parametrize("endpoint", ["create", "append", "complete"])
def test_a_request_that_fails_twice_loses_and_doubles_nothing(
    server: LocalServer, spoil: Callable[..., None], converse: Converse, endpoint: str, fault: dict[str, Any]
) -> None:
    """Create, append and completing append survive every fault."""
    spoil(endpoint, fault)
    stats = converse(_timeout(fault))
    _check(server)
    assert (stats.delivered, stats.pending, stats.rejected, stats.duplicated_risk) == (6, 0, 0, 0)
    assert Refused.left == 0
    assert fault["kind"] == "refused" or server.faults.fired[endpoint, fault["kind"]] >= 1


@KINDS
@pytest.mark.parametrize("endpoint", ["append", "complete"])
def test_reading_back_survives_faults_too(
    server: LocalServer, spoil: Callable[..., None], converse: Converse, endpoint: Any, fault: dict[str, Any]
) -> None:
    """An append in question is settled although the read-back fails at first."""
    server.faults.add(endpoint, "reset", when="after")
    spoil("read", fault)
    stats = converse(_timeout(fault))
    _check(server)
    assert (stats.delivered, stats.duplicated_risk) == (6, 0)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("endpoint", ["append", "complete"])
def test_a_server_that_hides_messages_is_asked_for_the_counter(
    server: LocalServer, converse: Converse, endpoint: Any, when: Any
) -> None:
    """Where the conversation is shown without its messages, our counter in its metadata tells."""
    server.faults.hide_messages = True
    server.faults.add(endpoint, "reset", when=when)
    stats = converse()
    _check(server)
    assert stats.duplicated_risk == 0
