"""What has become of the recorded messages, in numbers."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec

from converra.process.telemetry import count

if TYPE_CHECKING:
    from converra.delivery.outbox.memory import Outbox


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
