"""The queue of recorded turns that are still to be assembled: callers add jobs in a microsecond, a worker runs them.

One thread at a time runs jobs: a worker, or a thread that needs the result (a flush, the exit of the process, a call
that must know which conversation it continues). `JobQueue.lock` ensures that. Workers never wait for it: a signal
handler may have interrupted the caller that holds it, and may itself wait for the workers. What may be taken inside it
is in docs/explanation/locks.md.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from converra.process import waits
from converra.process.guard import report

LOCK_SECONDS = 1.0
"""Longest wait for another thread's job, which takes microseconds, in seconds."""

HELPER_LOCK_SECONDS = 0.05
"""The same for a caller that only helps to shorten the queue."""

SHARE = 4
"""The queue may hold 1/SHARE of the bound of the outbox in memory, in addition to that bound."""

OVERHEAD = 2_048
"""Size of a pending job besides the new text in it, in bytes; measured and rounded."""

MAX_AGE = 2.0
"""Seconds after which callers run a pending job: workers may all hang in requests."""

WORKER_JOBS = 256
"""Jobs that a worker runs before it looks for something to send."""

RETRY_SECONDS = 0.005
"""Seconds until a worker polls again for jobs that are left."""

HELPER_JOBS = 2
"""Jobs that a caller runs if the queue is too large or its oldest job too old."""


class Job(msgspec.Struct, gc=False):
    """A function and its arguments; the first argument is the object that the function changes.

    Why no bound method, and no tuple: the garbage collector would traverse all pending jobs again and again.
    """

    at: float
    """When it was added, by the monotonic clock."""
    weight: int
    call: Callable[..., None]
    args: tuple[Any, ...]


class JobQueue:
    """Jobs in the order in which they were added; jobs of one conversation never run inside one another."""

    def __init__(self, limit: int = 2**26) -> None:
        self._room = limit // SHARE
        self.reset()

    def reset(self) -> None:
        """Become empty, with a new lock: in a child process, where the pending jobs are the parent's."""
        self.lock: threading.RLock = threading.RLock()
        """Held by every thread that changes what is recorded."""
        self._jobs: deque[Job] = deque()
        self._weight = 0
        """Bytes of the pending jobs, approximately: two threads that meet may lose a part, until all jobs are done."""
        self._owner: int | None = None
        self._under_way: list[int] = []
        """Ids of the objects that running jobs change; several if a signal handler has interrupted a job."""
        self._kept = 0
        """Jobs that were put back for that reason."""
        self._postponed: Callable[[], None] | None = None

    def __len__(self) -> int:
        return len(self._jobs)

    def renew_lock(self) -> None:
        """Replace the lock while no thread holds it: `threading` was patched after it was made."""
        self.lock = threading.RLock()

    def add(self, at: float, weight: int, call: Callable[..., None], args: tuple[Any, ...]) -> int:
        """Add a job.

        Args:
            at: The present time, by the monotonic clock.
            weight: Bytes that the job keeps alive, without `OVERHEAD`.
            call: The function to call.
            args: Its arguments; the first is the object that it changes.

        Returns:
            The number of pending jobs.

        """
        jobs = self._jobs
        weight += OVERHEAD
        jobs.append(Job(at, weight, call, args))
        self._weight += weight
        try:
            late = jobs[0].at < at - MAX_AGE
        except IndexError:  # another thread has run it meanwhile
            late = False
        if late or self._weight > self._room:
            self.work(HELPER_JOBS, seconds=HELPER_LOCK_SECONDS)
        return len(jobs)

    def work(self, most: int | None = None, *, seconds: float = LOCK_SECONDS) -> bool:
        """Run the pending jobs.

        Args:
            most: Number of jobs to run, at most; None for all that are pending now.
            seconds: Longest wait for a thread that is running a job; then the rest is left to that thread.

        Returns:
            True if all of them were run, including the job that another thread was running.

        """
        if self._owner == threading.get_ident():
            return self._work_inside()
        remaining, has_waited = (len(self._jobs), False) if most is None else (most, True)
        while (remaining > 0 and self._jobs) or not has_waited:
            step = min(seconds, waits.STEP)
            if not (self.lock.acquire(timeout=step) or (seconds > step and waits.lock(self.lock, seconds - step))):
                return False
            remaining, has_waited = max(0, remaining - 1), True
            self._owner = threading.get_ident()
            try:
                job = self._next()
                if job is not None:
                    self._do(job)
            finally:
                remaining, self._kept, self._owner = remaining + self._kept, 0, None
                postponed, self._postponed = self._postponed, None
                self.lock.release()
                if postponed is not None:
                    postponed()
        return True

    def postpone(self, call: Callable[[], None]) -> bool:
        """Call a function after the job that a signal handler interrupted on this thread; False if none was."""
        if self._owner != threading.get_ident():
            return False
        self._postponed = call
        return True

    def _work_inside(self) -> bool:
        """Run the pending jobs inside a job that a finalizer or a signal handler has interrupted.

        Jobs of the same conversation as that job are kept for afterwards, in their order.
        """
        kept: list[Job] = []
        try:
            for _ in range(len(self._jobs)):
                job = self._next()
                if job is None:
                    break
                if id(job.args[0]) in self._under_way:
                    kept.append(job)
                else:
                    self._do(job)
        finally:
            self._jobs.extendleft(reversed(kept))
            self._kept += len(kept)
        return not kept

    def take_on(self) -> float:
        """Run a worker's share without waiting for the lock; return the seconds until more is to be done."""
        self.work(WORKER_JOBS, seconds=0.0)
        return RETRY_SECONDS if self._jobs else math.inf

    def _next(self) -> Job | None:
        try:
            return self._jobs.popleft()
        except IndexError:  # a signal handler has run it in between
            return None

    def _do(self, job: Job) -> None:
        self._weight = self._weight - job.weight if self._jobs else 0
        self._under_way.append(id(job.args[0]))
        try:
            job.call(*job.args)
        except Exception as error:  # noqa: BLE001 - a guard without a frame of its own
            report("recording a turn", error)
        finally:
            self._under_way.pop()


class PeriodicTasks:
    """Several periodic tasks, as one."""

    def __init__(self, *tasks: PeriodicTask | PeriodicTasks) -> None:
        self._tasks = tasks

    @property
    def wanted(self) -> bool:
        """True while any of them is wanted."""
        for task in self._tasks:  # noqa: SIM110 - `any` costs twice as much
            if task.wanted:
                return True
        return False

    def turn(self, now: float) -> float:
        """Add the jobs that are due, of the tasks that are wanted; return the seconds until one is due again."""
        return min((task.turn(now) for task in self._tasks if task.wanted), default=math.inf)


class PeriodicTask:
    """A job that a worker adds to the queue every `every` seconds while it is wanted.

    Callers set `wanted`, from any thread. Adding the job clears it, so the job sets it again if there is more to do.
    """

    def __init__(self, jobs: JobQueue, every: float, call: Callable[..., None], *args: Any) -> None:
        self.wanted: bool = False
        self._jobs = jobs
        self._every = every
        self._call = call
        self._args = args
        self._next = -math.inf

    def turn(self, now: float) -> float:
        """Add the job, which is wanted, if it is due; return the seconds until it is due again."""
        if now >= self._next:
            self._next = now + self._every
            self.wanted = False
            self._jobs.add(now, 0, self._call, self._args)
        return self._next - now
