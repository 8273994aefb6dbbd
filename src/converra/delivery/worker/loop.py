"""The work loop: takes commands from callers and has workers carry them out, or callers where no thread can run.

Callers only append to a queue of commands and a queue of jobs, one step in C. So a thread of the app never waits for a
worker's lock while workers run; where none can run, it works by itself and takes that lock.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections import deque
from enum import IntEnum
from typing import TYPE_CHECKING

from converra.config import freezes_between_calls, is_fleet
from converra.process.guard import guard
from converra.process.telemetry import suppressed
from converra.process.waits import STEP
from converra.process.workers import WakeHint, Workers

if TYPE_CHECKING:
    import threading

    from converra.config import Config
    from converra.delivery.conversation_queue import Command, ConversationQueue, FlushRequest
    from converra.delivery.outbox import Outbox
    from converra.delivery.protocol.progress import Progress
    from converra.delivery.stats import Counters, Losses
    from converra.delivery.worker.transport import Connection
    from converra.process.jobs import JobQueue, PeriodicTask, PeriodicTasks

POLL_INTERVAL = 1.0
"""Longest rest of a worker while something waits, in seconds: so an append needs to wake no worker."""


class Mode(IntEnum):
    """The part of the work that callers do. Each mode adds to the one before.

    ================  ===================================  =======================================================
    mode              used                                 what a caller does before it continues
    ================  ===================================  =======================================================
    BACKGROUND        by default                           nothing: workers assemble and send
    CALLER_ASSEMBLES  with a durable outbox or console     assembles the messages: they are on disk by then
    CALLER_WAITS      where the process is frozen between  waits at the end of a conversation until the workers
                      calls, such as Lambda                have delivered it
    CALLER_SENDS      where no thread can run: Python      sends at the end of a conversation, on its own thread
                      finalises, uWSGI has no threads
    LOADING           while uWSGI loads the app            sends after each turn, and closes files and sockets:
                                                           the process will be forked
    ================  ===================================  =======================================================
    """

    BACKGROUND = 0
    CALLER_ASSEMBLES = 1
    CALLER_WAITS = 2
    CALLER_SENDS = 3
    LOADING = 4


def usual_mode(config: Config) -> Mode:
    """Return the mode of a process that can start threads."""
    if freezes_between_calls():
        return Mode.CALLER_WAITS
    if (config.outbox is not None and not is_fleet(config.outbox)) or config.console:
        return Mode.CALLER_ASSEMBLES
    return Mode.BACKGROUND


class WorkLoop(ABC):
    """The callers' side of a flusher or a shipper, and its workers. The abstract methods are what differs."""

    _lock: threading.Lock
    """Held while a worker chooses what to do."""

    def __init__(
        self,
        outbox: Outbox,
        counters: Counters,
        losses: Losses,
        *,
        mode: Mode,
        periodic_task: PeriodicTask | PeriodicTasks | None,
        jobs: JobQueue,
    ) -> None:
        self._outbox: Outbox = outbox
        self._counters: Counters = counters
        self._losses: Losses = losses
        self._jobs: JobQueue = jobs
        self._recover_at: float = math.inf
        """Monotonic time of the next look into an outbox that other processes share."""
        self.commands: deque[Command] = deque()
        self.owing: set[Progress] = set()
        """Conversations whose metadata is not delivered; it may wait for a message that takes it along."""
        self.periodic_task: PeriodicTask | PeriodicTasks | None = periodic_task
        self.mode: Mode = mode
        """Changed by `switch` only."""
        self.deadline: float | None = None
        """When a caller that works on its own thread must stop, by the monotonic clock."""
        self.workers: Workers = Workers(self._work)
        self.owner: object = None
        """The delivery. Running workers keep it alive by this, as the exit hooks refer to it weakly."""
        self.wake_hint: WakeHint = WakeHint()
        """Callers read it before they wake a worker."""
        self.switch(mode)

    # -- callers -------------------------------------------------------------------------------------------------------

    def switch(self, mode: Mode) -> None:
        """Change the mode; from CALLER_SENDS on no thread is started."""
        self.mode = mode
        self.workers.closed = mode >= Mode.CALLER_SENDS

    def post(self, command: Command) -> None:
        """Add a command and wake a worker for it."""
        self.commands.append(command)
        self.wake()

    def wake(self) -> None:
        """Wake a worker."""
        self.wake_hint.parked = False
        self.workers.wake()

    def wait(self, request: FlushRequest, until: float) -> bool:
        """Wait for a flush until a time of the monotonic clock; return True if it is complete by then."""
        if self.workers.here:  # a logging handler that flushes: it would wait for itself
            return False
        if not self.workers.alive:
            self._work_here(request, until)
        # as `waits.event`, without one more file on the path of a call
        while not request.done.wait(max(0.0, min(STEP, until - time.monotonic()))):
            if time.monotonic() >= until:
                break
        return request.complete

    def _work_here(self, request: FlushRequest, until: float) -> None:
        """Send on the caller's thread: no other one can be started any more."""
        if self.deadline is not None:  # a signal handler that flushes has interrupted this very loop
            return
        self.deadline = until
        while not request.done.is_set() and time.monotonic() < until:
            rest = self.turn()
            if rest is not None and not request.done.is_set():
                time.sleep(max(0.0, min(rest, STEP, until - time.monotonic())))
        self.deadline = None

    def close(self, timeout: float, *, idle: bool) -> None:
        """Wait for the stopped workers, at most `timeout` seconds; hardly at all unless they are `idle`.

        One that is not idle may hang in a request. The last worker to leave closes the outbox and the connection.
        """
        self.workers.join(timeout, idle=idle)
        if self.workers.stopping and not self.workers.alive:
            self._finish()

    @property
    def sending(self) -> Counters | None:
        """Counters of a relay in this process, which sends for others as well; None if there is none."""
        return None

    def delivered(self, until: float) -> bool:  # noqa: ARG002 - a fleet waits here
        """Wait until the API has all that was flushed, until a time of the monotonic clock; here a flush means that."""
        return True

    def look_up(self, queue: ConversationQueue) -> None:  # noqa: B027 - only a fleet has conversations that others open
        """Have a worker look for the id of a conversation that another process opens."""

    def leave(self, until: float) -> None:  # noqa: B027 - only a fleet has others that wait
        """Release what other processes wait for, until a time of the monotonic clock: the process ends."""

    @abstractmethod
    def abandon(self) -> None:
        """Leave everything to the parent process after a fork: inherited green threads find nothing to do."""

    # -- workers -------------------------------------------------------------------------------------------------------

    def turn(self) -> float | None:
        """Do one step and return None, or return the seconds for which there is nothing to do."""
        with guard("choosing what to send"):
            now = time.monotonic()
            self.wake_hint.polls_at(now, news=bool(self.commands or self._jobs))
            jobs_in = self._jobs.take_on()
            if self._outbox.dropped:
                self._losses.log()
            self._counters.observe(self._outbox.captured, self._outbox.dropped)
            task = self.periodic_task
            task_in = task.turn(now) if task is not None and task.wanted else math.inf
            with self._lock:
                chosen = self._next()
            if not isinstance(chosen, tuple):
                return self.wake_hint.rests(now, min(chosen, max(0.0, self._recover_at - now), task_in, jobs_in))
            self._serve(*chosen)
            return None
        return POLL_INTERVAL

    @abstractmethod
    def _next(self) -> tuple[Progress, Connection] | float:
        """Return the request to perform, or the seconds until there may be one; called under the lock."""

    @abstractmethod
    def _serve(self, progress: Progress, connection: Connection) -> None:
        """Perform a request."""

    @abstractmethod
    def _finish(self) -> None:
        """Close what is open: the last worker has left."""

    def _work(self, pid: int) -> None:
        """Run a worker's thread, in the process `pid`."""
        workers = self.workers
        with suppressed():
            while workers.continues(pid):
                rest = self.turn()
                if rest is not None and workers.continues(pid) and not workers.rest(rest):
                    break
            if workers.leave(pid):
                self._finish()
        workers.wake()  # a resting worker takes over, or leaves as well
