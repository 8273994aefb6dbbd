"""Faults on request: each does to a client what its name says."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING, Any, get_args

import httpx
import pytest
from starlette.testclient import TestClient

from converra.server.app import create_app
from converra.server.faults.switches import Endpoint, Faults, When, endpoint_of
from converra.server.store.conversations import Store
from tests.patience import LONG, until
from tests.server.conftest import client

if TYPE_CHECKING:
    from converra.server.run import LocalServer

HELLO = {"promptId": "p", "content": "User: Hello"}
SAID = {"messages": [{"role": "user", "content": "again"}]}


@pytest.fixture
def conversation(http: httpx.Client) -> str:
    return str(http.post("/conversations", json=HELLO).json()["id"])


def count(http: httpx.Client) -> int:
    return int(http.get("/conversations").json()["pagination"]["total"])


def raw(server: LocalServer, body: bytes) -> socket.socket:
    """A create over a bare socket, sent and not read."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=LONG)
    lines = (
        "POST /api/v1/conversations HTTP/1.1",
        "Host: localhost",
        "Authorization: Bearer k",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    )
    head = "\r\n".join((*lines, "", ""))
    connection.sendall(head.encode() + body)
    return connection


CREATE = b'{"promptId": "p", "content": "User: Hello"}'


@pytest.mark.parametrize(("when", "stored"), [("before", 0), ("after", 1)])
def test_reset_is_a_tcp_reset(server: LocalServer, when: When, stored: int) -> None:
    """The peer's kernel reports a reset, not an orderly end, before or after the request took effect."""
    server.faults.add("create", "reset", when=when)
    with raw(server, CREATE) as connection, pytest.raises(ConnectionResetError):
        connection.recv(1)
    assert len(server.store.conversations()[0]) == stored
    assert server.requests[-1].status is None


@pytest.mark.parametrize(("when", "stored"), [("before", 0), ("after", 1)])
def test_close_is_an_end_without_an_answer(server: LocalServer, when: When, stored: int) -> None:
    """The connection ends in order, with not a byte of an answer."""
    server.faults.add("create", "close", when=when)
    with raw(server, CREATE) as connection:
        assert connection.recv(1) == b""
    assert len(server.store.conversations()[0]) == stored


def test_cut_ends_in_the_middle_of_the_answer(server: LocalServer) -> None:
    """The head promises more than comes."""
    server.faults.add("create", "cut")
    with raw(server, CREATE) as connection:
        head, _, body = b"".join(iter(lambda: connection.recv(4096), b"")).partition(b"\r\n\r\n")
    promised = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length"))
    assert len(body) == promised // 2
    assert len(server.store.conversations()[0]) == 1


@pytest.mark.parametrize(("when", "stored"), [("before", 0), ("after", 1)])
def test_status_answers_with_status_and_headers(
    server: LocalServer, http: httpx.Client, when: When, stored: int
) -> None:
    """Any status with any headers, before or after the request took effect."""
    server.faults.add("create", "status", when=when, status=429, headers={"Retry-After": "7"})
    answer = http.post("/conversations", json=HELLO)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert answer.json() == {"error": {"code": "FAULT_429", "message": "A fault that was switched on"}}
    assert server.requests[-1].status == 429
    assert count(http) == stored


def test_unreadable_is_a_success_that_is_no_json(server: LocalServer, http: httpx.Client) -> None:
    """The request took effect, and a proxy's page comes back."""
    server.faults.add("create", "unreadable")
    answer = http.post("/conversations", json=HELLO)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html")
    assert count(http) == 1


def test_drip_sends_byte_by_byte(server: LocalServer, http: httpx.Client) -> None:
    """The whole answer comes, as slowly as asked."""
    server.faults.add("create", "drip", seconds=0.001)
    began = time.monotonic()
    with http.stream("POST", "/conversations", json=HELLO) as answer:
        chunks = list(answer.iter_raw())
    assert time.monotonic() - began > 0.001 * len(b"".join(chunks))
    assert len(chunks) > 100
    assert b"appendMessages" in b"".join(chunks)


@pytest.mark.parametrize(("when", "stored"), [("before", 0), ("after", 1)])
def test_hang_answers_nothing(server: LocalServer, http: httpx.Client, when: When, stored: int) -> None:
    """The client waits until it gives up; other requests are served meanwhile."""
    server.faults.add("create", "hang", when=when)
    with pytest.raises(httpx.ReadTimeout):
        http.post("/conversations", json=HELLO, timeout=httpx.Timeout(LONG, read=0.1))
    until(lambda: count(http), stored)


@pytest.mark.parametrize("when", ["before", "after"])
def test_delay_answers_late(server: LocalServer, http: httpx.Client, when: When) -> None:
    """Nothing but the time is different."""
    server.faults.add("create", "delay", when=when, seconds=0.05)
    began = time.monotonic()
    assert http.post("/conversations", json=HELLO).status_code == 200
    assert time.monotonic() - began >= 0.05


def test_a_fault_hits_its_endpoint_only(server: LocalServer, http: httpx.Client, conversation: str) -> None:
    """Creating, appending, completing and reading are spoilt apart."""
    path = f"/conversations/{conversation}/messages"
    requests: dict[str, Any] = {
        "create": lambda: http.post("/conversations", json=HELLO),
        "append": lambda: http.post(path, json=SAID),
        "read": lambda: http.get(f"/conversations/{conversation}"),
        "complete": lambda: http.post(path, json=SAID | {"status": "completed"}),
    }
    assert [*requests, "any"] == sorted(get_args(Endpoint), key=[*requests, "any"].index)
    for spoilt in get_args(Endpoint):
        server.faults.add(spoilt, "status", status=503, times=None)
        hit = {name for name, request in requests.items() if request().status_code == 503}
        server.faults.clear()
        assert hit == (set(requests) if spoilt == "any" else {spoilt})


