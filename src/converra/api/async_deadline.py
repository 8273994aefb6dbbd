"""One request of an event loop under way, and its deadline.

A loop can cancel a request, whatever its transport waits for. But the transport's own timeouts should come first: it
knows what it was waiting for, and closes what it has opened. So the loop's are later, by more while nothing was sent:
a busy loop is late. The hook of `converra.api.deadline` tells when a request is begun.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from converra.api.deadline import Attempt

if TYPE_CHECKING:
    from collections.abc import Mapping

GRACE = 0.05
"""Seconds by which a loop's own timeout is later than the transport's."""

CONNECT_GRACE = 1.0
"""As `GRACE`, while nothing was sent."""


class AsyncAttempt(Attempt):
    """The clock of one request of an event loop."""

    _limit: asyncio.Timeout | None = None

    def limit(self) -> asyncio.Timeout:
        """Make the loop's own timeout until the headers of the answer."""
        self._limit = asyncio.timeout(self.left() + CONNECT_GRACE)
        return self._limit

    async def hear(self, event: str, _info: Mapping[str, Any]) -> None:
        """Take an event of the transport; keep closely to the deadline from when the request is sent."""
        if event.endswith("send_request_headers.started"):
            self.begun = True
            if self._limit is not None:
                self._limit.reschedule(asyncio.get_running_loop().time() + self._ends - time.monotonic() + GRACE)
        elif self.begun is None:
            self.begun = False
