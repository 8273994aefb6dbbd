"""Says what was lost: at once the first time, then at most once a minute, and the total at the end."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from converra.delivery.outbox.memory import Outbox
    from converra.delivery.stats import Counters

logger = logging.getLogger("converra")

QUIET_SECONDS = 60.0


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
