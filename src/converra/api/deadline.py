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
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from weakref import WeakSet

GRACE = 0.05
"""Seconds by which a loop's own timeout is later than the transport's."""

CONNECT_GRACE = 1.0
"""As `GRACE`, while nothing was sent."""

_NEW_STREAM = ("connect_tcp.complete", "connect_unix_socket.complete", "start_tls.complete")


_FORKED = "the process was forked during the request, which belongs to its parent"
"""Stops a green thread that a fork has copied: the answer is the parent's, too."""


class Attempt:
    """The clock of one request, and the hook that makes a sync transport keep to it.

    Args:
        seconds: All that it may take.
        streams: Gets each network stream that the transport opens; None for a transport that is the user's.
        silent: The HTTP library logs nothing about it.

    """

    begun: bool | None = None
    """True once the transport began to send the request; None while that is unknown."""

    def __init__(self, seconds: float, streams: WeakSet[Any] | None = None, *, silent: bool = False) -> None:
        self.seconds: float = seconds
        self.silent: bool = silent
        self._streams = streams  # not the connection: a request must not keep it alive
        self._ends = time.monotonic() + seconds
        self._pid = os.getpid()

    def left(self) -> float:
        """Seconds until the deadline; raises TimeoutError once it is over, and OSError in a forked child."""
        if os.getpid() != self._pid:
            raise ConnectionError(_FORKED)
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Handle an event of the transport: bound each stream that it opens."""
        if os.getpid() != self._pid:
            raise ConnectionError(_FORKED)
        if event.endswith(_NEW_STREAM):
            stream = info["return_value"]
            stream.read = _bounded(stream.read)
            stream.write = _bounded(stream.write)
            if self._streams is not None:
                self._streams.add(stream)


under_way: ContextVar[Attempt | None] = ContextVar("converra_request", default=None)
"""The request that this thread, task or greenlet sends: it bounds every stream in use meanwhile, pooled ones too."""


def _bounded(transfer: Callable[..., Any]) -> Callable[..., Any]:
    def within(data: Any, timeout: float | None = None) -> Any:
        attempt = under_way.get()
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
