"""The lanes of a relay: their leases are taken, renewed, balanced with other relays, and given back.

A thread of its own does it: workers may all hang in requests for longer than a lease lasts.
"""

from __future__ import annotations

import math
import os
import random
import threading
import time
from typing import TYPE_CHECKING

from converra.delivery.fleet.engine import AwayError
from converra.process import waits
from converra.process.guard import guard, log_limited

if TYPE_CHECKING:
    from collections.abc import Callable

    from converra.delivery.fleet.engine import Engine

LEASE_SECONDS = 15.0
"""Least length of a lease. It is renewed three times as often."""

ROUND_SECONDS = 1.0
"""Seconds between two rounds."""

ATTEMPTS = 25.0
"""Rounds a second of all relays together, so that thousands of processes without a lane don't busy the engine."""

MISSED_ROUNDS = 8
"""Rounds without a sign of life after which a relay counts as dead."""

AWAY = "converra: the relay cannot reach the outbox of the fleet, and tries again: %s"


class Lane:
    """A lane that this process holds."""

    def __init__(self, number: int) -> None:
        self.number: int = number
        self.after: str | None = "0"
        """Id behind which entries are read again, as after an earlier holder; None: new ones are read."""
        self.full: bool = False
        """The last reading found as many entries as it asked for: there are probably more."""
        self.seen: set[str] = set()
        """Ids of the entries that were read and are not done."""
        self.outstanding: int = 0
        """Their number."""
        self.lost: bool = False
        """Another process has the lease."""
        self.leaving: bool = False
        """It is to be given back once no request of it is under way."""
        self.empty: bool = False
        """It is leaving, and no request of it is under way."""

    def read_again(self) -> None:
        """Read again what was read and is not done: an answer was lost."""
        self.after = "0"


class Lanes:
    """The lanes of one relay.

    Args:
        engine: The engine.
        chosen: Numbers of the lanes that it may hold; None for all.
        lease_seconds: Length of a lease.
        wanted: Reports whether lanes may be taken: not without an API key.

    """

    def __init__(self, engine: Engine, chosen: range | None, lease_seconds: float, wanted: Callable[[], bool]) -> None:
        self.token: str = os.urandom(8).hex()
        self._engine = engine
        self._chosen = chosen
        self._lease_seconds = lease_seconds
        self._wanted = wanted
        self._lanes: dict[int, Lane] = {}
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._renewed_at = 0.0
        self.reached_at: float = -math.inf
        """Monotonic time of the last round that reached the engine."""
        self.alive: int = 1
        """Relays that compete for the lanes."""

    def held(self) -> list[Lane]:
        """Return the lanes to read and send from."""
        return [lane for lane in list(self._lanes.values()) if not (lane.lost or lane.leaving)]

    def left(self, busy: set[int]) -> None:
        """Note that all lanes but the `busy` ones have no conversation in memory."""
        for lane in list(self._lanes.values()):
            lane.empty = (lane.leaving or lane.lost) and lane.number not in busy

    # -- the thread ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread unless it runs."""
        if self._thread is None:
            self._stop.clear()
            self._thread = threading.Thread(target=self._run, args=(os.getpid(),), name="converra lanes", daemon=True)
            self._thread.start()

    def leave_all(self, until: float) -> None:
        """End the thread, by a time of the monotonic clock, so that no more lanes are taken; leave those held."""
        self._stop.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            waits.thread(thread, until)
        for lane in list(self._lanes.values()):
            lane.leaving = True

    def stop(self) -> None:
        """Give back the lanes that are empty, after `leave_all`."""
        try:
            self._give_back()
            self._engine.leave("relays", self.token)
        except AwayError as error:
            log_limited("relay", AWAY, error)

    @property
    def is_empty(self) -> bool:
        """True if no lane has a request under way."""
        return all(lane.empty for lane in list(self._lanes.values()))

    def abandon(self) -> None:
        """Leave the lanes to the parent process, after a fork."""
        self._stop.set()
        self._lanes = {}

    def _run(self, pid: int) -> None:
        rest = 0.0
        while not self._stop.wait(rest) and os.getpid() == pid:
            rest = ROUND_SECONDS
            with guard("keeping lanes"):
                try:
                    rest = self._round()
                except AwayError as error:
                    if not error.inherited:
                        log_limited("relay", AWAY, error)

    def _round(self) -> float:
        """Renew, take and give back leases; return the seconds until the next round."""
        self._give_back()
        self._renew()
        if not self._wanted():
            return ROUND_SECONDS
        pace = max(ROUND_SECONDS, self.alive / ATTEMPTS)
        self.alive = max(1, self._engine.beat("relays", self.token, MISSED_ROUNDS * pace))
        self.reached_at = time.monotonic()
        lanes = list(self._chosen or range(self._engine.lanes()))
        share = math.ceil(len(lanes) / self.alive)
        held = self.held()
        if len(held) > share:
            for lane in held[share:]:
                lane.leaving = True
        elif len(held) < share and not self._stop.is_set():
            free = [number for number in lanes if number not in self._lanes]
            random.SystemRandom().shuffle(free)
            self._take(free, share - len(held))
        if self._lanes:
            return ROUND_SECONDS
        return max(ROUND_SECONDS, self.alive / ATTEMPTS)

    def _take(self, free: list[int], most: int) -> None:
        """Take up to `most` of the free lanes."""
        while free and most > 0:
            some, free = free[:most], free[most:]
            taken = self._engine.take(some, self.token, self._lease_seconds)
            for number in taken:
                self._lanes[number] = Lane(number)
            most -= len(taken)

    def _renew(self) -> None:
        now = time.monotonic()
        if now < self._renewed_at + self._lease_seconds / 3:
            return
        held = {lane.number: lane for lane in list(self._lanes.values()) if not lane.lost}
        for number in self._engine.renew(list(held), self.token, self._lease_seconds):
            held[number].lost = True
        self._renewed_at = now

    def _give_back(self) -> None:
        gone = [lane for lane in list(self._lanes.values()) if lane.empty]
        for lane in gone:
            del self._lanes[lane.number]
        self._engine.give_back([lane.number for lane in gone if not lane.lost], self.token)
