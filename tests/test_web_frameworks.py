"""Streamed responses of a web framework: read in other threads and tasks than they were begun in."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import threading
from typing import TYPE_CHECKING, Any

import httpx
import openai
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from converra.capture.recorder import Recorder
from converra.config import load
from converra.process import guard
from converra.server.run import LocalServer, listen, serve
from tests.patience import LONG, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.requests import Request
    from starlette.responses import Response

    from converra.capture.handle import Conversation


class Web:
    """An app with one endpoint for each way to stream an answer. Each asks the model to say `n` three times."""

    def __init__(self, server: LocalServer) -> None:
        made = {"api_key": "k", "base_url": server.base_url, "flush_interval": 3600.0, "timeout": LONG}
        self.recorder = Recorder(load(made, {}))
        self.recorder.instrument()
        self.client = openai.OpenAI(api_key="none", base_url=server.openai_url, max_retries=0)
        self.server = server
        ways = (self.sync_block, self.async_block, self.sync_decorated, self.async_decorated, self.begun_before)
        ways += (self.left_in_the_stream, self.left_in_a_thread, self.slow)  # type: ignore[assignment]
        routes = [Route(f"/{way.__name__}", way) for way in ways]
        self.app = Starlette(
            routes=[*routes, Route("/active_in_thread", self.active_in_thread), Route("/active", self.active)],
            middleware=[Middleware(BaseHTTPMiddleware, dispatch=self.around)],
            lifespan=self.alive,
        )

    @contextlib.asynccontextmanager
    async def alive(self, _: Starlette) -> AsyncIterator[None]:
        made: dict[str, Any] = {"api_key": "none", "base_url": self.server.openai_url, "max_retries": 0}
        async with openai.AsyncOpenAI(**made) as self.async_client:
            yield

    # -- what the endpoints share ------------------------------------------------------------------------------------

    def conversation(self, request: Request) -> Conversation:
        return self.recorder.conversation("prompt", metadata={"n": request.query_params["n"]})

    def begin(self, request: Request, rest: str = "") -> Any:
        asked: Any = [{"role": "user", "content": f"[[say:{' '.join(3 * [request.query_params['n']])}]]{rest}"}]
        return self.client.chat.completions.create(model="m", messages=asked, stream=True)

    async def begin_async(self, request: Request) -> Any:
        asked: Any = [{"role": "user", "content": f"[[say:{' '.join(3 * [request.query_params['n']])}]]"}]
        return await self.async_client.chat.completions.create(model="m", messages=asked, stream=True)

    # -- the endpoints -----------------------------------------------------------------------------------------------

    def sync_block(self, request: Request) -> Response:
        """A block inside of a plain generator: each of its steps runs in whichever thread is free."""

        def words() -> Iterator[str]:
            with self.conversation(request):
                yield from map(text_of, self.begin(request))

        return StreamingResponse(words())

    async def async_block(self, request: Request) -> Response:
        """A block inside of an asynchronous generator."""

        async def words() -> AsyncIterator[str]:
            async with self.conversation(request):
                async for chunk in await self.begin_async(request):
                    yield text_of(chunk)

        return StreamingResponse(words())

    def sync_decorated(self, request: Request) -> Response:
        """A generator that is a conversation."""

        @self.conversation(request)
        def words() -> Iterator[str]:
            yield from map(text_of, self.begin(request))

        return StreamingResponse(words())

    async def async_decorated(self, request: Request) -> Response:
        """An asynchronous generator that is a conversation."""

        @self.conversation(request)
        async def words() -> AsyncIterator[str]:
            async for chunk in await self.begin_async(request):
                yield text_of(chunk)

        return StreamingResponse(words())

    def begun_before(self, request: Request) -> Response:
        """The stream is begun inside of a block, which is left before anybody reads."""
        with self.conversation(request):
            stream = self.begin(request)
        return StreamingResponse(map(text_of, stream))

    async def left_in_the_stream(self, request: Request) -> Response:
        """As a dependency with `yield` does: entered before the response, left after it in another task."""
        block = self.conversation(request)
        block.__enter__()

        async def words() -> AsyncIterator[str]:
            try:
                async for chunk in await self.begin_async(request):
                    yield text_of(chunk)
            finally:
                block.__exit__(None, None, None)

        return StreamingResponse(words())

    def left_in_a_thread(self, request: Request) -> Response:
        """The same in threads: entered in one, left in whichever is free."""
        block = self.conversation(request)
        block.__enter__()
        stream = self.begin(request)

        def words() -> Iterator[str]:
            try:
                yield from map(text_of, stream)
            finally:
                block.__exit__(None, None, None)

        return StreamingResponse(words())

    def slow(self, request: Request) -> Response:
        """An answer that nobody waits for to the end."""

        def words() -> Iterator[str]:
            with self.conversation(request):
                yield from map(text_of, self.begin(request, "[[slow:0.2]]"))

        return StreamingResponse(words())

    async def around(self, request: Request, call_next: Any) -> Response:
        """Middleware that runs the endpoint in a task of its own, and the response in another."""
        response: Response = await call_next(request)
        return response

    def active_in_thread(self, _: Request) -> Response:
        return PlainTextResponse(str(self.recorder.current_conversation()))

    async def active(self, _: Request) -> Response:
        return PlainTextResponse(str(self.recorder.current_conversation()))


def text_of(chunk: Any) -> str:
    return "".join(choice.delta.content or "" for choice in chunk.choices)


@contextlib.contextmanager
def served(app: Any) -> Iterator[str]:
    """The address of an app on a real server, in a thread."""
    listener = listen(0)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()
    listener.close()


@pytest.fixture
def server() -> Iterator[LocalServer]:
    """A local API of this test's own."""
    guard.reset_log_limits()
    with serve() as running:
        yield running


