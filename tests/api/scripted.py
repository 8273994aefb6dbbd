"""A server on loopback that answers each request with the next line of a script, and keeps what it was asked."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.patience import LONG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Asked(NamedTuple):
    """A request as it arrived; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Line = "Callable[[Handler], None]"


def answer(body: Any = None, status: int = 200, **headers: str) -> Callable[[Handler], None]:
    """Answer with JSON, or with bytes as they are."""
    encoded = body if isinstance(body, bytes) else json.dumps(body).encode()

    def play(handler: Handler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(encoded)))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(encoded)

    return play


def reset(handler: Handler) -> None:
    """Drop the connection with a TCP reset instead of an answer."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    handler.connection.close()


def hang_up(handler: Handler) -> None:
    """Close the connection in an orderly way without an answer."""
    handler.close_connection = True


def hang(handler: Handler) -> None:
    """Say nothing until the test is over."""
    handler.server.over.wait(LONG)
    handler.close_connection = True


def cut(status: int = 200) -> Callable[[Handler], None]:
    """Promise a body and close in the middle of it."""

    def play(handler: Handler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        handler.wfile.write(b'{"id":')
        handler.close_connection = True

    return play


def drip(after: bytes, pause: float = 0.02) -> Callable[[Handler], None]:
    """Send the beginning at once, then a byte at a time until the test is over."""

    def play(handler: Handler) -> None:
        handler.close_connection = True
        with contextlib.suppress(OSError):
            handler.wfile.write(after)
            while not handler.server.over.wait(pause):
                handler.wfile.write(b"x")

    return play


class Handler(BaseHTTPRequestHandler):
    """Plays the script, over connections that are kept alive."""

    server: Scripted
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _play(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.asked.append(Asked(self.command, self.path, headers, body))
        self.server.times.append(time.monotonic())
        with self.server.turn:
            line = self.server.script.pop(0)
        line(self)

    do_GET = do_POST = _play  # noqa: N815 - the names that http.server asks for

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


class Scripted(ThreadingHTTPServer):
    """The server; `script` may be added to while it runs."""

    daemon_threads = True

    def __init__(self, script: list[Callable[[Handler], None]]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script = script
        self.asked: list[Asked] = []
        self.times: list[float] = []
        self.turn = threading.Lock()
        self.over = threading.Event()

    @property
    def base_url(self) -> str:
        """Where clients reach it."""
        return f"http://127.0.0.1:{self.server_address[1]}/api/v1"

    def handle_error(self, *_: object) -> None:
        """A client that goes away early is what some tests are about; a script that runs out shows in `asked`."""


@contextlib.contextmanager
def scripted(*script: Callable[[Handler], None]) -> Iterator[Scripted]:
    """A running server with a script; no thread of it is left afterwards."""
    with Scripted(list(script)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()


def refusing_url() -> str:
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}/api/v1"
