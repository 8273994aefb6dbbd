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

from converra.process.guard import guard

LOCK_SECONDS = 1.0
"""Longest wait for another thread's job, which takes microseconds."""

MOMENT = 0.05
"""The same for a caller who only helps."""

SHARE = 4
"""What waits here may hold this part of the bound of what waits in memory, besides that."""

OVERHEAD = 2_048
"""What a waiting job weighs besides the words that are new in it, in bytes; a measured round number."""

OLDEST = 2.0
"""Seconds that a job waits, at most, while calls go on: workers may all hang in requests."""

MANY = 256
"""Jobs that a worker does before it looks for something to send."""

SOON = 0.005
"""Seconds until a worker's next look at what it has left."""

FEW = 2
"""Jobs that a caller does who finds too much or too old ones waiting."""


class Job(msgspec.Struct, gc=False):
    """Something to do: a function, and its arguments, of which the first is what it changes.

    No bound method, and no tuple of all this: what waits is looked at by the garbage collector again and again.
    """

    at: float
    """When it came, by the monotonic clock."""
    weight: int
    call: Callable[..., None]
    args: tuple[Any, ...]


class JobQueue:
    """Jobs in the order in which they came; those of one conversation never inside one another."""

    def __init__(self, limit: int = 2**26) -> None:
        self._room = limit // SHARE
        self.reset()

    def reset(self) -> None:
        """Become empty, with a new lock: in a child process, where the pending jobs are the parent's."""
        self.lock = threading.RLock()
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
        """Replace the lock, while nobody holds it: `threading` was patched since it was made."""
        self.lock = threading.RLock()

    def add(self, at: float, weight: int, call: Callable[..., None], args: tuple[Any, ...]) -> int:
        """Take a job in, at a time of the monotonic clock, that keeps so many bytes alive; say how many wait."""
        jobs = self._jobs
        weight += OVERHEAD
        jobs.append(Job(at, weight, call, args))
        self._weight += weight
        try:
            late = jobs[0].at < at - OLDEST
        except IndexError:  # another thread has done it meanwhile
            late = False
        if late or self._weight > self._room:
            self.work(FEW, seconds=MOMENT)
        return len(jobs)

    def work(self, most: int | None = None, *, seconds: float = LOCK_SECONDS) -> bool:
        """Do what waits, or the first of it. True if all of that was done, also what another thread was at.

        A lock that another thread holds is waited for so many seconds; then the rest is left to that thread.
        """
        if self._owner == threading.get_ident():
            return self._work_inside()
        left, sure = (len(self._jobs), False) if most is None else (most, True)
        while (left > 0 and self._jobs) or not sure:
            if not self.lock.acquire(timeout=seconds):
                return False
            left, sure = max(0, left - 1), True
            self._owner = threading.get_ident()
            try:
                job = self._next()
                if job is not None:
                    self._do(job)
            finally:
                left, self._kept, self._owner = left + self._kept, 0, None
                postponed, self._postponed = self._postponed, None
                self.lock.release()
                if postponed is not None:
                    postponed()
        return True

    def postpone(self, call: Callable[[], None]) -> bool:
        """Where a signal handler has interrupted a job here, have it called after that job; False where it has not."""
        if self._owner != threading.get_ident():
            return False
        self._postponed = call
        return True

    def _work_inside(self) -> bool:
        """Do what waits though a job is under way: a finalizer or a signal handler has interrupted it.

        What belongs to the same conversation as that job is kept for afterwards, in its order.
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
        """Do a worker's share, without waiting for the lock; say in how many seconds there is more to do."""
        self.work(MANY, seconds=0.0)
        return self.more_in() or math.inf

    def more_in(self) -> float:
        """Say in how many seconds to look again; 0 where nothing waits. Not at once: another thread may be at it."""
        return SOON if self._jobs else 0.0

    def _next(self) -> Job | None:
        try:
            return self._jobs.popleft()
        except IndexError:  # a signal handler that came between has done it
            return None

    def _do(self, job: Job) -> None:
        self._weight = self._weight - job.weight if self._jobs else 0
        self._under_way.append(id(job.args[0]))
        try:
            with guard("recording a turn"):
                job.call(*job.args)
        finally:
            self._under_way.pop()