@pytest.fixture
def web(server: LocalServer) -> Iterator[Web]:
    """The app, captured."""
    made = Web(server)
    yield made
    made.recorder.uninstrument()
    made.recorder.shutdown(5)
    made.client.close()


def held(server: LocalServer) -> dict[str, tuple[str, list[str]]]:
    """What each conversation holds, by its number."""
    found, _ = server.store.conversations(limit=1000)
    talks = {c.metadata["n"]: (c.status, [m["content"] for m in server.store.messages(c)]) for c in found}
    assert len(talks) == len(found)
    return talks


WAYS = ["sync_block", "async_block", "sync_decorated", "async_decorated", "begun_before"]
WAYS += ["left_in_the_stream", "left_in_a_thread"]


@pytest.mark.parametrize("way", WAYS)
def test_a_streamed_response_is_a_conversation_of_its_own(
    server: LocalServer, web: Web, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    """Twenty at once: each arrives, each is stored once and whole, nothing is logged and nothing stays active."""
    caplog.set_level(logging.WARNING)

    async def browse(url: str) -> tuple[list[str], list[str]]:
        async with httpx.AsyncClient(base_url=url, timeout=LONG) as browser:
            pages = await asyncio.gather(*[browser.get(f"/{way}", params={"n": n}) for n in range(20)])
            after = [await browser.get(path) for path in ["/active", *["/active_in_thread"] * 10]]
        return [page.text for page in pages], [page.text for page in after]

    with served(web.app) as url:
        pages, active = asyncio.run(browse(url))
    assert web.recorder.shutdown(LONG)
    assert pages == [f"{n} {n} {n}" for n in range(20)]
    assert active == ["None"] * 11
    assert held(server) == {str(n): ("completed", [f"[[say:{n} {n} {n}]]", f"{n} {n} {n}"]) for n in range(20)}
    assert caplog.messages == []


def test_a_browser_that_leaves_cuts_the_answer_short(
    server: LocalServer, web: Web, caplog: pytest.LogCaptureFixture
) -> None:
    """What had arrived until then is stored as partial, and the conversation is completed."""
    caplog.set_level(logging.WARNING)
    with served(web.app) as url:
        with httpx.stream("GET", f"{url}/slow", params={"n": 7}, timeout=LONG) as response:
            first = next(response.iter_text())
        # the web server notices with the next words that it sends, Python when it tidies up
        until(lambda: gc.collect() >= 0 and web.recorder.flush(LONG) and held(server))
    (stored,), _ = server.store.conversations()
    asked, answer = server.store.messages(stored)[:2]
    assert (stored.status, asked["content"]) == ("completed", "[[say:7 7 7]][[slow:0.2]]")
    assert answer["content"].startswith(first.strip())
    assert answer["metadata"]["partial"] is True
    assert caplog.messages == []
