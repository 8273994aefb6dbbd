"""The flusher's connection: HTTP/1.1 on a socket, for a tenth of the CPU time of an HTTP client.

Delivery makes many small requests to one host, beside an app that wants the processor for itself. So it does only what
that takes: connections that are kept, TLS with the certificates that httpx would use, no redirects, one deadline for a
whole request. Before each read and write, the socket's timeout becomes what is left of it. `http1` reads the answers.
Where the environment names a proxy, delivery uses httpx instead.
"""

from __future__ import annotations

import http.client
import os
import re
import select
import socket
import sys
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode, urlsplit

from converra.api import http1
from converra.api._httpx import library
from converra.api.answers import answer_from
from converra.api.base_connection import BaseConnection, disconnect, in_words
from converra.api.deadline import Attempt
from converra.errors import APIConnectionError
from converra.process import lifecycle

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping
    from urllib.parse import SplitResult

    from converra.api.operations import Operation

T = TypeVar("T")

IDLE_SECONDS = 5.0
"""A connection that was idle for longer is not used again: the server may be about to close it."""

PIECE = 64 * 1024
"""Bytes that are written under one timeout of the socket."""

_UNUSABLE = re.compile(rb"[\x00-\x20\x7f]")
"""Bytes that the target of a request cannot hold."""


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
        self._lines = _lines({"Host": self._url.netloc, **self._headers, "Authorization": self._authorization})
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
        attempt = Attempt(operation.seconds(timeout, self._timeout))
        attempt.begun = False
        handled = sys.exception()
        try:
            status, headers, body, _ = self._exchange(operation, attempt)
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            raise self._failure(error, operation, attempt, handled) from error
        for name in headers:
            if "ratelimit" in name:
                self.limit_headers = headers
                break
        return answer_from(operation, status, headers, body, url=f"{self.base_url}{operation.path}")

    def _exchange(self, operation: Operation[Any], attempt: Attempt) -> http1.Received:
        """Send a request over a kept connection or a new one, and read its answer."""
        if self._abandoned:
            raise ConnectionError("this connection belongs to the parent process")
        if self._pid != os.getpid():  # forked in C, which runs no hooks
            self.after_fork()
        if self._context is None and self._is_secure:
            self.open()
        message = self._message(operation)
        idle = self._idle
        channel = self._kept() or _Channel(self._url, self._context, self._sockets)
        channel.attempt = attempt
        keep = False
        try:
            received = channel.ask(message, operation)
            keep = received.keep
        finally:
            if keep and idle is self._idle:  # else it was closed, or forked, meanwhile
                channel.idle_since = time.monotonic()
                idle.append(channel)
            else:
                channel.close()
        return received

    def _message(self, operation: Operation[Any]) -> bytes:
        """Write a request as it goes over the network."""
        query = f"?{urlencode(operation.query)}" if operation.query else ""
        target = f"{self._url.path}{operation.path}{query}".encode("ascii")
        if _UNUSABLE.search(target):
            raise http.client.InvalidURL(f"URL can't contain control characters: {target!r}")
        lines = self._lines + _lines(operation.headers) if operation.headers else self._lines
        body = operation.body
        if body is not None:
            lines += b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
        elif operation.method != "GET":
            lines += b"Content-Length: 0\r\n"
        return b"%b %b HTTP/1.1\r\n%b\r\n%b" % (operation.method.encode("ascii"), target, lines, body or b"")

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


def _lines(headers: Mapping[str, str]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1")


class _Channel:
    """One connection to the host, and the attempt that uses it."""

    attempt: Attempt
    idle_since: float = 0.0
    """By the monotonic clock."""

    def __init__(
        self, url: SplitResult, context: ssl.SSLContext | None, sockets: weakref.WeakSet[socket.socket]
    ) -> None:
        self._host = url.hostname or ""
        self._port = url.port or (443 if context else 80)
        self._context = context
        self._sockets = sockets
        self.sock: socket.socket | None = None

    def ask(self, message: bytes, operation: Operation[Any]) -> http1.Received:
        """Send a request and read its answer, within the attempt."""
        if self.sock is None:
            self._connect()
        try:
            self._send(message)
        except (BrokenPipeError, ConnectionResetError) as error:
            with suppress(OSError, http.client.HTTPException):  # a server may refuse a body before it has read all
                return http1.receive(self._recv, operation.method, skimmed=operation.skims)
            raise error  # noqa: TRY201 - not the one that was suppressed
        return http1.receive(self._recv, operation.method, skimmed=operation.skims)

    def close(self) -> None:
        """Close the socket."""
        sock, self.sock = self.sock, None
        if sock is not None:
            sock.close()

    def _connect(self) -> None:
        """Connect, and shake hands."""
        sock = socket.create_connection((self._host, self._port), self.attempt.left())
        self._sockets.add(sock)
        self.sock = sock
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._context is not None:
            sock.settimeout(self.attempt.left())
            self.sock = self._context.wrap_socket(sock, server_hostname=self._host)
            self._sockets.add(self.sock)

    def _send(self, message: bytes) -> None:
        sock: Any = self.sock
        sock.settimeout(self.attempt.left())
        self.attempt.begun = True
        if len(message) <= PIECE:
            sock.sendall(message)
            return
        view = memoryview(message)
        for start in range(0, len(view), PIECE):
            sock.settimeout(self.attempt.left())
            sock.sendall(view[start : start + PIECE])

    def _recv(self, size: int) -> bytes:
        sock: Any = self.sock
        sock.settimeout(self.attempt.left())
        received: bytes = sock.recv(size)
        return received