@pytest.mark.parametrize(
    ("method", "path", "body", "endpoint"),
    [
        ("POST", "/api/v1/conversations", b"", "create"),
        ("POST", "/api/v1/conversations/c/messages", b'{"status": "completed"}', "complete"),
        ("POST", "/api/v1/conversations/c/messages", b'{"status": "active"}', "append"),
        ("POST", "/api/v1/conversations/c/messages", b"[]", "append"),
        ("POST", "/api/v1/conversations/c/messages", b"\xff{", "append"),
        ("GET", "/api/v1/conversations/c/insights", b"", "read"),
        ("GET", "/api/v1/openapi.json", b"", None),
        ("POST", "/openai/v1/chat/completions", b"", None),
        ("GET", "/", b"", None),
    ],
)
def test_endpoints_are_known_by_method_path_and_body(method: str, path: str, body: bytes, endpoint: str | None) -> None:
    """What is outside the Conversations API is never spoilt."""
    assert endpoint_of(method, path, body) == endpoint


def test_faults_are_counted_out(server: LocalServer, http: httpx.Client) -> None:
    """`skip` lets the first pass, `times` ends it, the next fault in line follows."""
    server.faults.add("create", "status", status=500, skip=1, times=2)
    server.faults.add("create", "status", status=502)
    statuses = [http.post("/conversations", json=HELLO).status_code for _ in range(6)]
    assert statuses == [502, 500, 500, 200, 200, 200]
    assert server.faults.fired == {("create", "status"): 3}
    assert server.faults.armed() == []


def test_a_share_of_requests_is_hit_the_same_way_each_time() -> None:
    """Random looking, and repeatable."""

    def hits() -> list[bool]:
        faults = Faults(seed=1)
        faults.add("any", "status", times=None, share=0.2)
        return [faults.take("append", 0.0) is not None for _ in range(200)]

    first = hits()
    assert first == hits()
    assert 20 <= sum(first) <= 60


def test_a_rate_limit_says_when_to_come_back() -> None:
    """So many in a window; then 429 with Retry-After, until the oldest leaves the window."""
    faults = Faults()
    faults.rate_limit(2, seconds=60)
    taken = [faults.take("append", now) for now in (0.0, 10.0, 20.0, 59.9, 60.0)]
    assert [fault and (fault.status, fault.headers) for fault in taken] == [
        None,
        None,
        (429, {"Retry-After": "41"}),
        (429, {"Retry-After": "1"}),
        None,
    ]
    faults.clear()
    assert faults.take("append", 60.0) is None


def test_a_rate_of_nothing_refuses_everything() -> None:
    """A limit of no requests at all is a server that is closed."""
    faults = Faults()
    faults.rate_limit(0, seconds=5)
    fault = faults.take("read", 0.0)
    assert fault is not None
    assert (fault.status, fault.headers) == (429, {"Retry-After": "6"})


def test_a_misspelt_fault_is_an_error() -> None:
    """A fault that can never fire would make a test pass that tests nothing."""
    faults = Faults()
    wrong: Any = ("creat", "status"), ("create", "explode")
    for endpoint, kind in wrong:
        with pytest.raises(ValueError, match="no such fault"):
            faults.add(endpoint, kind)


def test_messages_can_be_hidden(server: LocalServer, http: httpx.Client, conversation: str) -> None:
    """A server that does not show the messages of a conversation, nor of an append."""
    server.faults.hide_messages = True
    shown = http.get(f"/conversations/{conversation}").json()
    appended = http.post(f"/conversations/{conversation}/messages", json=SAID).json()
    server.faults.clear()
    assert "messages" not in shown
    assert "messages" not in appended
    assert len(http.get(f"/conversations/{conversation}").json()["messages"]) == 2


def test_a_status_can_be_refused_by_name(server: LocalServer, http: httpx.Client, conversation: str) -> None:
    """A server that does not know `active` says which it knows."""
    server.faults.refused_statuses = frozenset({"active"})
    answers = [
        http.post("/conversations", json=HELLO | {"status": "active"}),
        http.post(f"/conversations/{conversation}/messages", json=SAID | {"status": "active"}),
    ]
    details = {"status": "Must be one of: completed, abandoned, in_progress"}
    error = {"code": "VALIDATION_ERROR", "message": "Invalid request body", "details": details}
    assert [(answer.status_code, answer.json()) for answer in answers] == [(400, {"error": error})] * 2
    assert http.post("/conversations", json=HELLO | {"status": "in_progress"}).status_code == 200


def test_without_sockets_a_broken_connection_is_an_exception() -> None:
    """An application that is called directly has no connection to break, and says so."""
    faults = Faults()
    faults.add("create", "reset")
    with contextlib.closing(Store()) as store:
        app = create_app(store, faults=faults)
        with TestClient(app, base_url="http://localhost", headers={"Authorization": "Bearer k"}) as direct:
            with pytest.raises(ConnectionResetError):
                direct.post("/api/v1/conversations", json=HELLO)
            assert direct.post("/api/v1/conversations", json=HELLO).status_code == 200


def test_the_end_of_the_block_does_not_wait_for_what_hangs(server: LocalServer) -> None:
    """A request that hangs when the server stops is dropped."""
    server.faults.add("read", "hang")
    with client(server) as http, pytest.raises(httpx.ReadTimeout):
        http.get("/conversations", timeout=httpx.Timeout(LONG, read=0.05))
