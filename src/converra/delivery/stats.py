"""Statistics of a delivery: counters of recorded messages, and the log lines about lost ones."""

from __future__ import annotations

import logging
import threading
import time
from sys import modules
from typing import TYPE_CHECKING

import msgspec

from converra.process.guard import QUIET_SECONDS, caught
from converra.process.telemetry import METRICS, count

if TYPE_CHECKING:
    from converra.delivery.outbox import Outbox

logger: logging.Logger = logging.getLogger("converra")


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """Counters of captured messages: captured = pending + handed_over + delivered + rejected + dropped."""

    captured: int = 0
    """Recorded, less those that redaction or a shared session withheld."""
    pending: int = 0
    """Recorded, and neither delivered nor lost."""
    delivered: int = 0
    handed_over: int = 0
    """Stored by the Redis server of a fleet's outbox, from where a relay delivers them; 0 with any other outbox."""
    rejected: int = 0
    """Refused by the API as invalid, or not built because of a bug."""
    dropped: int = 0
    """Recorded while the outbox was full."""
    duplicated_risk: int = 0
    """Messages sent again although the API could not say whether it had stored them."""
    retries: int = 0
    """Requests that were sent again, or whose append was read back."""
    requests: int = 0
    bytes: int = 0
    """Bytes of request bodies that the API has accepted."""
    pending_bytes: int = 0
    """Bytes that wait in memory; bounded by `max_pending_bytes`."""
    last_error: str | None = None
    """The last error, with its host, and its status if there was an answer."""
    withheld: dict[str, int] = {}
    """Replacements by `converra.redaction` in this process, by kind."""
    failures: int = 0
    """Exceptions of converra itself that were held back from the app, in this process."""


class Counters:
    """Counters of the sending side. Only workers write, so no caller ever takes the lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.delivered: int = 0
        self.handed_over: int = 0
        self.readbacks: int = 0
        self.rejected: int = 0
        self.withheld: int = 0
        self.retries: int = 0
        self.requests: int = 0
        self.bytes: int = 0
        self.duplicated_risk: int = 0
        self.last_error: str | None = None
        self._captured = 0
        self._dropped = 0

    def add(self, **more: int) -> None:
        """Add to counters, by name; for OpenTelemetry as well."""
        with self._lock:
            for name, number in more.items():
                setattr(self, name, getattr(self, name) + number)
        if METRICS in modules:
            for name, number in more.items():
                count(name, number)

    def observe(self, captured: int, dropped: int) -> None:
        """Report the totals that callers have counted to OpenTelemetry, which would be too slow on their threads."""
        with self._lock:
            new_captured, new_dropped = captured - self._captured, dropped - self._dropped
            self._captured, self._dropped = captured, dropped
        if METRICS in modules:
            count("captured", new_captured)
            count("dropped", new_dropped)


def totals(counters: Counters, outbox: Outbox, *, jobs: int, sending: Counters | None = None) -> Stats:
    """Combine the counters of both sides; a job that is not assembled yet counts as one message.

    `sending`: counters of a relay in this process, which sends messages of the whole fleet. Its requests count, its
    messages do not.
    """
    sends = counters if sending is None else sending
    settled = counters.delivered + counters.handed_over + counters.rejected + outbox.dropped
    pending = max(0, outbox.captured - counters.withheld - settled) + jobs
    return Stats(
        captured=pending + settled,
        pending=pending,
        delivered=counters.delivered,
        handed_over=counters.handed_over,
        rejected=counters.rejected,
        dropped=outbox.dropped,
        duplicated_risk=sends.duplicated_risk,
        retries=sends.retries,
        requests=sends.requests,
        bytes=sends.bytes,
        pending_bytes=outbox.pending_bytes,
        last_error=counters.last_error or sends.last_error,
        failures=caught(),
    )


class Losses:
    """Logs lost messages: the first at once, later ones at most once a minute, and the total at exit.

    Not `log_limited`, which counts calls: this counts messages, and a worker logs the rest even if no more are lost.
    Called by workers and at exit, never on the app's own threads.
    """

    def __init__(self, outbox: Outbox, counters: Counters) -> None:
        self._outbox = outbox
        self._counters = counters
        self._logged = 0
        self._total = (0, 0, 0, 0)
        """The numbers that `total` logged last."""
        self._logged_at = -QUIET_SECONDS

    def log(self) -> None:
        """Log the messages dropped since the last time, unless that is less than `QUIET_SECONDS` ago."""
        dropped = self._outbox.dropped
        now = time.monotonic()
        if dropped == self._logged or now - self._logged_at < QUIET_SECONDS:
            return
        more, self._logged, self._logged_at = dropped - self._logged, dropped, now
        logger.warning(
            "converra: %d messages were dropped, %d in all: the outbox is full. Last error: %s",
            more,
            dropped,
            self._counters.last_error or "none",
        )

    def total(self, pending: int, owing: int = 0, *, kept: bool, keyless: bool = False) -> None:
        """Log at exit what was not delivered. If the outbox `kept` it in a file, the next process delivers it.

        An app without an API key has had its warning already, so `keyless` lowers the level to INFO. The exit hook of a
        server may run before that of the interpreter: the same total is logged once. `owing`: conversations of which
        only metadata waits.
        """
        total = pending, self._outbox.dropped, self._counters.rejected, owing
        if any(total) and total != self._total:
            self._total = total
            logger.log(
                logging.INFO if keyless else logging.WARNING,
                "converra: not delivered at exit: %d messages were still waiting%s%s, %d had been dropped, %d refused. "
                "Last error: %s",
                pending,
                f" and metadata of {owing} conversations" if owing else "",
                " and are kept in the outbox" if kept else "",
                *total[1:3],
                self._counters.last_error or "none",
            )
