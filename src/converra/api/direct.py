"""The flusher's connection: HTTP/1.1 by the standard library, for a third of the CPU time of an HTTP client.

Delivery makes many small requests to one host, beside an app that wants the processor for itself. `http.client` does
what it needs: connections that are kept, TLS with the certificates that httpx would use, no redirects. It lacks the
deadline of a whole request, which is added here: before each read and write, the socket's timeout becomes what is left.
Where the environment names a proxy, delivery uses httpx instead.
"""

from __future__ import annotations

import http.client
import io
import os
import select
import socket
import time
import weakref
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode, urlsplit

from converra.api._httpx import library
from converra.api.answers import Body, answer_from
from converra.api.base_connection import BaseConnection, disconnect, in_words
from converra.api.deadline import Attempt
from converra.errors import APIConnectionError
from converra.process import lifecycle

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from converra.api.operations import Operation

T = TypeVar("T")

IDLE_SECONDS = 5.0
"""A connection that was idle for longer is not used again: the server may be about to close it."""

PIECE = 64 * 1024
"""Bytes that are written, or read, under one timeout of the socket."""

_ERRORS = 400
"""Lowest HTTP status of an error."""


class DirectConnection(BaseConnection):
    """Sends operations from one or many threads, once each: retrying is the caller's.

    It survives a fork: the child opens sockets of its own. A closed one opens again when it is used.
    """

    limit_headers: Mapping[str, str] | None = None
    """Headers of the latest answer that describe the rate limit. Their reader sets it to None again."""

    def __init__(self, api_key: str, base_url: str, timeout: float) -> None:
        super().__init__(api_key, base_url, timeout)
        self._url = urlsplit(self.base_url)
        self._is_secure = self._url.scheme == "https"
        self._context: ssl.SSLContext | None = None
        self._idle: list[_Channel] = []
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._pid = os.getpid()
        self._abandoned = False
        lifecycle.in_child(lifecycle.Phase.DELIVERY, self)

    def open(self) -> None:
        """Load the certificates that the first request needs, ahead of it; nothing is connected."""
        if self._is_secure and self._context is None:
            try:
                context: ssl.SSLContext = library().create_ssl_context()
            except (ImportError, OSError, ValueError) as error:
                reason = f"certificates of the environment cannot be used: {in_words(error)}"
                raise APIConnectionError(reason, sent=False) from error
            context.set_alpn_protocols(["http/1.1"])
            self._context = context

    def send(self, operation: Operation[T], *, timeout: float | None = None) -> T:
        """Send a request and read its answer, all within `timeout` seconds; raises the errors of `converra.errors`."""
        attempt = Attempt(self._seconds(operation, timeout))
        attempt.begun = False
        with self._sending(operation, attempt):
            if self._abandoned:
                raise ConnectionError("this connection belongs to the parent process")
            if self._pid != os.getpid():  # forked in C, which runs no hooks
                self.after_fork()
            if self._context is None and self._is_secure:
                self.open()
            idle = self._idle
            channel = self._kept() or _Channel(self._url, self._context, self._sockets)
            channel.attempt = attempt
            keep = False
            try:
                with closing(self._asked(channel, operation)) as response:
                    headers = {name.lower(): value for name, value in response.headers.items()}
                    body = Body(response.status, headers)
                    keep = _read(response, body, attempt) and not response.will_close
            finally:
                if keep and idle is self._idle:  # else it was closed, or forked, meanwhile
                    channel.idle_since = time.monotonic()
                    idle.append(channel)
                else:
                    channel.close()
        if any("ratelimit" in name for name in headers):
            self.limit_headers = headers
        return answer_from(operation, response.status, headers, body, url=f"{self.base_url}{operation.path}")

    def close(self) -> None:
        """Close the sockets."""
        idle, self._idle = self._idle, []
        for channel in idle:
            channel.close()

    def abandon(self) -> None:
        """Leave it to the parent process, after a fork: nothing can be sent any more."""
        self._abandoned = True
        self.after_fork()

    def after_fork(self) -> None:
        """Close the sockets of the parent process without a word to the server, and forget them."""
        disconnect(list(self._sockets))
        self._sockets = weakref.WeakSet()
        self._idle = []
        self._pid = os.getpid()

    @staticmethod
    def _failures() -> tuple[type[Exception], ...]:
        return (OSError, http.client.HTTPException, UnicodeError)

    def _kept(self) -> _Channel | None:
        """Take the connection that was used last, unless it has something to read: its end, or an answer to nothing."""
        while True:
            try:
                channel = self._idle.pop()
            except IndexError:  # another thread may have taken the last one
                return None
            if channel.sock is not None and time.monotonic() - channel.idle_since < IDLE_SECONDS:
                if hasattr(select, "poll"):  # `select` refuses high descriptors
                    poll = select.poll()
                    poll.register(channel.sock, select.POLLIN)
                    readable: list[Any] = poll.poll(0)
                else:
                    readable = select.select([channel.sock], [], [], 0)[0]
                if not readable:
                    return channel
            channel.close()

    def _asked(self, channel: _Channel, operation: Operation[Any]) -> http.client.HTTPResponse:
        """Send a request and read the head of its answer."""
        query = f"?{urlencode(operation.query)}" if operation.query else ""
        headers = {**operation.headers, **self._headers, "Authorization": self._authorization}
        if operation.body is not None:
            headers["Content-Type"] = "application/json"
        try:
            channel.request(operation.method, f"{self._url.path}{operation.path}{query}", operation.body, headers)
        except (BrokenPipeError, ConnectionResetError) as error:
            if not channel.attempt.begun:
                raise
            with suppress(OSError, http.client.HTTPException):  # a server may refuse a body before it has read all
                return channel.getresponse()
            raise error  # noqa: TRY201 - not the one that was suppressed
        return channel.getresponse()


