"""A page that is open learns what changes."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx

from converra.server.run import serve
from converra.server.store.conversations import Store
from tests.patience import LONG, until
from tests.server.conftest import client
from tests.server.test_store import conversation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

    from converra.server.run import LocalServer


@contextlib.contextmanager
def listening(server: LocalServer, query: str = "") -> Iterator[Iterator[str]]:
    """The names of the events as they come; the stream is open when the block begins."""
    seen = server.store.changes.version
    with httpx.stream("GET", f"{server.url}/live?seen={seen}{query}", timeout=LONG) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.iter_lines()
        assert next(lines) == "retry: 500"
        yield (line.removeprefix("event: ") for line in lines if line.startswith("event: "))


def test_a_list_hears_of_every_conversation(server: LocalServer) -> None:
    """From any thread, and of requests apart."""
    with listening(server) as events:
        threading.Thread(target=server.store.create, args=(conversation(),)).start()
        assert next(events) == "conversations"
        httpx.get(f"{server.openai_url}/responses/none")
        assert next(events) == "requests"


def test_it_hears_within_moments(server: LocalServer, http: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is woken by what is written: it does not look for it now and then."""
    monkeypatch.setattr("converra.server.viewer.live._LOOK_SECONDS", 3600.0)
    with listening(server) as events:
        http.post("/conversations", json={"promptId": "p", "content": "User: hi"})
        assert next(events) == "conversations"


def test_a_conversation_hears_of_itself_only(server: LocalServer) -> None:
    """Whatever else happens on the server."""
    first = server.store.create(conversation(1))
    other = server.store.create(conversation(2))
    with listening(server, f"&conversation={first.id}") as events:
        server.store.append(other, [{"role": "user", "content": "x"}], metadata={}, end=False)
        time.sleep(0.1)
        server.store.append(first, [{"role": "user", "content": "x"}], metadata={}, end=False)
        assert next(events) == "changed"
        server.store.append(first, [{"role": "user", "content": "x"}], metadata={}, end=False)
        assert next(events) == "changed"


def test_what_was_missed_is_told_first(server: LocalServer) -> None:
    """Between the page and its stream, or while the connection was gone."""
    with httpx.stream("GET", f"{server.url}/live?seen=another-run-7", timeout=LONG) as stream:
        names = [line for _, line in zip(range(6), stream.iter_lines(), strict=False) if line.startswith("event: ")]
    assert names == ["event: conversations", "event: requests"]


def test_what_another_process_writes_is_told(tmp_path: Path) -> None:
    """Two servers on one file: each shows what the other got."""
    path = tmp_path / "local.sqlite3"
    other = Store(path)
    with serve(path=path) as server:
        made = other.create(conversation())
        server.store.poll_changes()
        with listening(server) as events:
            other.append(made, [{"role": "user", "content": "x"}], metadata={}, end=False)
            assert next(events) == "conversations"
        with listening(server, f"&conversation={made.id}") as events:
            other.append(made, [{"role": "user", "content": "x"}], metadata={}, end=False)
            assert next(events) == "changed"
    other.close()


def test_what_is_rolled_back_is_not_told(server: LocalServer) -> None:
    """Nothing happened."""
    before = server.store.changes.version
    with contextlib.suppress(ZeroDivisionError), server.store.transaction():
        server.store.create(conversation())
        raise ZeroDivisionError
    with server.store.transaction():  # as pruning does that finds nothing to delete
        pass
    assert server.store.changes.version == before


def test_a_page_that_is_left_is_forgotten(server: LocalServer) -> None:
    """No listener outlives its connection."""
    with listening(server):
        assert len(server.store.changes._listeners) == 1

    def listeners() -> set[Any]:
        server.store.changes.publish(("x",))
        return server.store.changes._listeners

    until(listeners, set())


def test_closing_ends_every_stream(server: LocalServer) -> None:
    """A server that stops does not wait for pages to be left."""
    with listening(server) as events:
        server.store.changes.close()
        list(events)  # ends; on a busy machine, news from before may still be among them
    with client(server) as http:
        assert http.get("/conversations").status_code == 200
