"""The time of the next request: of each conversation, and of all together. Pure.

The schedule orders conversations by due time, and by rank once they are due. The rate limiter holds all of them back,
by the rate limit of the API key and the health of the API:

=======================================  ===========================================================================
the API                                  then
=======================================  ===========================================================================
says that the rate limit is used up      all conversations wait until it is renewed
refuses a request (429)                  all wait as long as it asks; afterwards requests keep a distance, which each
                                         further 429 doubles and each success shortens
fails for `OUTAGE_AFTER` conversations   an outage: one request at a time, until one succeeds
refuses the key (401, 403)               one probe, after a time that doubles
=======================================  ===========================================================================

Requests are scarce, so that conversations are sent in as few of them as possible, in two cases:

1. For `SCARCE_FOR` seconds after a rate limit was used up.
2. As long as more conversations wait than the limit has requests for, `REQUESTS_EACH` for each. Headers tell what is
   left of the limit. Where they do not, it is taken to be `SMALLEST_LIMIT`: the first refusal would come too late.
"""

from __future__ import annotations

import heapq
import itertools
from typing import TYPE_CHECKING

from converra.api import rate, retry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from converra.delivery.protocol.progress import Progress


Row = tuple[float, int, "Progress"]
"""A due time or a rank, the number of the row, and its conversation."""


class Schedule:
    """Two heaps, one by due time and one by rank. Only the latest row of a conversation counts; others are skipped."""

    def __init__(self) -> None:
        self._later: list[Row] = []
        self._due: list[Row] = []
        self._current: dict[Progress, tuple[int, float, float]] = {}
        self._ready: set[Progress] = set()
        """Conversations whose latest row is in the heap by rank."""
        self._numbers = itertools.count()

    @property
    def planned(self) -> list[Progress]:
        """All conversations that have a next request."""
        return list(self._current)

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

    def take(self, now: float) -> tuple[Progress | None, int]:
        """Remove the due conversation of the lowest rank.

        Returns:
            The conversation, or None if none is due; and the number of the others that are due.

        """
        progress = self.peek(now)
        if progress is None:
            return None, 0
        self.drop(progress)  # its row is outdated now, and skipped
        return progress, len(self._ready)

    def peek(self, now: float) -> Progress | None:
        """Return the due conversation of the lowest rank, or None if none is due."""
        while self._later and self._later[0][0] <= now:
            _, number, progress = heapq.heappop(self._later)
            if self._is_current(progress, number):
                heapq.heappush(self._heap_of(progress), (self._current[progress][2], number, progress))
                self._ready.add(progress)
        return self._first()

    def next_at(self) -> float | None:
        """Return when the next conversation is due: 0 if one is due now, None if none is planned."""
        if self._first() is not None:
            return 0.0
        self._skip_outdated(self._later)
        return self._later[0][0] if self._later else None

    def _heap_of(self, progress: Progress) -> list[Row]:  # noqa: ARG002 - a fleet has several
        """Return the heap that a conversation is put into once it is due."""
        return self._due

    def _first(self) -> Progress | None:
        """Return the due conversation that is next, after those that are planned anew or dropped are removed."""
        self._skip_outdated(self._due)
        return self._due[0][2] if self._due else None

    def _skip_outdated(self, heap: list[Row]) -> None:
        while heap and not self._is_current(heap[0][2], heap[0][1]):
            heapq.heappop(heap)

    def _is_current(self, progress: Progress, number: int) -> bool:
        return self._current.get(progress, _NOT_PLANNED)[0] == number


_NOT_PLANNED = (-1, 0.0, 0.0)


FIRST_DISTANCE = 0.1
"""Seconds between requests after the first 429."""

LONGEST_DISTANCE = 2.0
"""Most seconds between requests."""

RELAXING = 0.95
"""Factor of the distance after a success. With a smaller one, every fifth request would be refused."""

SCARCE_FOR = 60.0
"""Seconds for which requests stay scarce after the rate limit's wait: its window is a minute."""

WINDOW = 60.0
"""Seconds for which a number of requests left holds, if the API does not tell when it is renewed."""

SMALLEST_LIMIT = 60
"""Requests a minute of the public service's smallest plan, for the whole API key."""

