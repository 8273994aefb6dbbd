"""Whether a worker has to be woken to see what is new: that costs a caller more than what it records."""

from __future__ import annotations

LIVELY = 0.5
"""For so many seconds after something came, a worker looks every moment."""

MOMENT = 0.01
"""Seconds until then."""


class WakeHint:
    """Told by workers, asked by callers, without a lock: a worker says that it rests before it looks a last time."""

    def __init__(self) -> None:
        self.parked = False
        """All workers rest until they are woken."""
        self.watchful = False
        """A worker looks again in a moment: nobody needs to wake it."""
        self._lively_until = 0.0

    def polls_at(self, now: float, *, news: bool) -> None:
        """A worker looks around, at a time of the monotonic clock, and finds something new or not."""
        self.watchful = False
        if news:
            self._lively_until = now + LIVELY

    def rests(self, now: float, seconds: float) -> float:
        """A worker has nothing to do for so many seconds; say how long it shall rest."""
        self.watchful = now < self._lively_until
        return min(seconds, MOMENT) if self.watchful else seconds
