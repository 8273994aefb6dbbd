"""The rate limit that all processes of a fleet keep to together, and the fair order of their lanes."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from converra.api import rate
from converra.delivery.fleet.engine import AwayError
from converra.delivery.worker.schedule import RateLimiter, Schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from converra.config import Config
    from converra.delivery.fleet.engine import Engine
    from converra.delivery.protocol.progress import Progress
    from converra.delivery.stats import Counters
    from converra.delivery.worker.schedule import Row

AWAY_SECONDS = 1.0
"""Seconds for which nothing is sent while the engine is away: the limit is unknown."""


class SharedRateLimiter(RateLimiter):
    """The limiter of one process, which also asks the engine for each request.

    Args:
        engine: The engine.
        config: The settings; the account is the digest of their API key, so that two fleets with one key share it.
        counters: They count the error of an engine that is away.
        limit: Requests a minute; 0 if only the API tells it.

    """

    def __init__(self, engine: Engine, config: Config, counters: Counters, limit: int) -> None:
        super().__init__()
        self._engine = engine
        self._config = config
        self._counters = counters
        self._limit = limit
        self._learnt = 0
        self._admitted_at = 0.0
        self.waits: int = 0
        """Requests that had to wait for the others."""

    @property
    def account(self) -> str:
        """Digest of the API key."""
        return account_of(self._config.api_key_now() or "")

    def admit(self) -> float:
        """Return the seconds until the limit leaves room for a request; take it if that is now."""
        now = time.monotonic()
        if now < self._admitted_at:
            return self._admitted_at - now
        try:
            wait = self._engine.admit(self.account, self._limit)
        except AwayError as error:
            self._counters.last_error = str(error)
            wait = AWAY_SECONDS
        if wait > 0:
            self.waits += 1
            self._admitted_at = now + wait
        return wait

    def spent(self, now: float, wait: float) -> None:
        """Note that the API accepts no request for `wait` seconds, for all processes."""
        super().spent(now, wait)
        self._tell(lambda: self._engine.block(self.account, wait))

    def note_headers(self, headers: Mapping[str, str], now: float, epoch: float) -> None:
        """Note what an answer says about the limit."""
        super().note_headers(headers, now, epoch)
        limit = rate.limit(headers)
        if limit and limit != self._learnt and not self._limit:
            self._learnt = limit
            self._tell(lambda: self._engine.learn(self.account, limit))

    def _tell(self, call: Callable[[], None]) -> None:
        try:
            call()
        except AwayError as error:
            self._counters.last_error = str(error)


def account_of(key: str) -> str:
    """Return the name of a key's account; the key cannot be found out from it."""
    return hashlib.sha256(key.encode()).hexdigest()[:16]


class FairSchedule(Schedule):
    """A schedule that is fair to lanes: ended conversations go first, and among equals each lane has its turn.

    The cost of a step does not grow with the number of lanes.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lanes: tuple[OrderedDict[int, list[Row]], ...] = (OrderedDict(), OrderedDict(), OrderedDict())
        """By class the lanes with due conversations, the next one first; of each lane a heap by rank."""

    def take(self, now: float) -> tuple[Progress | None, int]:
        """Remove the next due conversation, and let the other lanes go before its own; see `Schedule.take`."""
        progress, waiting = super().take(now)
        if progress is not None:
            lanes = next(lanes for lanes in self._lanes if lanes)
            lanes.move_to_end(next(iter(lanes)))
        return progress, waiting

    def _heap_of(self, progress: Progress) -> list[Row]:
        return self._lanes[_class(progress)].setdefault(progress.lane, [])

    def _first(self) -> Progress | None:
        for lanes in self._lanes:
            while lanes:
                lane, heap = next(iter(lanes.items()))
                self._skip_outdated(heap)
                if heap:
                    return heap[0][2]
                del lanes[lane]
        return None


def _class(progress: Progress) -> int:
    if not progress.ended:
        return 2
    return 1 if progress.state.id is None else 0
