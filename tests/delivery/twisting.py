"""A gateway before the local server: it passes requests on, and may give another answer than the server's."""

from __future__ import annotations

import contextlib
import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Reply = tuple[int, Mapping[str, str], bytes]
    Twist = Callable[[str, str, Callable[[], Reply]], Reply]
    """From method, path, and what asks the server, to what is answered."""


class Gateway(ThreadingHTTPServer):
    """Where the requests went is in `asked`, with the key that each brought."""

    daemon_threads = True

    def __init__(self, url: str, twist: Twist) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = urlsplit(url).netloc
        self.twist = twist
        self.asked: list[tuple[str, str]] = []

    @property
    def base_url(self) -> str:
        """As `CONVERRA_BASE_URL` wants it."""
        return f"http://127.0.0.1:{self.server_address[1]}/api/v1"

    def handle_error(self, *_: Any) -> None:
        """A client that does not read to the end is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: Gateway
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _play(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.command, self.headers.get("Authorization", "")))

        def ask() -> Reply:
            with contextlib.closing(http.client.HTTPConnection(self.server.behind)) as connection:
                headers = {name: self.headers[name] for name in ("Authorization", "Content-Type") if self.headers[name]}
                connection.request(self.command, self.path, body, headers)
                answer = connection.getresponse()
                return answer.status, {"Content-Type": "application/json"}, answer.read()

        status, headers, told = self.server.twist(self.command, self.path, ask)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    do_GET = do_POST = _play  # noqa: N815 - the names that http.server asks for

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@contextlib.contextmanager
def gateway(url: str, twist: Twist) -> Iterator[Gateway]:
    """One that runs."""
    with Gateway(url, twist) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