def _read(response: http.client.HTTPResponse, body: Body, attempt: Attempt) -> bool:
    """Read a body, as far as it is needed; return True if the whole of it was read.

    The status of an error counts without its body.
    """
    try:
        while chunk := response.read1(PIECE):
            if not body.feed(chunk):
                return False
            attempt.left()
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
    except (OSError, http.client.HTTPException):
        if response.status < _ERRORS:
            raise
        return False
    return True


class _Channel(http.client.HTTPConnection):
    """One connection to the host, and the attempt that uses it."""

    attempt: Attempt
    idle_since: float = 0.0
    """By the monotonic clock."""

    def __init__(self, url: Any, context: ssl.SSLContext | None, sockets: weakref.WeakSet[socket.socket]) -> None:
        self.default_port: int = 443 if context else 80
        super().__init__(url.hostname, url.port or self.default_port)
        self._context = context
        self._sockets = sockets

    def connect(self) -> None:
        """Connect, and shake hands, within the attempt."""
        sock = socket.create_connection((self.host, self.port), self.attempt.left())
        self._sockets.add(sock)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        if self._context is not None:
            sock.settimeout(self.attempt.left())
            self.sock = self._context.wrap_socket(sock, server_hostname=self.host)
            self._sockets.add(self.sock)

    def send(self, data: Any) -> None:
        """Write some bytes, within the attempt."""
        if self.sock is None:
            self.connect()
        self.attempt.begun = True
        sock: Any = self.sock
        view = memoryview(data)
        for start in range(0, len(view), PIECE):
            sock.settimeout(self.attempt.left())
            sock.sendall(view[start : start + PIECE])

    def response_class(self, sock: socket.socket, *args: Any, **kwargs: Any) -> http.client.HTTPResponse:  # type: ignore[override]
        """Make the answer, whose reads are within the attempt."""
        return http.client.HTTPResponse(_BoundedReads(sock, self.attempt), *args, **kwargs)  # type: ignore[arg-type]


class _BoundedReads(io.RawIOBase):
    """Reads of a socket, each within an attempt."""

    def __init__(self, sock: socket.socket, attempt: Attempt) -> None:
        self._sock = sock
        self._attempt = attempt
        self._file: Any = sock.makefile("rb", buffering=0)  # keeps the descriptor open until it is closed itself

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return the file that an answer is read from: an answer asks its socket for nothing else."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._attempt.left())
        read: int | None = self._file.readinto(buffer)
        return read

    def close(self) -> None:
        self._file.close()
        super().close()
