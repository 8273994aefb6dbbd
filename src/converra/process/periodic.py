"""What the recorder wants done now and then, by a thread that exists anyway."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from converra.process.guard import guard

if TYPE_CHECKING:
    from collections.abc import Callable


class PeriodicTask:
    """Something to do every so many seconds, for as long as it is wanted."""

    def __init__(self, run: Callable[[], None], wanted: Callable[[], bool], every: float) -> None:
        self._run = run
        self._wanted = wanted
        self._every = every
        self._next = -math.inf

    def turn(self, now: float) -> float:
        """Do it if it is time; return the seconds until it is time again, infinity while it is not wanted."""
        if not self._wanted():
            return math.inf
        if now >= self._next:
            self._next = now + self._every
            with guard("tidying up"):
                self._run()
        return self._next - now


NO_TASK = PeriodicTask(lambda: None, lambda: False, math.inf)