REQUESTS_EACH = 2
"""Requests for a conversation that is not sent whole: a create, and an append that completes it."""

OUTAGE_AFTER = 3
"""Conversations that fail in a row until it counts as an outage of the API."""

FIRST_PROBE = 15.0
"""Seconds until a refused key is tried again; doubled each time, up to `SLOWEST_PROBE`."""

SLOWEST_PROBE = 300.0


class RateLimiter:
    """Shared by all conversations of a delivery. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self.distance: float = 0.0
        self.refused_key: bool = False
        self._not_before = 0.0
        self._scarce_until = 0.0
        self._left = 0
        """Requests that the API said were left, until `_left_until`."""
        self._left_until = 0.0
        self._outage_until = 0.0
        self.last: float = 0.0
        """When a request was sent last."""
        self._probe = FIRST_PROBE
        self._failing: set[Progress] = set()

    @property
    def is_outage(self) -> bool:
        """Return True if the API as a whole seems to be down."""
        return len(self._failing) >= OUTAGE_AFTER

    def ready_at(self, in_flight: int) -> float | None:
        """Return when the next request may be sent; None if one of the `in_flight` requests must be answered first."""
        if in_flight and (self.is_outage or self.refused_key):
            return None
        return max(self._not_before, self._outage_until, self.last + self.distance)

    def admit(self) -> float:
        """Return the seconds until other processes that share the rate limit leave room for a request; here 0."""
        return 0.0

    def is_ready(self, now: float, in_flight: int) -> bool:
        """Return True if a request may be sent now."""
        ready = self.ready_at(in_flight)
        return ready is not None and ready <= now

    def scarce(self, now: float, waiting: int) -> bool:
        """Return True if the rate limit decides how many of the `waiting` conversations can be sent."""
        left = self._left if now < self._left_until else SMALLEST_LIMIT
        return self.distance > 0 or now < self._scarce_until or waiting * REQUESTS_EACH > left

    def answered(self) -> None:
        """Note an answer: a success, or a refusal that is not about rate limit or key."""
        self.distance = self.distance * RELAXING if self.distance > FIRST_DISTANCE / 4 else 0.0
        self.refused_key = False
        self._probe = FIRST_PROBE
        self._failing.clear()
        self._outage_until = 0.0

    def failed(self, progress: Progress, now: float, delay: float) -> None:
        """Note that the API failed or could not be reached; in an outage all wait for `delay` seconds."""
        self._failing.add(progress)
        if self.is_outage:
            self._outage_until = max(self._outage_until, now + delay)

    def limited(self, now: float, wait: float) -> None:
        """Note a 429: all wait for `wait` seconds, and keep more distance afterwards."""
        self.spent(now, wait)
        self.distance = min(LONGEST_DISTANCE, max(FIRST_DISTANCE, self.distance * 2))

    def spent(self, now: float, wait: float) -> None:
        """Note that the API accepts no request for `wait` seconds."""
        self._not_before = max(self._not_before, now + wait)
        self._scarce_until = self._not_before + SCARCE_FOR

    def note_headers(self, headers: Mapping[str, str], now: float, epoch: float) -> None:
        """Note what an answer says about the limit; `epoch` is `now` in seconds since the epoch."""
        left, resets_in = rate.left(headers), rate.resets_in(headers, epoch)
        if left is not None:
            self.note_left(now, left, None if resets_in is None else min(resets_in, retry.MAX_RETRY_AFTER))

    def note_left(self, now: float, left: int, resets_in: float | None) -> None:
        """Note that `left` requests are allowed for the next `resets_in` seconds (None: the API does not tell)."""
        self._left, self._left_until = left, now + (WINDOW if resets_in is None else resets_in)
        if left == 0 and resets_in is not None:
            self.spent(now, resets_in)

    def refuse_key(self, now: float) -> None:
        """Note that the API refused the key: wait for the next probe."""
        self.refused_key = True
        self._not_before = now + self._probe
        self._probe = min(SLOWEST_PROBE, self._probe * 2)

    def retry_key(self) -> None:
        """Allow a probe at once, for a flush."""
        if self.refused_key or self.is_outage:
            self._not_before = self._outage_until = 0.0

    def forget(self, progress: Progress) -> None:
        """Forget a conversation that is over."""
        self._failing.discard(progress)
