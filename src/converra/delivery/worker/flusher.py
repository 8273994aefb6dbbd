"""The flusher: takes in the callers' commands, picks the conversation that is next, has it served, and plans again.

Workers assemble under the callers' lock, and only if it is free. All locks are in docs/explanation/locks.md.

A conversation as the flusher sees it; `protocol/progress.py` has the states of its requests:

=========  ================================================  =====================================================
state      the conversation is in                            and leaves it
=========  ================================================  =====================================================
queued     `commands`                                        when a worker takes the commands in
planned    `_open`, `_schedule`: due at `batching.due_at`    when it is due, first by `batching.rank`, and the rate
                                                             limiter lets a request go
held       `_open`, `_held`: one worker sends one request    when the request has an outcome: it is planned again
quiet      `_open` only: nothing to send yet                 by another command, or when it is idle for too long
over       none: completed or rejected                       the outbox forgets it
=========  ================================================  =====================================================

Outcomes and the other conversations: answered, they speed up; failed, this one backs off, and after `OUTAGE_AFTER` in a
row all of them do; rate limited, all wait as long as the API asks; key refused, all wait for a slow probe.
"""

from __future__ import annotations

import math
import random
import threading
import time
from typing import TYPE_CHECKING

from converra.delivery.conversation_queue import Annotate, Append, End, FlushRequest, FlushRequests, SendNow
from converra.delivery.protocol import batching
from converra.delivery.protocol.progress import Progress
from converra.delivery.worker.inheritance import Inheritance
from converra.delivery.worker.loop import POLL_INTERVAL, Mode, WorkLoop
from converra.delivery.worker.schedule import RateLimiter, Schedule
from converra.delivery.worker.sender import Outcome, OutcomeKind, Sender
from converra.delivery.worker.transport import Transport
from converra.process.guard import guard, log_limited
from converra.process.jobs import RETRY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from converra.config import Config
    from converra.delivery.outbox import Outbox, OutboxFile
    from converra.delivery.stats import Counters, Losses
    from converra.delivery.worker.transport import Connection
    from converra.process.jobs import JobQueue, PeriodicTask, PeriodicTasks

PAUSES = "converra: sending pauses and is retried now and then: %s"


