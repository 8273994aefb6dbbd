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
from converra.delivery.worker.commands import Command, FlushRequest, Tickets
from converra.delivery.worker.rate_limiter import RateLimiter
from converra.delivery.worker.schedule import Schedule
from converra.delivery.worker.sender import Outcome, Sender
from converra.delivery.worker.transport import Transport
from converra.process.guard import guard, log_limited
from converra.process.wake_hint import WakeHint
from converra.process.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from converra.config import Config
    from converra.delivery.conversation_queue import ConversationQueue
    from converra.delivery.outbox import Outbox
    from converra.delivery.stats import Counters, Losses
    from converra.delivery.worker.transport import Connection
    from converra.process.jobs import JobQueue
    from converra.process.periodic import PeriodicTask

POLL_INTERVAL = 1.0
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
        periodic_task: PeriodicTask,
        jobs: JobQueue,
    ) -> None:
        self.commands: deque[Command] = deque()
        self.wake_hint = WakeHint()
        self.deadline: float | None = None
        """When the process must be gone."""
        self.workers = Workers(self.turn, self._finish)
        self._config = config
        self._outbox = outbox
        self._losses = losses
        self._periodic_task = periodic_task
        self._jobs = jobs
        self._transport = Transport(config, counters, connect, self._on_headers)
        self._lock = threading.Lock()
        self._schedule = Schedule()
        self._rate_limiter = RateLimiter()
        self._open: set[Progress] = set()
        self._flush_requests = Tickets()
        self._held: set[Progress] = set()
        """Those that workers are at."""
        self._recover_at = 0.0
        self._counters = counters
        jitter = random.SystemRandom().random  # the global one may be seeded, and is the app's
        self._sender = Sender(outbox, counters, config=config, monotonic=time.monotonic, now=time.time, jitter=jitter)

    # -- callers -------------------------------------------------------------------------------------------------------

    def post(self, command: Command) -> None:
        """Tell the workers something that they should look at soon."""
        self.commands.append(command)
        self.wake()

    def wake(self) -> None:
        """Have a worker look for what there is to do."""
        self.wake_hint.parked = False
        self.workers.wake()

    def ask(self, *, ends: bool = False) -> FlushRequest:
        """Ask for everything to be sent; with `ends`, for what is open to be completed."""
        flush_request = FlushRequest(ends=ends)
        self.post(Command("flush", payload=flush_request))
        return flush_request

    def wait(self, flush_request: FlushRequest, until: float) -> bool:
        """Wait for that, until a time of the monotonic clock."""
        if self.workers.here:  # a logging handler that flushes: it would wait for itself
            return False
        if not self.workers.alive:
            self._work_here(flush_request, until)
        return flush_request.wait(max(0.0, until - time.monotonic()))

    def _work_here(self, flush_request: FlushRequest, until: float) -> None:
        """Send on the caller's thread: no other one can be started any more."""
        if self.deadline is not None:  # a signal handler that flushes has interrupted just this
            return
        self.deadline = until
        while not flush_request.done and time.monotonic() < until:
            rest = self.turn()
            if rest is not None and not flush_request.done:
                time.sleep(max(0.0, min(rest, POLL_INTERVAL, until - time.monotonic())))
        self.deadline = None

    def close(self, timeout: float, *, idle: bool) -> None:
        """Wait for the stopped workers; hardly, unless all are `idle`, since one may hang. The last one closes up."""
        self.workers.join(timeout, idle=idle)
        if self.workers.stopping and not self.workers.alive:
            self._finish()

    def abandon(self) -> None:
        """Leave everything to the parent process, after a fork: green threads that came along find nothing to do."""
        self.workers.abandon()
        self.commands.clear()
        self._schedule = Schedule()
        self._transport.abandon()

    # -- workers -------------------------------------------------------------------------------------------------------

    def turn(self) -> float | None:
        """Send one request and return None, or return how long there is nothing to do."""
        with guard("choosing what to send"):
            now = time.monotonic()
            self.wake_hint.polls_at(now, news=bool(self.commands or self._jobs))
            jobs_in = self._jobs.take_on()
            self._losses.log()
            self._counters.observe(self._outbox.captured, self._outbox.dropped)
            task_in = self._periodic_task.turn(now)
            with self._lock:
                chosen = self._next()
            if isinstance(chosen, float):
                return self.wake_hint.rests(now, min(chosen, task_in, jobs_in))
            self._serve(*chosen)
            return None
        return POLL_INTERVAL

    def _next(self) -> tuple[Progress, Connection] | float:
        self._take_in()
        now = time.monotonic()
        self._adopt(now)
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
        """Rest until somebody calls; said first and checked then, so that no call is missed."""
        self.wake_hint.parked = True
        return 0.0 if self.commands else self._jobs.more_in() or self._outbox.recover_every

    def _adopt(self, now: float) -> None:
        """Take over, now and then, what dead processes have left in a shared outbox."""
        if now < self._recover_at:
            return
        self._recover_at = now + self._outbox.recover_every
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
        self._rate_limiter.sent(now)
        more = self._schedule.is_due(now)
        progress.scarce = more and self._rate_limiter.scarce(now)
        self.workers.watch(more=more and self._rate_limiter.is_ready(now, len(self._held)))
        return progress, connection

    def _serve(self, progress: Progress, connection: Connection) -> None:
        outcome = Outcome("failed", POLL_INTERVAL)
        progress.retry_at = max(progress.retry_at, time.monotonic())
        with guard("sending a conversation"):
            outcome = self._sender.serve(progress, connection, self._timeout())
        with self._lock:
            self._held.discard(progress)
            progress.held = False
            self._judge(progress, outcome)
            self._plan(progress)
            self._flush_requests.check(progress)

    def _timeout(self) -> float:
        left = self._config.timeout if self.deadline is None else self.deadline - time.monotonic()
        return max(0.05, min(self._config.timeout, left))

    def _judge(self, progress: Progress, outcome: Outcome) -> None:
        now = time.monotonic()
        if outcome.kind == "answered":
            self._rate_limiter.answered()
        elif outcome.kind == "failed":
            progress.retry_at = max(progress.retry_at, now + min(outcome.wait, POLL_INTERVAL))
            self._rate_limiter.failed(progress, now, outcome.wait)
        elif outcome.kind == "limited":
            self._rate_limiter.limited(now, outcome.wait)
        elif outcome.kind == "refused":
            self._refused(now)

    def _refused(self, now: float) -> None:
        if not self._rate_limiter.refused_key:
            log_limited(
                "refused", "converra: sending pauses, and is tried again now and then: %s", self._counters.last_error
            )
        self._rate_limiter.refuse_key(now)
        if not self._held:
            self._transport.close()
        self._flush_requests.give_up()

    def _on_headers(self, headers: Mapping[str, str]) -> None:
        """Wait with all conversations where an answer says that it was the last for a while."""
        wait = rate.spent_for(headers, time.time())
        if wait is not None:
            with self._lock:
                self._rate_limiter.spent(time.monotonic(), min(wait, retry.MAX_RETRY_AFTER))

    def _plan(self, progress: Progress) -> None:
        if progress.held:
            return
        progress.send_now = progress.send_now and progress.waiting
        due = batching.due_at(progress, self._config.flush_interval)
        if due is not None:
            self._schedule.put(progress, due, batching.rank(progress))
            return
        self._schedule.drop(progress)
        if progress.ends_at is not None and not progress.ended:
            self._schedule.put(progress, progress.ends_at, progress.ends_at)
        elif progress.ended or progress.orphan:
            self._open.discard(progress)
            self._rate_limiter.forget(progress)
            self._outbox.forget(progress)

    def _connected(self, *, needed: bool = True) -> Connection | None:
        connection = self._transport.connection()
        if connection is None and needed:
            self._transport.log_key_missing()
            self._flush_requests.give_up()
        return connection

    def _finish(self) -> None:
        with guard("closing"), self._lock:
            for progress in self._open:
                if not progress.busy and (progress.ends_at is None or progress.ended):
                    self._outbox.forget(progress)
            self._outbox.close()
            if not self._held:  # else workers were started again meanwhile
                self._transport.close()

    # -- events --------------------------------------------------------------------------------------------------------

    def _take_in(self) -> None:
        touched: set[Progress] = set()
        while self.commands:
            command = self.commands.popleft()
            if command.kind == "flush":
                self._plan_all(touched)
                self._on_flush(command.payload)
            elif command.queue is not None:
                touched.add(self._on_queue(command, command.queue))
        self._plan_all(touched)

    def _plan_all(self, touched: set[Progress]) -> None:
        while touched:
            self._plan(touched.pop())

    def _on_queue(self, command: Command, queue: ConversationQueue) -> Progress:
        progress = queue.progress
        if progress is None:
            progress = queue.progress = Progress(queue.header, queue.writer, file=queue.file)
        self._open.add(progress)
        progress.send_now = progress.send_now or command.kind == "send_now"
        if command.kind == "append":
            progress.arrived.extend((command.since, item) for item in command.payload)
            progress.received += len(command.payload)
        elif command.kind == "annotate":
            progress.notes.append(command.payload)
        elif command.kind == "end":
            progress.ended = True
            progress.always = progress.always or command.payload
        return progress

    def _on_flush(self, flush_request: FlushRequest) -> None:
        self._recover_at = 0.0
        self._adopt(time.monotonic())
        for progress in [*(self._open if flush_request.ends else self._schedule), *self._held]:
            if flush_request.ends and not (progress.header.shared or progress.orphan):
                progress.ended = True
            if progress.busy:
                progress.send_now = True
                progress.retry_at = 0.0
            self._plan(progress)
        self._rate_limiter.retry_key()
        self._flush_requests.start(flush_request, [*self._schedule, *self._held])
