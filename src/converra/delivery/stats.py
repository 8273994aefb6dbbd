"""What has become of the recorded messages, in numbers."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

import msgspec

from converra.process.telemetry import count

if TYPE_CHECKING:
    from converra.delivery.outbox import Outbox

logger = logging.getLogger("converra")

QUIET_SECONDS = 60.0


class DeliveryStats(msgspec.Struct, frozen=True, kw_only=True):
    """captured = pending + delivered + rejected + dropped, in messages."""

    captured: int = 0
    """Came in, less those that redaction withheld."""
    pending: int = 0
    delivered: int = 0
    rejected: int = 0
    """Refused by the API as invalid, and set aside."""
    dropped: int = 0
    """Came when the outbox was full."""
    retries: int = 0
    """Requests that had to be sent again, or looked after."""
    requests: int = 0
    bytes: int = 0
    """Of request bodies that the API has accepted."""
    pending_bytes: int = 0
    """What waits, against `max_pending_bytes`."""
    duplicated_risk: int = 0
    """Sent again although the API could not say whether they were stored."""
    last_error: str | None = None
    """With the host, and the status where there was an answer."""


class Counters:
    """The numbers of the sending side. Callers never touch the lock: only workers write."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.delivered = 0
        self.rejected = 0
        self.withheld = 0
        self.retries = 0
        self.requests = 0
        self.bytes = 0
        self.duplicated_risk = 0
        self.last_error: str | None = None
        self._captured = 0
        self._dropped = 0

    def add(self, **more: int) -> None:
        """Count, for OpenTelemetry as well."""
        with self._lock:
            for name, number in more.items():
                setattr(self, name, getattr(self, name) + number)
        for name, number in more.items():
            count(name, number)

    def observe(self, captured: int, dropped: int) -> None:
        """Tell OpenTelemetry what callers have counted: on their own threads that would take too long."""
        with self._lock:
            news = captured - self._captured, dropped - self._dropped
            self._captured, self._dropped = captured, dropped
        count("captured", news[0])
        count("dropped", news[1])


def totals(counters: Counters, outbox: Outbox, *, jobs: int) -> DeliveryStats:
    """Sum up both sides; a job that is still to be assembled counts as one message."""
    captured = outbox.captured - counters.withheld
    gone = counters.delivered + counters.rejected + outbox.dropped
    return DeliveryStats(
        captured=captured,
        pending=max(0, captured - gone) + jobs,
        delivered=counters.delivered,
        rejected=counters.rejected,
        dropped=outbox.dropped,
        retries=counters.retries,
        requests=counters.requests,
        bytes=counters.bytes,
        pending_bytes=outbox.pending_bytes,
        duplicated_risk=counters.duplicated_risk,
        last_error=counters.last_error,
    )


class Losses:
    """Told by workers and at exit, never on the app's own threads."""

    def __init__(self, outbox: Outbox, counters: Counters) -> None:
        self._outbox = outbox
        self._counters = counters
        self._told = 0
        self._total = (0, 0, 0)
        """What `total` has said."""
        self._at = -QUIET_SECONDS

    def log(self) -> None:
        """Tell what was dropped since the last time, unless that was a moment ago."""
        dropped = self._outbox.dropped
        now = time.monotonic()
        if dropped == self._told or now - self._at < QUIET_SECONDS:
            return
        more, self._told, self._at = dropped - self._told, dropped, now
        logger.warning(
            "converra: %d messages were dropped, %d in all: the outbox is full. Last error: %s",
            more,
            dropped,
            self._counters.last_error or "none",
        )

    def total(self, pending: int, *, kept: bool, keyless: bool = False) -> None:
        """Tell at the end what did not arrive; where it is `kept` in a file, the next process delivers what waited.

        That nothing is sent without a key was told before, in the one warning that an app without one gets. A server
        that stops may come here before the interpreter does: the same total is logged once.
        """
        total = pending, self._outbox.dropped, self._counters.rejected
        if any(total) and total != self._total:
            self._total = total
            logger.log(
                logging.INFO if keyless else logging.WARNING,
                "converra: not delivered at exit: %d messages were still waiting%s, %d had been dropped, %d refused. "
                "Last error: %s",
                pending,
                " and are kept in the outbox" if kept else "",
                *total[1:],
                self._counters.last_error or "none",
            )
