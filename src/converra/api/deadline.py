"""One request under way and its deadline.

An HTTP library bounds each read and write, not their sum, so a server that sends one byte a second holds a request
for ever. The hook is httpcore's `trace` request extension: it hands out each new network stream, whose reads and writes
are then bounded by what is left of the whole. A transport that does not trace keeps its own bounds. Name resolution is
the operating system's and cannot be bounded from here.

The async request has a timeout of its own: a loop can cancel a request, whatever its transport waits for. But the
transport's timeouts should come first: it knows what it was waiting for, and closes what it has opened. So the loop's
are later, and later still while nothing was sent, since a busy loop is late.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

GRACE = 0.05
"""Seconds by which a loop's own timeout is later than the transport's."""

CONNECT_GRACE = 1.0
"""As `GRACE`, while nothing was sent."""

NEW_STREAM = ("connect_tcp.complete", "connect_unix_socket.complete", "start_tls.complete")


class Attempt:
    """The clock of one request, and the hook that makes a sync transport keep to it."""

    begun: bool | None = None
    """True once the transport began to send the request; None while that is unknown."""

    def __init__(self, seconds: float) -> None:
        self.seconds: float = seconds
        self._ends = time.monotonic() + seconds
        self._pid = os.getpid()

    def left(self) -> float:
        """Seconds until the deadline; raises TimeoutError once it is over, and OSError in a forked child."""
        self._stay_in_process()
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Handle an event of the transport: bound each stream that it opens."""
        self._stay_in_process()
        if event.endswith(NEW_STREAM):
            stream = info["return_value"]
            stream.read = _bounded(stream.read)
            stream.write = _bounded(stream.write)

    def _stay_in_process(self) -> None:
        """Stop a green thread that a fork has copied: its request is the parent's, and so is the answer."""
        if os.getpid() != self._pid:
            raise ConnectionError("the process was forked during the request, which belongs to its parent")

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Bound every stream that the current thread uses meanwhile, pooled ones too."""
        _current.attempt = self
        try:
            yield
        finally:
            _current.attempt = None


class _Current(threading.local):
    attempt: Attempt | None = None


_current = _Current()


def _bounded(transfer: Callable[..., Any]) -> Callable[..., Any]:
    def within(data: Any, timeout: float | None = None) -> Any:
        attempt = _current.attempt
        return transfer(data, timeout=attempt.left() if attempt else timeout)

    return within


class AsyncAttempt(Attempt):
    """The clock of one request of an event loop."""

    _limit: asyncio.Timeout | None = None

    def limit(self) -> asyncio.Timeout:
        """Make the loop's own timeout until the headers of the answer."""
        self._limit = asyncio.timeout(self.left() + CONNECT_GRACE)
        return self._limit

    async def hear(self, event: str, _info: Mapping[str, Any]) -> None:
        """Handle an event of the transport; tighten the timeout once the request is sent."""
        if event.endswith("send_request_headers.started"):
            self.begun = True
            if self._limit is not None:
                self._limit.reschedule(asyncio.get_running_loop().time() + self._ends - time.monotonic() + GRACE)
        elif self.begun is None:
            self.begun = False
