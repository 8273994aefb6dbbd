"""The shipper: hands the messages of this process over to the engine of a fleet, in batches, on a worker.

A thread of the app only appends to the queues of commands and jobs, as with the outbox in memory. Messages take this
way, in order within each conversation:

===========  ========================================  ===========================================================
place        until                                     bounded by
===========  ========================================  ===========================================================
memory       the engine has them, or the spill file    `max_pending_bytes`: past it new turns are dropped, counted
spill file   the engine is back; memory waits behind   the disk
engine       a relay has delivered them                its memory: a full engine counts as away
===========  ========================================  ===========================================================

A batch whose answer is lost is handed over again. Its entries have the same numbers, by which relays skip them.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from converra.delivery.fleet import spill
from converra.delivery.fleet.engine import AwayError, Parcels
from converra.delivery.fleet.lookups import Lookups
from converra.delivery.fleet.packing import Packer, Parcel
from converra.delivery.worker.loop import POLL_INTERVAL, Mode, WorkLoop
from converra.process import waits
from converra.process.guard import guard, log_limited
from converra.process.jobs import RETRY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from converra.delivery.conversation_queue import ConversationQueue, FlushRequest
    from converra.delivery.fleet.engine import Engine
    from converra.delivery.fleet.relay import Relay
    from converra.delivery.outbox.memory import MemoryOutbox
    from converra.delivery.protocol.progress import Progress
    from converra.delivery.stats import Counters, Losses
    from converra.delivery.worker.transport import Connection
    from converra.process.jobs import JobQueue, PeriodicTask, PeriodicTasks

BEAT_SECONDS = 15.0
"""Seconds between two signs of life."""

DEAD_AFTER = 60.0
"""Seconds without a sign of life after which a process counts as dead."""

FIRST_RETRY, LAST_RETRY = 0.1, 2.0
"""Seconds until the engine is tried again; doubled each time."""

BATCH_ENTRIES, BATCH_BYTES = 500, 1024 * 1024
"""Most entries and bytes of one hand-over."""

AWAY = "converra: the outbox of the fleet cannot be used; messages wait in %s and are handed over later: %s"
NOT_SPILLED = "converra: the spill file %s cannot be used; messages wait in memory meanwhile: %s"


class Shipper(WorkLoop):
    """One per delivery with a fleet's outbox, in the place of a flusher. `relay` sends inline, if it is given."""

    def __init__(
        self,
        engine: Engine,
        outbox: MemoryOutbox,
        counters: Counters,
        losses: Losses,
        *,
        mode: Mode,
        periodic_task: PeriodicTask | PeriodicTasks | None,
        jobs: JobQueue,
        spill_path: str | None,
        relay: Relay | None,
    ) -> None:
        super().__init__(outbox, counters, losses, mode=mode, periodic_task=periodic_task, jobs=jobs)
        self._engine = engine
        self._memory = outbox
        self.relay: Relay | None = relay
        self._lock = threading.Lock()
        self._lookups = Lookups(engine)
        self._packer = Packer(outbox, counters, self._put, self._lookups.add)
        self.producer: str = self._packer.producer
        self._lanes = 0
        self._early: deque[Parcel] = deque()
        """Entries from before the number of lanes is known."""
        self._parcels: dict[int, deque[Parcel]] = {}
        self._spill_path = spill_path
        self._spill = None if spill_path is None else spill.Spill(spill_path)
        self._requests: list[FlushRequest] = []
        self._retry_at = 0.0
        self._retry = FIRST_RETRY
        self._beat_at = -math.inf
        self._adopt_at = -math.inf

    # -- callers -------------------------------------------------------------------------------------------------------

    @property
    def sending(self) -> Counters | None:
        """Counters of the relay."""
        return None if self.relay is None else self.relay.counters

    def delivered(self, until: float) -> bool:
        """Wait until the API has all that this process has handed over, at most until a time of the monotonic clock.

        Then the app's conversations know their ids.
        """
        while True:
            try:
                if not self._engine.waiting(range(self._engine.lanes()), self.producer):
                    self._lookups.find_all()
                    return True
            except AwayError as error:
                self._counters.last_error = str(error)
            if time.monotonic() >= until:
                return False
            time.sleep(min(0.05, max(0.0, until - time.monotonic())))

    def look_up(self, queue: ConversationQueue) -> None:
        """Have a worker ask the engine for the id of a conversation; the caller waits for nothing."""
        if self._lookups.want(queue):
            self.wake()

    def close(self, timeout: float, *, idle: bool) -> None:
        """Stop the relay as well, and give its lanes back."""
        until = time.monotonic() + timeout
        if self.relay is not None:
            self.relay.stop(max(0.0, timeout))
        super().close(max(0.0, until - time.monotonic()), idle=idle)

    def abandon(self) -> None:
        """Leave everything to the parent process after a fork."""
        self.workers.abandon()
        self.commands.clear()
        self._engine.abandon()
        if self.relay is not None:
            self.relay.abandon()

    def leave(self, until: float) -> None:
        """Give lanes back, and keep in the spill file what was not handed over: the process ends."""
        if self.relay is not None:
            self.relay.stop(max(0.0, until - time.monotonic()))
        if waits.lock(self._lock, max(0.05, until - time.monotonic())):
            try:
                with guard("leaving the fleet"):
                    self._requests += self._packer.pack(self.commands)
                    self._spill_all()
                    self._sign_off()
            finally:
                self._lock.release()

    def _sign_off(self) -> None:
        if self._beat_at > -math.inf and time.monotonic() >= self._retry_at:
            self._beat_at = -math.inf
            try:
                self._engine.leave("producers", self.producer)
            except AwayError as error:
                self._counters.last_error = str(error)

    # -- workers -------------------------------------------------------------------------------------------------------

    def _serve(self, progress: Progress, connection: Connection) -> None:
        raise AssertionError(progress, connection)  # its relay has a flusher for that

    def _next(self) -> float:
        """Hand over what waits; return the seconds for which there is nothing to do."""
        now = time.monotonic()
        if self.relay is not None and self.mode < Mode.CALLER_SENDS and not self.workers.stopping:
            self.relay.start()
        self._requests += self._packer.pack(self.commands)
        if now >= self._retry_at:
            try:
                self._choose_lanes()
                self._hand_over()
                self._beat(now)
                self._lookups.look(now)
                self._retry = FIRST_RETRY
            except AwayError as error:
                self._away(error)
        if self._retry_at > now:
            self._spill_all()
        if self._waits:
            return min(max(0.0, self._retry_at - time.monotonic()), POLL_INTERVAL)
        for request in self._requests:
            request.finish(complete=True)
        self._requests = []
        return self._park(now)

    def _park(self, now: float) -> float:
        """Rest until woken. The hint is set before the last look, so that no command is missed."""
        self.wake_hint.parked = True
        if self.commands:
            return 0.0
        if self._jobs:
            return RETRY_SECONDS
        beat_in = max(0.0, self._beat_at + BEAT_SECONDS - now) if self._beat_at > -math.inf else math.inf
        return max(min(beat_in, self._lookups.rest(now)), self._retry_at - now)

    @property
    def _waits(self) -> bool:
        return bool(self._parcels or self._early or (self._spill is not None and self._spill.size))

    def _away(self, error: AwayError) -> None:
        self._counters.last_error = str(error)
        self._counters.add(retries=1)
        if error.inherited:
            self._spill = None  # the parent has it all
            return
        log_limited("fleet", AWAY, self._spill_path or "memory", error)
        self._retry_at = time.monotonic() + self._retry
        self._retry = min(LAST_RETRY, self._retry * 2)

    def _beat(self, now: float) -> None:
        if self._packer.number and now >= self._beat_at + BEAT_SECONDS:
            self._engine.beat("producers", self.producer, DEAD_AFTER)
            self._beat_at = now

    # -- the way to the engine -----------------------------------------------------------------------------------------

    def _put(self, parcel: Parcel) -> None:
        if self._lanes:
            self._parcels.setdefault(parcel.place % self._lanes, deque()).append(parcel)
        else:
            self._early.append(parcel)

    def _choose_lanes(self) -> None:
        """Distribute what came before the number of lanes was known. Raises AwayError."""
        if not self._lanes and (self._early or self._spill is not None):
            self._lanes = self._engine.lanes()
        while self._early and self._lanes:
            self._put(self._early.popleft())

    def _hand_over(self) -> None:
        """Hand over the spill file first, then what waits in memory. Raises AwayError."""
        self._empty_spill()
        while self._parcels:
            batch = _batch(self._parcels)
            sent = [Parcels(lane, self.producer, [parcel.body for parcel in some]) for lane, some in batch.items()]
            failure: AwayError | None = None
            for parcels, error in zip(sent, self._engine.hand_over(sent), strict=True):
                if error is None:
                    self._drop(self._parcels[parcels.lane], batch[parcels.lane], handed_over=True)
                failure = failure or error
            self._parcels = {lane: left for lane, left in self._parcels.items() if left}
            if failure is not None:
                raise failure

    def _drop(self, waiting: deque[Parcel], gone: list[Parcel], *, handed_over: bool) -> None:
        for _ in gone:
            waiting.popleft()
        self._memory.give_back(sum(parcel.charge for parcel in gone))
        if handed_over:
            self._counters.add(handed_over=sum(parcel.messages for parcel in gone))

    def _spill_all(self) -> None:
        """Move what waits in memory to the spill file, if there is one, while the engine is away."""
        if self._spill is None:
            return
        try:
            for waiting in (self._early, *self._parcels.values()):
                some = list(waiting)
                if some:
                    self._spill.add([spill.Row(each.place, self.producer, each.messages, each.body) for each in some])
                    self._drop(waiting, some, handed_over=False)
            self._parcels = {}
        except spill.FAILURES as error:
            log_limited("spill", NOT_SPILLED, self._spill_path, error)

    def _empty_spill(self) -> None:
        """Hand over what the spill file holds, of this process and of dead ones. Raises AwayError."""
        if self._spill is None:
            return
        try:
            now = time.monotonic()
            if now >= self._adopt_at:
                self._adopt_at = now + BEAT_SECONDS
                self._memory.recovered(self._spill.adopt())
            while self._spill.size:
                rows = self._spill.first(BATCH_ENTRIES)
                for parcels in _grouped(rows, self._lanes):
                    (error,) = self._engine.hand_over([parcels])
                    if error is not None:
                        raise error
                self._spill.remove(rows)
                self._counters.add(handed_over=sum(row.messages for row in rows))
        except spill.FAILURES as error:
            log_limited("spill", NOT_SPILLED, self._spill_path, error, level=logging.WARNING)
            raise AwayError(f"the spill file cannot be read: {error}") from error

    def _finish(self) -> None:
        with guard("closing"), self._lock:
            self._requests += self._packer.pack(self.commands)
            self._spill_all()
            if self._spill is not None:
                self._spill.close()
            self._engine.close()


def _batch(waiting: dict[int, deque[Parcel]]) -> dict[int, list[Parcel]]:
    """Choose what goes next: a share of each lane, in order."""
    found: dict[int, list[Parcel]] = {}
    room, size = BATCH_ENTRIES, BATCH_BYTES
    share = max(1, BATCH_ENTRIES // len(waiting))
    for lane, parcels in waiting.items():
        for parcel in islice(parcels, share):
            if found and (room <= 0 or size <= 0):
                return found
            found.setdefault(lane, []).append(parcel)
            room, size = room - 1, size - len(parcel.body)
    return found


def _grouped(rows: Iterable[spill.Row], lanes: int) -> list[Parcels]:
    """Group entries by lane and producer; their order within each stays."""
    found: dict[tuple[int, str], list[bytes]] = {}
    for row in rows:
        found.setdefault((row.place % lanes, row.producer), []).append(row.body)
    return [Parcels(lane, producer, bodies) for (lane, producer), bodies in found.items()]
