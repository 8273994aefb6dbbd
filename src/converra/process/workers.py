"""Worker threads: a few daemons, started when there is something to do, never while Python finalises.

Daemons, because a thread that hangs in a socket must not keep the process alive. While one sends, another one watches
for work that becomes due, so that a slow answer delays no other conversation. Callers wake workers through a bare lock
used as a flag: `release` and `acquire` are single steps in C, so a signal handler or a finalizer that interrupts a
caller may wake them too. Why no Event or Condition: such a handler could find it half set.

Green threads (gevent, eventlet) survive a fork: a worker knows its process, and ends in any other one.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

from converra.process import uwsgi

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_WORKERS = 4

LINGER = 10.0
"""Seconds for which a second idle worker stays."""

JOIN = 0.2
"""Longest wait for a worker that may hang in a request, in seconds."""

ACTIVE_SECONDS = 0.5
"""Seconds after the last activity during which a worker polls every `POLL_SECONDS`."""

POLL_SECONDS = 0.01


class WakeHint:
    """Tells callers if a worker must be woken to see new work: waking costs a caller more than recording.

    Workers write it and callers read it, without a lock: a worker sets `parked` before it looks for work a last time.
    """

    def __init__(self) -> None:
        self.parked: bool = False
        """All workers rest until they are woken."""
        self.watchful: bool = False
        """A worker polls again within `POLL_SECONDS`, so it needs no waking."""
        self._active_until = 0.0

    def polls_at(self, now: float, *, news: bool) -> None:
        """Note that a worker polls at `now`, by the monotonic clock, and if it finds something new."""
        self.watchful = False
        if news:
            self._active_until = now + ACTIVE_SECONDS

    def rests(self, now: float, seconds: float) -> float:
        """Note that a worker has nothing to do for `seconds`; return how long it is to rest."""
        self.watchful = now < self._active_until
        return min(seconds, POLL_SECONDS) if self.watchful else seconds


class Workers:
    """Threads with one target. It works while `continues`, and has to `leave` before it ends.

    `target` gets the id of the process that started the thread.
    """

    def __init__(self, target: Callable[[int], None]) -> None:
        self._target = target
        self._starting = threading.RLock()
        self._counting = threading.Lock()
        """Guards `_threads` as workers leave, and `_resting`; callers never take it."""
        self._flag = threading.Lock()
        """A flag: free means "look for work"; see the module docstring."""
        self._flag.acquire()
        self._threads: set[threading.Thread] = set()
        self._resting = 0
        self.stopping: bool = False
        self.closed: bool = False
        """No thread may be started any more, for instance because Python is finalising."""

    @property
    def alive(self) -> bool:
        """True while any worker runs."""
        return any(thread.is_alive() for thread in tuple(self._threads))

    @property
    def here(self) -> bool:
        """True on a worker's own thread."""
        return threading.current_thread() in self._threads

    def start(self) -> None:
        """Start a worker unless one runs."""
        with self._starting:
            self.stopping = False
            if not self.alive:
                self._threads.clear()
                self._resting = 0
                self._add()

    def wake(self) -> None:
        """Wake one resting worker."""
        try:
            self._flag.release()
        except RuntimeError:  # it is set already
            return

    def watch(self, *, more: bool) -> None:
        """Ensure that another worker watches for work while this one is busy; wake it now if there is `more` to do."""
        if not self._resting:
            self._add()
        elif more:
            self.wake()

    def stop(self) -> None:
        """Have every worker leave after its current turn."""
        self.stopping = True
        self.wake()

    def abandon(self) -> None:
        """End green threads that survived a fork into this child process, and start no more."""
        self.stopping = self.closed = True
        self.wake()

    def join(self, timeout: float, *, idle: bool) -> None:
        """Wait until all workers have left, or were started again.

        Args:
            timeout: Longest wait, in seconds.
            idle: False if a worker may hang in a request; then the wait is at most `JOIN` seconds.

        """
        until = time.monotonic() + (timeout if idle else min(timeout, JOIN))
        for thread in tuple(self._threads):
            while self.stopping and thread.is_alive() and thread is not threading.current_thread():
                remaining = until - time.monotonic()
                if remaining <= 0:
                    return
                thread.join(min(remaining, JOIN))

    def _add(self) -> None:
        if self.closed or len(self._threads) >= MAX_WORKERS:
            return
        thread = threading.Thread(target=self._target, args=(os.getpid(),), name="converra", daemon=True)
        self._threads.add(thread)
        try:
            with uwsgi.signals_blocked():
                thread.start()
        except RuntimeError:  # "can't start new thread": at the system's limit, or Python is finalising
            self._threads.discard(thread)

    def continues(self, pid: int) -> bool:
        """Return True while a worker of process `pid` is to work."""
        return not self.stopping and os.getpid() == pid

    def leave(self, pid: int) -> bool:
        """End this thread's work; return True if it was the last one and all were to stop."""
        current = threading.current_thread()  # also if forked: `threading` forgot it, and is about to remove it
        if os.getpid() != pid:
            return False
        with self._counting:
            self._threads.discard(current)
            last = not self._threads
        if last and not self.stopping:  # `start` was called just as this one left
            self.start()
            return False
        return last

    def rest(self, seconds: float) -> bool:
        """Wait to be woken; return False if another worker rests too and no work came for `LINGER` seconds."""
        with self._counting:
            self._resting += 1
            surplus = self._resting > 1
        woken = self._flag.acquire(timeout=min(seconds, LINGER if surplus else threading.TIMEOUT_MAX))
        with self._counting:
            self._resting -= 1
            return woken or not surplus or seconds < LINGER
