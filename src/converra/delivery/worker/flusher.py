"""Sends what waits: takes in events, picks the conversation that is next, has it served, and plans again.

Callers only ever append to a queue of events and a backlog of jobs, one step in C: no app's thread ever waits for a
worker's lock, whatever hangs. Workers assemble under the callers' lock, and only where that is free.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from converra.api import rate, retry
from converra.delivery.protocol import batching
from converra.delivery.protocol.progress import Progress
from converra.delivery.worker.commands import Event
from converra.delivery.worker.flush_request import Ticket, Tickets
from converra.delivery.worker.rate_limiter import Pace
from converra.delivery.worker.schedule import Schedule
from converra.delivery.worker.sender import Sender, Verdict
from converra.delivery.worker.transport import Access
from converra.process.guard import guard, tell
from converra.process.wake_hint import Attention
from converra.process.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from converra.config import Config
    from converra.delivery.conversation_queue import Lane
    from converra.delivery.losses import Losses
    from converra.delivery.outbox.memory import Outbox
    from converra.delivery.stats import Counters
    from converra.delivery.worker.sender import Connection
    from converra.process.jobs import Backlog
    from converra.process.periodic import Chore

LOOK_AROUND = 1.0
"""Longest rest while something waits, in seconds: an append then needs to wake nobody."""


class Flusher:
    """One per delivery. Everything with an underscore is done by workers, under their lock."""

    def __init__(
        self,
        config: Config,
        outbox: Outbox,
        counters: Counters,
        losses: Losses,
        connect: Callable[[str], Connection],
        *,
        chore: Chore,
        backlog: Backlog,
    ) -> None:
        self.events: deque[Event] = deque()
        self.attention = Attention()
        self.deadline: float | None = None
        """When the process must be gone."""
        self.workers = Workers(self.turn, self._finish)
        self._config = config
        self._outbox = outbox
        self._losses = losses
        self._chore = chore
        self._backlog = backlog
        self._access = Access(config, counters, connect, self._heard)
        self._lock = threading.Lock()
        self._schedule = Schedule()
        self._pace = Pace()
        self._open: set[Progress] = set()
        self._tickets = Tickets()
        self._held: set[Progress] = set()
        """Those that workers are at."""
        self._look_at = 0.0
        self._counters = counters
        jitter = random.SystemRandom().random  # the global one may be seeded, and is the app's
        self._sender = Sender(outbox, counters, config=config, monotonic=time.monotonic, now=time.time, jitter=jitter)

    # -- callers -------------------------------------------------------------------------------------------------------

    def post(self, event: Event) -> None:
        """Tell the workers something that they should look at soon."""
        self.events.append(event)
        self.wake()

    def wake(self) -> None:
        """Have a worker look for what there is to do."""
        self.attention.parked = False
        self.workers.wake()

    def ask(self, *, ends: bool = False) -> Ticket:
        """Ask for everything to be sent; with `ends`, for what is open to be completed."""
        ticket = Ticket(ends=ends)
        self.post(Event("flush", payload=ticket))
        return ticket

    def wait(self, ticket: Ticket, until: float) -> bool:
        """Wait for that, until a time of the steady clock."""
        if self.workers.here:  # a logging handler that flushes: it would wait for itself
            return False
        if not self.workers.alive:
            self._work_here(ticket, until)
        return ticket.wait(max(0.0, until - time.monotonic()))

    def _work_here(self, ticket: Ticket, until: float) -> None:
        """Send on the caller's thread: no other one can be started any more."""
        if self.deadline is not None:  # a signal handler that flushes has interrupted just this
            return
        self.deadline = until
        while not ticket.done and time.monotonic() < until:
            rest = self.turn()
            if rest is not None and not ticket.done:
                time.sleep(max(0.0, min(rest, LOOK_AROUND, until - time.monotonic())))
        self.deadline = None

    def close(self, timeout: float, *, idle: bool) -> None:
        """Wait for the stopped workers; hardly, unless all are `idle`, since one may hang. The last one closes up."""
        self.workers.join(timeout, idle=idle)
        if self.workers.stopping and not self.workers.alive:
            self._finish()

    def abandon(self) -> None:
        """Leave everything to the parent process, after a fork: green threads that came along find nothing to do."""
        self.workers.abandon()
        self.events.clear()
        self._schedule = Schedule()
        self._access.abandon()

    # -- workers -------------------------------------------------------------------------------------------------------

    def turn(self) -> float | None:
        """Send one request and return None, or return how long there is nothing to do."""
        with guard("choosing what to send"):
            now = time.monotonic()
            self.attention.looks(now, news=bool(self.events or self._backlog))
            jobs_in = self._backlog.take_on()
            self._losses.say()
            self._counters.observe(self._outbox.captured, self._outbox.dropped)
            chore_in = self._chore.turn(now)
            with self._lock:
                chosen = self._next()
            if isinstance(chosen, float):
                return self.attention.rests(now, min(chosen, chore_in, jobs_in))
            self._serve(*chosen)
            return None
        return LOOK_AROUND

    def _next(self) -> tuple[Progress, Connection] | float:
        self._take_in()
        now = time.monotonic()
        self._adopt(now)
        due = self._schedule.next_at()
        if due is None:
            return self._park()
        if self._connected(needed=due <= now) is None:
            return LOOK_AROUND
        ready = self._pace.ready_at(len(self._held))
        if ready is None:
            return LOOK_AROUND
        if max(due, ready) > now:
            return min(max(due, ready) - now, LOOK_AROUND)
        return self._pick(now)

    def _park(self) -> float:
        """Rest until somebody calls; said first and checked then, so that no call is missed."""
        self.attention.parked = True
        return 0.0 if self.events else self._backlog.more_in() or self._outbox.look_every

    def _adopt(self, now: float) -> None:
        """Take over, now and then, what dead processes have left in a shared outbox."""
        if now < self._look_at:
            return
        self._look_at = now + self._outbox.look_every
        for progress in self._outbox.recover():
            progress.orphan = True
            self._open.add(progress)
            self._plan(progress)

    def _pick(self, now: float) -> tuple[Progress, Connection] | float:
        progress, connection = self._schedule.take(now), self._connected()
        if progress is None or connection is None:
            return 0.0
        if progress.ends_at is not None and progress.ends_at <= now:
            progress.ended = True
        progress.held = True
        self._held.add(progress)
        self._pace.sent(now)
        more = self._schedule.is_due(now)
        progress.scarce = more and self._pace.scarce(now)
        self.workers.watch(more=more and self._pace.is_ready(now, len(self._held)))
        return progress, connection

    def _serve(self, progress: Progress, connection: Connection) -> None:
        verdict = Verdict("failed", LOOK_AROUND)
        progress.retry_at = max(progress.retry_at, time.monotonic())
        with guard("sending a conversation"):
            verdict = self._sender.serve(progress, connection, self._timeout())
        with self._lock:
            self._held.discard(progress)
            progress.held = False
            self._judge(progress, verdict)
            self._plan(progress)
            self._tickets.check(progress)

    def _timeout(self) -> float:
        left = self._config.timeout if self.deadline is None else self.deadline - time.monotonic()
        return max(0.05, min(self._config.timeout, left))

    def _judge(self, progress: Progress, verdict: Verdict) -> None:
        now = time.monotonic()
        if verdict.kind == "answered":
            self._pace.answered()
        elif verdict.kind == "failed":
            progress.retry_at = max(progress.retry_at, now + min(verdict.wait, LOOK_AROUND))
            self._pace.failed(progress, now, verdict.wait)
        elif verdict.kind == "limited":
            self._pace.limited(now, verdict.wait)
        elif verdict.kind == "refused":
            self._refused(now)

    def _refused(self, now: float) -> None:
        if not self._pace.refused_key:
            tell("refused", "converra: sending pauses, and is tried again now and then: %s", self._counters.last_error)
        self._pace.refuse_key(now)
        if not self._held:
            self._access.close()
        self._tickets.give_up()

    def _heard(self, headers: Mapping[str, str]) -> None:
        """Wait with all conversations where an answer says that it was the last for a while."""
        wait = rate.spent_for(headers, time.time())
        if wait is not None:
            with self._lock:
                self._pace.spent(time.monotonic(), min(wait, retry.MAX_RETRY_AFTER))

    def _plan(self, progress: Progress) -> None:
        if progress.held:
            return
        progress.urgent = progress.urgent and progress.waiting
        due = batching.due_at(progress, self._config.flush_interval)
        if due is not None:
            self._schedule.put(progress, due, batching.rank(progress))
            return
        self._schedule.drop(progress)
        if progress.ends_at is not None and not progress.ended:
            self._schedule.put(progress, progress.ends_at, progress.ends_at)
        elif progress.ended or progress.orphan:
            self._open.discard(progress)
            self._pace.forget(progress)
            self._outbox.forget(progress)

    def _connected(self, *, needed: bool = True) -> Connection | None:
        connection = self._access.connection()
        if connection is None and needed:
            self._access.say_key_missing()
            self._tickets.give_up()
        return connection

    def _finish(self) -> None:
        with guard("closing"), self._lock:
            for progress in self._open:
                if not progress.busy and (progress.ends_at is None or progress.ended):
                    self._outbox.forget(progress)
            self._outbox.close()
            if not self._held:  # else workers were started again meanwhile
                self._access.close()

    # -- events --------------------------------------------------------------------------------------------------------

    def _take_in(self) -> None:
        touched: set[Progress] = set()
        while self.events:
            event = self.events.popleft()
            if event.kind == "flush":
                self._plan_all(touched)
                self._on_flush(event.payload)
            elif event.lane is not None:
                touched.add(self._on_lane(event, event.lane))
        self._plan_all(touched)

    def _plan_all(self, touched: set[Progress]) -> None:
        while touched:
            self._plan(touched.pop())

    def _on_lane(self, event: Event, lane: Lane) -> Progress:
        progress = lane.progress
        if progress is None:
            progress = lane.progress = Progress(lane.header, lane.writer, file=lane.file)
        self._open.add(progress)
        progress.urgent = progress.urgent or event.kind == "hasten"
        if event.kind == "append":
            progress.arrived.extend((event.since, item) for item in event.payload)
            progress.received += len(event.payload)
        elif event.kind == "annotate":
            progress.notes.append(event.payload)
        elif event.kind == "end":
            progress.ended = True
            progress.always = progress.always or event.payload
        return progress

    def _on_flush(self, ticket: Ticket) -> None:
        self._look_at = 0.0
        self._adopt(time.monotonic())
        for progress in [*(self._open if ticket.ends else self._schedule), *self._held]:
            if ticket.ends and not (progress.header.joined or progress.orphan):
                progress.ended = True
            if progress.busy:
                progress.urgent = True
                progress.retry_at = 0.0
            self._plan(progress)
        self._pace.retry_key()
        self._tickets.start(ticket, [*self._schedule, *self._held])
