"""The threads that send: a few, started when there is something to do, never while Python finalises.

They are daemons, since a thread that hangs in a socket must not keep the process alive. While one sends, another one
watches what becomes due, so that a slow answer holds up nobody else. Callers wake them through a bare lock used as a
flag: `release` and `acquire` are single steps in C, so a signal handler or a finalizer that interrupts a caller may
wake them too. An Event or a Condition could be found half set.

Green threads (gevent, eventlet) survive a fork: a worker knows its process, and ends in any other.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

from converra.process import uwsgi
from converra.process.telemetry import suppressed

if TYPE_CHECKING:
    from collections.abc import Callable

MOST = 4
LINGER = 10.0
"""Seconds for which a second idle worker stays."""

JOIN = 0.2
"""Longest wait for a worker that may hang in a request, in seconds."""


class Workers:
    """Run `turn` again and again, in one thread or several; `finished` when the last one has gone.

    `turn` does one piece of work and returns None, or returns the seconds that it may rest (infinity: until woken).
    """

    def __init__(self, turn: Callable[[], float | None], finished: Callable[[], None]) -> None:
        self._turn = turn
        self._finished = finished
        self._starting = threading.RLock()
        self._counting = threading.Lock()
        """Only workers take it, as all their locks."""
        self._flag = threading.Lock()
        self._flag.acquire()
        self._threads: set[threading.Thread] = set()
        self._resting = 0
        self.stopping = False
        self.closed = False
        """No thread can be started any more: the interpreter is on its way out."""

    @property
    def alive(self) -> bool:
        """Whether anybody works."""
        return any(thread.is_alive() for thread in tuple(self._threads))

    @property
    def here(self) -> bool:
        """Whether this is a worker's own thread."""
        return threading.current_thread() in self._threads

    def start(self) -> None:
        """Have at least one worker."""
        with self._starting:
            self.stopping = False
            if not self.alive:
                self._threads.clear()
                self._resting = 0
                self._add()

    def wake(self) -> None:
        """Let one of those that rest look for work."""
        try:
            self._flag.release()
        except RuntimeError:  # it is set already
            return

    def watch(self, *, more: bool) -> None:
        """See to it that somebody watches while this worker is busy; at once where there is `more` to do."""
        if not self._resting:
            self._add()
        elif more:
            self.wake()

    def stop(self) -> None:
        """Let all go once they have finished what they are at."""
        self.stopping = True
        self.wake()

    def abandon(self) -> None:
        """End the green threads that came along into a child process, and start no more."""
        self.stopping = self.closed = True
        self.wake()

    def join(self, timeout: float, *, idle: bool) -> None:
        """Wait until the workers are gone, or were started again: at most `timeout` seconds, hardly if not `idle`."""
        until = time.monotonic() + (timeout if idle else min(timeout, JOIN))
        for thread in tuple(self._threads):
            while self.stopping and thread.is_alive() and thread is not threading.current_thread():
                left = until - time.monotonic()
                if left <= 0:
                    return
                thread.join(min(left, JOIN))

    def _add(self) -> None:
        if self.closed or len(self._threads) >= MOST:
            return
        thread = threading.Thread(target=self._run, args=(os.getpid(),), name="converra", daemon=True)
        self._threads.add(thread)
        try:
            with uwsgi.signals_blocked():
                thread.start()
        except RuntimeError:  # "can't start new thread": at the system's limit, or Python is finalising
            self._threads.discard(thread)

    def _run(self, pid: int) -> None:
        with suppressed():
            while self._continues(pid):
                rest = self._turn()
                if rest is not None and self._continues(pid) and not self._rest(rest):
                    break
            if os.getpid() == pid:
                self._leave()
            else:
                threading.current_thread()  # registers this thread again, which `threading` will want to remove
        self.wake()  # whoever rests takes over, or goes as well

    def _continues(self, pid: int) -> bool:
        return not self.stopping and os.getpid() == pid

    def _leave(self) -> None:
        with self._counting:
            self._threads.discard(threading.current_thread())
            last = not self._threads
        if last and self.stopping:
            self._finished()
        elif last:  # they were started again just as this one went
            self.start()

    def _rest(self, seconds: float) -> bool:
        """Wait to be woken; False where another one waits already and nobody called for a while."""
        with self._counting:
            self._resting += 1
            surplus = self._resting > 1
        woken = self._flag.acquire(timeout=min(seconds, LINGER if surplus else threading.TIMEOUT_MAX))
        with self._counting:
            self._resting -= 1
            return woken or not surplus or seconds < LINGER
