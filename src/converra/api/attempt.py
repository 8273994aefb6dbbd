"""One request under way: its deadline, and whether any of it may have reached the API.

An HTTP library bounds each read and write, not their sum, so a server that sends one byte a second holds a request
for ever. The hook is httpcore's `trace` request extension: it tells what happens, and hands out each new network
stream, whose reads and writes are then bounded by what is left of the whole. A transport that does not trace keeps its
own bounds. Name resolution is the operating system's and cannot be bounded from here.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_NEW_STREAM = ("connect_tcp.complete", "connect_unix_socket.complete", "start_tls.complete")
_FIRST_BYTE = "send_request_headers.started"


class Attempt:
    """The clock and the trace of one request."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._ends = time.monotonic() + seconds
        self._traced = False
        self._begun = False

    @property
    def unsent(self) -> bool:
        """True where it is certain that nothing of the request was sent."""
        return self._traced and not self._begun

    def left(self) -> float:
        """Seconds until the deadline; raises TimeoutError once it is over."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Hear from a transport that runs in this thread."""
        self._note(event)
        if event.endswith(_NEW_STREAM):
            stream = info["return_value"]
            stream.read = _bounded(stream.read)
            stream.write = _bounded(stream.write)

    async def async_trace(self, event: str, _info: Mapping[str, Any]) -> None:
        """Hear from a transport that runs in the event loop, where the loop keeps the deadline."""
        self._note(event)

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Bound every stream that the current thread uses meanwhile, pooled ones too."""
        _current.attempt = self
        try:
            yield
        finally:
            _current.attempt = None

    def _note(self, event: str) -> None:
        self._traced = True
        self._begun = self._begun or event.endswith(_FIRST_BYTE)


class _Current(threading.local):
    attempt: Attempt | None = None


_current = _Current()


def _bounded(transfer: Callable[..., Any]) -> Callable[..., Any]:
    def within(data: Any, timeout: float | None = None) -> Any:
        attempt = _current.attempt
        return transfer(data, timeout=attempt.left() if attempt else timeout)

    return within
