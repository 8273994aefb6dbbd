"""The schedule: conversations by due time, and by rank once they are due. Pure."""

from __future__ import annotations

import heapq
import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converra.delivery.protocol.progress import Progress

_Row = tuple[float, int, "Progress"]


class Schedule:
    """Two heaps, one by due time and one by rank. Only the latest row of a conversation counts; others are skipped."""

    def __init__(self) -> None:
        self._later: list[_Row] = []
        self._due: list[_Row] = []
        self._current: dict[Progress, tuple[int, float, float]] = {}
        self._ready: set[Progress] = set()
        """Conversations whose latest row is in the heap by rank."""
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._current)

    def __iter__(self) -> Iterator[Progress]:
        return iter(self._current)

    def put(self, progress: Progress, due: float, rank: float) -> None:
        """Plan the next request of a conversation at `due`, in place of an earlier plan. The lowest rank goes first."""
        planned = self._current.get(progress)
        if planned is not None and planned[1:] == (due, rank):
            return
        number = next(self._numbers)
        self._current[progress] = (number, due, rank)
        self._ready.discard(progress)
        heapq.heappush(self._later, (due, number, progress))

    def drop(self, progress: Progress) -> None:
        """Remove a conversation."""
        self._current.pop(progress, None)
        self._ready.discard(progress)

    def take(self, now: float) -> Progress | None:
        """Remove and return the due conversation of the lowest rank; None if none is due."""
        self._promote(now)
        while self._due:
            _, number, progress = heapq.heappop(self._due)
            if self._is_current(progress, number):
                self.drop(progress)
                return progress
        return None

    def next_at(self) -> float | None:
        """Return when the next conversation is due: 0 if one is due now, None if none is planned."""
        for heap in (self._due, self._later):
            while heap and not self._is_current(heap[0][2], heap[0][1]):
                heapq.heappop(heap)
        if self._due:
            return 0.0
        return self._later[0][0] if self._later else None

    def count_due(self, now: float) -> int:
        """Return the number of conversations that are due."""
        self._promote(now)
        return len(self._ready)

    def _promote(self, now: float) -> None:
        while self._later and self._later[0][0] <= now:
            _, number, progress = heapq.heappop(self._later)
            if self._is_current(progress, number):
                heapq.heappush(self._due, (self._current[progress][2], number, progress))
                self._ready.add(progress)

    def _is_current(self, progress: Progress, number: int) -> bool:
        return self._current.get(progress, _NOT_PLANNED)[0] == number


_NOT_PLANNED = (-1, 0.0, 0.0)
