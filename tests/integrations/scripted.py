"""A model over real HTTP on loopback that answers what the path of a request asks for: the same every time."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.patience import LONG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Reply(NamedTuple):
    """An answer. `cut` drops the connection after the pieces; `hold` of them are sent, the rest waits."""

    pieces: tuple[bytes, ...]
    status: int = 200
    content_type: str = "application/json"
    cut: bool = False
    hold: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    sized: bool = False
    """The length is announced, and the body is not sent in chunks."""


class Received(NamedTuple):
    """A request as it came in."""

    line: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def document(value: Any, status: int = 200, **headers: str) -> Reply:
    """A whole JSON answer."""
    return Reply((json.dumps(value).encode(),), status, headers=tuple(headers.items()))


def stream(*events: Any, done: bool = True, cut: bool = False, hold: int | None = None, named: bool = False) -> Reply:
    """Server-sent events, one piece of the body each."""
    pieces = [
        (f"event: {event['type']}\n" if named else "").encode() + b"data: " + json.dumps(event).encode() + b"\n\n"
        for event in events
    ]
    ending = [b"data: [DONE]\n\n"] if done and not cut else []
    return Reply((*pieces, *ending), content_type="text/event-stream", cut=cut, hold=hold)


def always(reply: Reply) -> Callable[[Received], Reply]:
    """A script that answers every request alike."""
    return lambda _request: reply


class ScriptedModel:
    """Scripts by name; a client's base URL names one: `{url}/{name}/v1`. A script with several replies goes round."""

    def __init__(self, url: str, scripts: dict[str, Callable[[Received], Reply]]) -> None:
        self._url = url
        self.scripts = scripts
        self.received: list[Received] = []
        self.release = threading.Event()

    def base_url(self, name: str) -> str:
        return f"{self._url}/{name}/v1"

    def answer(self, request: Received) -> Reply:
        self.received.append(request)
        return self.scripts[request.line.split()[1].split("/")[1]](request)


@contextlib.contextmanager
def serve(scripts: dict[str, Callable[[Received], Reply]]) -> Iterator[ScriptedModel]:
    """A scripted model on a free port."""
    server = _Server(("127.0.0.1", 0), _Handler)
    model = ScriptedModel(f"http://127.0.0.1:{server.server_port}", scripts)
    server.model = model  # type: ignore[attr-defined]  # the handler finds it there
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield model
    finally:
        model.release.set()
        server.shutdown()
        server.hang_up()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing the server waits for the connections' threads

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End the connections that clients keep alive."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, *args: Any) -> None:
        """A client that has gone is what some scripts are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length", 0))
        request = Received(self.requestline, tuple(self.headers.items()), self.rfile.read(length))
        model: ScriptedModel = self.server.model  # type: ignore[attr-defined]  # set by serve()
        self._send(model, model.answer(request))

    do_GET = do_POST  # noqa: N815 - the name that the base class looks for

    def _send(self, model: ScriptedModel, reply: Reply) -> None:
        self.send_response(reply.status)
        self.send_header("content-type", reply.content_type)
        length = sum(map(len, reply.pieces))
        self.send_header(*(("content-length", str(length)) if reply.sized else ("transfer-encoding", "chunked")))
        for name, value in reply.headers:
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):  # the client may have gone, which is what some scripts are about
            for number, piece in enumerate(reply.pieces):
                if number == reply.hold:
                    model.release.wait(LONG)
                if piece:  # an empty chunk would be the end
                    self.wfile.write(piece if reply.sized else b"%x\r\n%b\r\n" % (len(piece), piece))
            if not (reply.cut or reply.sized):
                self.wfile.write(b"0\r\n\r\n")
        self.close_connection = reply.cut or self.close_connection

    def log_message(self, *args: Any) -> None:
        """Say nothing."""
