"""The lifespan of ASGI apps: it delivers when the server stops, and nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

import converra
from converra.asgi import lifespan
from converra.server.run import LocalServer, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from starlette.requests import Request


@pytest.fixture
def server() -> Iterator[LocalServer]:
    """A local API, and the process-wide recorder that sends there; nothing is sent early."""
    with serve() as running:
        converra.instrument("prompt", api_key="k", base_url=running.base_url, flush_interval=600.0)
        yield running
        converra.uninstrument()
        converra.shutdown(5)


def _speak(words: str) -> None:
    """Record a turn that waits for the end: the session is kept open, and nothing hurries."""
    with converra.conversation("prompt") as conversation:
        conversation.add_message("user", words)
        conversation.add_message("assistant", f"You said {words}.")


def _held(server: LocalServer) -> list[tuple[str, list[str]]]:
    found, _ = server.store.conversations(limit=100)
    return sorted((c.status, [m["content"] for m in server.store.messages(c)]) for c in found)


async def _chat(request: Request) -> JSONResponse:
    await asyncio.to_thread(_speak, request.query_params["words"])
    return JSONResponse(dict(request.state._state))


def _app(own: Any) -> Starlette:
    return Starlette(routes=[Route("/chat", _chat)], lifespan=own)


def _browse(app: Starlette, words: str) -> Any:
    """Start the app, ask once, and stop it."""
    with TestClient(app) as browser:
        return browser.get("/chat", params={"words": words}).json()


class Own:
    """A lifespan as an object with a call, which notes what happens to it."""

    def __init__(self, server: LocalServer | None = None) -> None:
        self.seen: list[Any] = []
        self.server = server

    @contextlib.asynccontextmanager
    async def __call__(self, app: Starlette) -> AsyncIterator[dict[str, Any]]:
        self.seen.append(app)
        try:
            yield {"connection": "open"}
        except BaseException as error:
            self.seen.append(error)
            raise
        _speak("at its end")
        self.seen.append("closed")


async def _generator(app: Starlette) -> AsyncIterator[dict[str, Any]]:
    yield {"connection": "open"}
    _speak("at its end")


OWN: dict[str, Callable[[], Any]] = {
    "function": lambda: contextlib.asynccontextmanager(_generator),
    "generator": lambda: _generator,
    "object": Own,
    "method": lambda: Own().__call__,
    "partial": lambda: functools.partial(Own().__call__),
    "wrapped twice": lambda: lifespan(contextlib.asynccontextmanager(_generator)),
}


def test_an_app_without_a_lifespan(server: LocalServer) -> None:
    """`Starlette(lifespan=lifespan)`: what was recorded has arrived when the server has stopped, again and again."""
    for number in range(3):
        assert _browse(_app(lifespan), str(number)) == {}
        assert _held(server) == [("completed", [str(n), f"You said {n}."]) for n in range(number + 1)]


@pytest.mark.parametrize("kind", OWN)
def test_a_lifespan_of_the_app_s_own(server: LocalServer, kind: str) -> None:
    """Its state reaches the requests, and what it records at its end arrives too."""
    assert _browse(_app(lifespan(OWN[kind]())), "hello") == {"connection": "open"}
    assert _held(server) == [
        ("completed", ["at its end", "You said at its end."]),
        ("completed", ["hello", "You said hello."]),
    ]


def test_it_is_called_with_the_app_and_closed_once(server: LocalServer) -> None:
    """The app's own lifespan sees what it would without us."""
    own = Own()
    app = _app(lifespan(own))
    _browse(app, "hello")
    assert own.seen == [app, "closed"]


def test_what_it_raises_at_the_start_passes(server: LocalServer) -> None:
    """An app that cannot start says why, and what it recorded until then arrives."""

    @lifespan
    @contextlib.asynccontextmanager
    async def own(app: Starlette) -> AsyncIterator[None]:
        _speak("before")
        if not app.routes[1:]:
            raise LookupError("no database")
        yield

    with pytest.raises(LookupError, match="no database"), TestClient(_app(own)):
        pass
    assert _held(server) == [("completed", ["before", "You said before."])]


