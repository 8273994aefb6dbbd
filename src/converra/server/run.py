"""Runs the local server: in a thread for tests, or for good on behalf of the command line.

::

    with serve() as server:
        client = Converra(api_key="any", base_url=server.base_url)
        server.faults.add("append", "reset", when="after")
        assert server.requests[-1].status is None
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import TYPE_CHECKING

import uvicorn

from converra.server.app import create_app
from converra.server.faults.connections import Connections
from converra.server.faults.switches import Faults
from converra.server.store.conversations import Store

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from converra.server.spans import StoredSpans
    from converra.server.store.records import LoggedRequest

LOOPBACK = "127.0.0.1"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - only with a token
_TICK_SECONDS = 0.5
_LAST_SECONDS = 0.5


class LocalServer:
    """A running server: its addresses, what it holds, what it was asked, and its fault switches."""

    def __init__(self, port: int, store: Store, faults: Faults, spans: StoredSpans) -> None:
        self.port: int = port
        self.store: Store = store
        self.faults: Faults = faults
        self.spans: StoredSpans = spans
        """Spans that exporters have sent, on their way into the store."""

    @property
    def url(self) -> str:
        """The viewer's address, and the root of the others."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def base_url(self) -> str:
        """The Conversations API, as `CONVERRA_BASE_URL` wants it."""
        return f"{self.url}/api/v1"

    @property
    def otlp_url(self) -> str:
        """The receiver of spans, as `OTEL_EXPORTER_OTLP_ENDPOINT` wants it."""
        return self.url

    @property
    def openai_url(self) -> str:
        """The stand-in model, as `OPENAI_BASE_URL` wants it."""
        return f"{self.url}/openai/v1"

    @property
    def google_url(self) -> str:
        """The stand-in model, as `GOOGLE_GEMINI_BASE_URL` wants it."""
        return f"{self.url}/google"

    @property
    def anthropic_url(self) -> str:
        """The stand-in model, as `ANTHROPIC_BASE_URL` wants it."""
        return f"{self.url}/anthropic"

    @property
    def bedrock_url(self) -> str:
        """The stand-in model, as `AWS_ENDPOINT_URL_BEDROCK_RUNTIME` wants it."""
        return f"{self.url}/bedrock"

    @property
    def mistral_url(self) -> str:
        """The stand-in model, as Mistral's client wants its `server_url`."""
        return f"{self.url}/mistral"

    @property
    def ollama_url(self) -> str:
        """The stand-in model, as `OLLAMA_HOST` wants it."""
        return f"{self.url}/ollama"

    @property
    def requests(self) -> list[LoggedRequest]:
        """Every request to the two APIs as it was received, oldest first."""
        return self.store.log.all()


@contextlib.contextmanager
def serve(
    *,
    port: int = 0,
    path: str | os.PathLike[str] | None = None,
    store: Store | None = None,
    token: str | None = None,
) -> Iterator[LocalServer]:
    """A local server in a thread of this process, on loopback; stopped at the end, whatever hangs.

    `port=0` takes a free one. `path` is the database, in memory by default; a `store` given stays open. A `token` is
    asked of everybody, as in `run`.
    """
    faults, connections = Faults(), Connections()
    with contextlib.ExitStack() as stack:
        held = store or stack.enter_context(contextlib.closing(Store(path or ":memory:")))
        listener = stack.enter_context(contextlib.closing(listen(port)))
        app = create_app(held, faults=faults, connections=connections, token=token)
        stack.callback(app.state.spans.close)
        held.pruning.start()
        server = _ThreadedServer(_config(app, connections))
        stack.enter_context(server.running(listener))
        yield LocalServer(listener.getsockname()[1], held, faults, app.state.spans)


def run(store: Store, listener: socket.socket, *, token: str | None = None) -> None:
    """Serve until Ctrl-C or SIGTERM.

    For other machines: `listen(port, EVERYWHERE)`, and a `token` such as `secrets.token_urlsafe()`. Apps bring it as
    their API key; a browser is pointed at `address(listener) + "/?token=" + token`. Without a token the socket has to
    be on loopback: ValueError.
    """
    if token is None and not listener.getsockname()[0].startswith("127."):
        raise ValueError("other machines are served only with a token")
    faults, connections = Faults(), Connections()
    app = create_app(store, faults=faults, connections=connections, token=token)
    store.pruning.start()
    try:
        _Server(store, _config(app, connections)).run(sockets=[listener])
    finally:
        app.state.spans.close()


def listen(port: int, host: str = LOOPBACK) -> socket.socket:
    """A listening socket, on loopback by default: from now on connections wait instead of being refused.

    The protocol is named because asyncio switches Nagle's algorithm off only where it is; else answers take 40 ms.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
    except OSError:
        listener.close()
        raise
    return listener


def address(listener: socket.socket) -> str:
    """The URL that a listening socket is reached by; of one for other machines, by this machine's name."""
    host, port = listener.getsockname()
    return f"http://{socket.gethostname() if host == EVERYWHERE else host}:{port}"


def _config(app: object, connections: Connections) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type] # uvicorn's own ASGI types are narrower than Starlette's
        http=connections.protocol(),
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=1,
    )


class _Server(uvicorn.Server):
    """uvicorn waits for answers to end, which the streams of open pages never do."""

    def __init__(self, store: Store, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._store = store

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends the streams first."""
        self._store.changes.close()
        await super().shutdown(sockets)


class _ThreadedServer(uvicorn.Server):
    """uvicorn polls ten times a second whether to stop; this one is woken."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()

    @contextlib.contextmanager
    def running(self, listener: socket.socket) -> Iterator[None]:
        """Serve in a thread until the block ends; requests under way are dropped then."""
        thread = threading.Thread(target=self._run, args=(listener,), name="converra-local-server", daemon=True)
        thread.start()
        self._ready.wait()
        try:
            yield
        finally:
            assert self._loop is not None  # noqa: S101 - set before `_ready`
            self._loop.call_soon_threadsafe(self._stop.set)
            thread.join()

    def _run(self, listener: socket.socket) -> None:
        asyncio.run(self._serve([listener]))

    async def main_loop(self) -> None:
        """Serve until asked to stop; ticks keep the Date header right."""
        self._loop = asyncio.get_running_loop()
        self._ready.set()
        counter = 0
        while not self._stop.is_set():
            await self.on_tick(counter * 10)
            counter += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), _TICK_SECONDS)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002 - closed by `serve`
        """Drop what is open: a test is over when its block is. Requests learn of it, and have a moment to end."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=_LAST_SECONDS)