class Flusher(WorkLoop):
    """One per delivery. Methods with an underscore run on workers, under their lock."""

    def __init__(
        self,
        config: Config,
        outbox: Outbox,
        counters: Counters,
        losses: Losses,
        connect: Callable[[str], Connection] | None,
        *,
        mode: Mode,
        periodic_task: PeriodicTask | PeriodicTasks | None,
        jobs: JobQueue,
        rate_limiter: RateLimiter | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        super().__init__(outbox, counters, losses, mode=mode, periodic_task=periodic_task, jobs=jobs)
        self._config = config
        self._file = outbox.file
        self._lock = threading.Lock()
        self._schedule = schedule or Schedule()
        self._rate_limiter = rate_limiter or RateLimiter()
        self._transport = Transport(config, counters, connect)
        self._open: set[Progress] = set()
        self._held: set[Progress] = set()
        """Conversations that workers are sending."""
        self._flush_requests = FlushRequests()
        self._inheritance = Inheritance()
        if self._file is not None:
            self._recover_at = 0.0
        jitter = random.SystemRandom().random  # the global generator belongs to the app, which may have seeded it
        self._sender = Sender(outbox, counters, config=config, monotonic=time.monotonic, now=time.time, jitter=jitter)

    # -- callers -------------------------------------------------------------------------------------------------------

    def abandon(self) -> None:
        """Leave everything to the parent process after a fork: inherited green threads find nothing to do."""
        self.workers.abandon()
        self.commands.clear()
        self._schedule = Schedule()
        self._inheritance = Inheritance()
        self._transport.abandon()

    def recover_soon(self) -> None:
        """Look into the shared outbox at the next turn."""
        self._recover_at = 0.0
        self.wake()

    # -- workers -------------------------------------------------------------------------------------------------------

    def _next(self) -> tuple[Progress, Connection] | float:
        """Return the conversation to send, or the seconds until there may be one."""
        now = time.monotonic()
        if self._file is not None and now >= self._recover_at:
            self._recover(now, self._file)  # first, since orphans go before what has just been recorded
        self._take_in()
        due = self._schedule.next_at()
        if due is None:
            return self._park()
        if self._connected(needed=due <= now) is None:
            return POLL_INTERVAL
        ready = self._rate_limiter.ready_at(len(self._held))
        if ready is None:
            return POLL_INTERVAL
        if max(due, ready) > now:
            return min(max(due, ready) - now, POLL_INTERVAL)
        return self._pick(now)

    def _park(self) -> float:
        """Rest until woken. The hint is set before the last look, so that no command is missed."""
        self.wake_hint.parked = True
        if self.commands:
            return 0.0
        if self._jobs:
            return RETRY_SECONDS  # not at once: another thread may be running it
        return math.inf if self._file is None else self._file.recover_every

    def _recover(self, now: float, file: OutboxFile) -> None:
        """Take over what dead processes have left in a shared outbox, every `recover_every` seconds."""
        self._recover_at = now + file.recover_every
        for progress in file.recover():
            progress.orphan = True
            if progress not in self._open:
                self._open.add(progress)
                self._inheritance.add(progress)
            self._plan(progress)

    def _pick(self, now: float) -> tuple[Progress, Connection] | float:
        connection = self._connected()
        wait = self._rate_limiter.admit()
        if wait > 0:
            return min(wait, POLL_INTERVAL)
        progress, waiting = (None, 0) if connection is None else self._schedule.take(now)
        if progress is None or connection is None:
            return 0.0
        if progress.ends_at is not None and progress.ends_at <= now:
            progress.ended = True
        progress.held = True
        self._held.add(progress)
        self._rate_limiter.last = now
        progress.scarce = waiting > 0 and self._rate_limiter.scarce(now, waiting)
        self.workers.watch(more=waiting > 0 and self._rate_limiter.is_ready(now, len(self._held)))
        return progress, connection

    def _serve(self, progress: Progress, connection: Connection) -> None:
        outcome = Outcome(OutcomeKind.FAILED, POLL_INTERVAL)  # if the guard catches a bug
        progress.retry_at = max(progress.retry_at, time.monotonic())
        with guard("sending a conversation"):
            left = math.inf if self.deadline is None else self.deadline - time.monotonic()
            outcome = self._sender.serve(progress, connection, max(0.05, min(self._config.timeout, left)))
        with self._lock:
            self._held.discard(progress)
            progress.held = False
            self._apply(outcome, progress)
            self._plan(progress)
            if progress.orphan:
                self._plan_all(self._inheritance.after(progress))
            self._flush_requests.check(progress)
            headers, connection.limit_headers = connection.limit_headers, None
            if headers is not None:
                self._rate_limiter.note_headers(headers, time.monotonic(), time.time())

    def _apply(self, outcome: Outcome, progress: Progress) -> None:
        """Adapt the rate limiter to the outcome of a request."""
        now = time.monotonic()
        match outcome.kind:
            case OutcomeKind.ANSWERED:
                self._rate_limiter.answered()
            case OutcomeKind.FAILED:
                progress.retry_at = max(progress.retry_at, now + min(outcome.wait, POLL_INTERVAL))
                self._rate_limiter.failed(progress, now, outcome.wait)
            case OutcomeKind.RATE_LIMITED:
                self._rate_limiter.limited(now, outcome.wait)
            case OutcomeKind.KEY_REFUSED:
                self._on_key_refused(now)
            case OutcomeKind.IDLE:
                pass

    def _on_key_refused(self, now: float) -> None:
        if not self._rate_limiter.refused_key:
            log_limited("refused", PAUSES, self._counters.last_error)
        self._rate_limiter.refuse_key(now)
        if not self._held:
            self._transport.close()
        self._flush_requests.give_up()

    def _plan(self, progress: Progress) -> None:
        """Schedule the next request of a conversation, or let go of it once it is over."""
        if progress.held:
            return
        if progress.elsewhere:
            self._schedule.drop(progress)
            self._open.discard(progress)
            self._rate_limiter.forget(progress)
            return
        progress.send_now = progress.send_now and progress.depth > 0
        if progress in self.owing and not progress.owes:
            self.owing.discard(progress)
        due = batching.due_at(progress, self._config.flush_interval)
        if due is not None:
            if self._file is not None and self._inheritance.goes_before(progress):
                due = math.inf  # planned again afterwards
            self._schedule.put(progress, due, batching.rank(progress))
            return
        self._schedule.drop(progress)
        progress.carry_at = math.inf  # nothing is to be carried
        if progress.ends_at is not None and not progress.ended:
            self._schedule.put(progress, progress.ends_at, progress.ends_at)
        elif progress.ended or progress.orphan:
            self._open.discard(progress)
            self._rate_limiter.forget(progress)
            if self._file is not None:
                self._file.forget(progress)

    def _connected(self, *, needed: bool = True) -> Connection | None:
        connection = self._transport.connection or self._transport.open()
        if connection is None and needed:
            self._transport.log_key_missing()
            self._flush_requests.give_up()
        return connection

    def _finish(self) -> None:
        with guard("closing"), self._lock:
            if self._file is not None:
                for progress in self._open:
                    if not progress.busy and (progress.ends_at is None or progress.ended):
                        self._file.forget(progress)
                self._file.close()
            if not self._held:  # else workers were started again meanwhile
                self._transport.close()

    # -- commands ------------------------------------------------------------------------------------------------------

    def _take_in(self) -> None:
        """Carry out the posted commands. Conversations are planned once, or before a flush that follows."""
        touched: set[Progress] = set()
        while self.commands:
            command = self.commands.popleft()
            if isinstance(command, FlushRequest):
                self._plan_all(touched)
                self._on_flush(command)
            else:
                touched.add(self._on_command(command))
        self._plan_all(touched)

    def _plan_all(self, touched: set[Progress]) -> None:
        while touched:
            self._plan(touched.pop())

    def _on_command(self, command: Append | Annotate | SendNow | End) -> Progress:
        queue = command.queue
        progress = queue.progress
        if progress is None:
            progress = queue.progress = Progress(queue.header, queue.writer, rows=queue.rows)
        self._open.add(progress)
        match command:
            case Append():
                progress.arrived.extend((command.since, item) for item in command.items)
                progress.received += len(command.items)
            case Annotate():
                progress.notes.append((command.row, command.metadata, command.alone))
                if command.alone:
                    self.owing.add(progress)
                if command.soon:
                    progress.carry_at = min(progress.carry_at, time.monotonic() + self._config.flush_interval)
            case SendNow():
                progress.send_now, progress.carry_at = True, 0.0
            case End():
                progress.ended = True
                progress.always = progress.always or command.always
        return progress

    def _on_flush(self, request: FlushRequest) -> None:
        now = time.monotonic()
        if self._file is not None:
            self._recover(now, self._file)
        for progress in self.owing:
            progress.carry_at = 0.0
        waiting = self._open if request.ends else self._schedule.planned
        for progress in [*waiting, *self.owing, *self._held]:
            expired = progress.ends_at is not None and progress.ends_at <= now
            if request.ends and (expired or not (progress.header.shared or progress.orphan)):
                progress.ended = True
            if progress.busy:
                progress.send_now = True
                progress.retry_at = 0.0
            self._plan(progress)
        self._rate_limiter.retry_key()
        self._flush_requests.start(request, [*self._schedule.planned, *self._held])