def test_what_is_thrown_into_it_arrives_as_the_same_object(server: LocalServer) -> None:
    """An exception inside reaches the app's own lifespan, and comes back as itself."""
    own, error, app = Own(), LookupError("inside"), Starlette()

    async def run() -> None:
        async with lifespan(own)(app):
            raise error

    with pytest.raises(LookupError) as raised:
        asyncio.run(run())
    assert raised.value is error
    assert own.seen == [app, error]


def test_an_exception_that_it_holds_back_stays_there(server: LocalServer) -> None:
    """A lifespan may swallow what happens inside of it."""

    @lifespan
    @contextlib.asynccontextmanager
    async def own(_: Starlette) -> AsyncIterator[None]:
        with contextlib.suppress(LookupError):
            yield

    async def run() -> None:
        async with own(Starlette()):
            raise LookupError

    asyncio.run(run())


def test_the_name_and_docstring_of_a_wrapped_lifespan_stay(server: LocalServer) -> None:
    """A wrapped function looks like itself."""

    @contextlib.asynccontextmanager
    async def own(_: Starlette) -> AsyncIterator[None]:
        """Connect."""
        yield

    assert (lifespan(own).__name__, lifespan(own).__doc__) == ("own", "Connect.")


def test_the_event_loop_goes_on_while_it_delivers(server: LocalServer) -> None:
    """A slow API does not stop what else runs on the loop, and threads of the app that hang do not matter."""
    server.faults.add("any", "delay", seconds=0.3, times=None)
    hanging, gaps = threading.Event(), [time.monotonic()]

    async def tick() -> None:
        while True:
            await asyncio.sleep(0.01)
            gaps.append(time.monotonic())

    async def run() -> None:
        loop = asyncio.get_running_loop()
        waiting = [loop.run_in_executor(None, hanging.wait) for _ in range(64)]  # more than there are threads
        async with lifespan(Starlette()):
            _speak("hello")
            ticking = asyncio.create_task(tick())
            began = time.monotonic()
        assert time.monotonic() - began > 0.3
        ticking.cancel()
        hanging.set()
        await asyncio.gather(*waiting)

    asyncio.run(run())
    assert max(later - earlier for earlier, later in itertools.pairwise(gaps)) < 0.25
    assert _held(server) == [("completed", ["hello", "You said hello."])]


def test_a_dead_api_costs_no_more_than_the_budget(server: LocalServer) -> None:
    """The server stops within `shutdown_timeout`."""
    server.faults.add("any", "hang", times=None)
    converra.instrument("prompt", api_key="k", base_url=server.base_url, flush_interval=600.0, shutdown_timeout=0.5)
    _speak("hello")

    async def run() -> float:
        async with lifespan(Starlette()):
            began = time.monotonic()
        return time.monotonic() - began

    assert 0.3 < asyncio.run(run()) < 2


def test_it_needs_no_framework() -> None:
    """Importing it imports none, and before `instrument()` it does nothing."""
    program = (
        "import asyncio, sys\n"
        "from converra.asgi import lifespan\n"
        "assert not {'starlette', 'fastapi', 'trio', 'httpx', 'wrapt'} & sys.modules.keys()\n"
        "async def run():\n"
        "    async with lifespan(object()) as state:\n"
        "        print(state)\n"
        "asyncio.run(run())\n"
    )
    assert subprocess.check_output([sys.executable, "-W", "error", "-c", program], text=True) == "None\n"


def test_httpx_s_own_transport_serves_it(server: LocalServer) -> None:
    """Where nobody runs the lifespan, requests are answered all the same."""

    async def run() -> int:
        transport = httpx.ASGITransport(_app(lifespan))
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as browser:
            return (await browser.get("/chat", params={"words": "hello"})).status_code

    assert asyncio.run(run()) == 200
