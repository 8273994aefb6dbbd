"""The recordings of one recorder: all that are alive, and those that end by silence.

A conversation that the user opens is completed by the user. Implicit conversations and the sessions of frameworks (a
LangGraph thread, a handler's session) have no explicit end: silence, or the end of the process, completes them.
"""

from __future__ import annotations

import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING

from converra.capture.implicit import ImplicitConversations
from converra.process.guard import guard
from converra.process.jobs import JobQueue, PeriodicTask

if TYPE_CHECKING:
    from collections.abc import Iterable

    from converra.capture.recording import Recording
    from converra.history.turn import Origin

    Key = tuple[str, str]

MIN_SWEEP, MAX_SWEEP = 0.2, 30.0
"""Bounds, in seconds, of the interval between two sweeps, which is a quarter of `idle_timeout`."""

MAX_OPEN = 10_000
"""Open sessions of frameworks; past it, the one that has been silent longest is completed."""

MAX_READINGS = 1_000
"""Attempts to copy the set of recordings while other threads add to it."""


class Registry:
    """Keeps track of recordings, and completes those that nothing else completes.

    A worker of delivery runs the `sweeper` now and then while a conversation is open that only silence ends.
    """

    def __init__(self, jobs: JobQueue, idle_timeout: float) -> None:
        self._jobs = jobs
        self._idle_timeout = idle_timeout
        self.recordings: weakref.WeakSet[Recording] = weakref.WeakSet()
        """All of them, each for as long as something else refers to it."""
        every = max(MIN_SWEEP, min(idle_timeout / 4, MAX_SWEEP))
        self.sweeper: PeriodicTask = PeriodicTask(jobs, every, Registry.sweep, self)
        self.implicit: ImplicitConversations = ImplicitConversations(jobs, idle_timeout, self.sweeper)
        self.sessions: Sessions = Sessions(jobs, self.sweeper)

    def alive(self) -> list[Recording]:
        """List all recordings. Iterating a set that another thread adds to raises, so it is tried again."""
        for _ in range(MAX_READINGS):
            with suppress(RuntimeError):
                return list(self.recordings)
        return []

    def sweep(self) -> None:
        """Complete the implicit conversations and frameworks' sessions that were silent for `idle_timeout` seconds."""
        for recording in [
            *self.implicit.take_silent(self._idle_timeout),
            *self.sessions.take_silent(self._idle_timeout),
        ]:
            recording.end()
        if self.implicit.is_open or self.sessions.is_open:
            self.sweeper.wanted = True

    def end_origin(self, origin: Origin) -> None:
        """Complete what was recorded for a framework's handler."""
        for recording in [r for r in self.alive() if r.origin is origin]:
            recording.end()

    def close(self, *, exiting: bool = False) -> None:
        """Record what has arrived of open streams, and complete every conversation that has no explicit end.

        Delivery cannot do the second: to it, a framework's session looks like one that the app keeps open. While the
        process is `exiting`, implicit conversations are still found: daemon threads and exit handlers may continue one.
        """
        for recording in self.alive():
            with guard("closing open streams"):
                recording.cut()
        if exiting:
            _end(self.implicit.all(), final=False)
        else:
            _end(self.implicit.take_all())
        _end(self.sessions.take_all())

    def complete_implicit(self) -> None:
        """Complete the implicit conversations."""
        _end(self.implicit.take_all())

    def after_fork(self) -> None:
        """Start clean in a child process: the parent delivers what it has captured, and completes what it has opened.

        A block that was active continues in the child as a conversation of its own, a session as the same one, joined.
        """
        self.implicit.reset()
        for recording in self.alive():
            recording.after_fork()


def _end(recordings: Iterable[Recording], *, final: bool = True) -> None:
    for recording in recordings:
        with guard("completing an open conversation"):
            recording.end(final=final)


class Sessions:
    """Open conversations with a session id, by prompt id and session id: the user's, and those of frameworks."""

    def __init__(self, jobs: JobQueue, sweeper: PeriodicTask) -> None:
        self._jobs = jobs
        self._sweeper = sweeper
        self._open: dict[Key, Recording] = {}
        self._of_frameworks: dict[Key, Recording] = {}

    def find(self, key: Key) -> Recording | None:
        """Return the open conversation of this prompt and session."""
        with self._jobs.lock:
            recording = self._open.get(key)
            if recording is None or not recording.ended:
                return recording
            self._forget(key)
            return None

    def add(self, key: Key, recording: Recording, *, of_framework: bool = False) -> Recording:
        """Remember a conversation; return the one to use, since another thread may have opened it first.

        Args:
            key: Prompt id and session id.
            recording: The conversation.
            of_framework: True for a framework's session, which ends by silence.

        """
        with self._jobs.lock:
            kept = self.find(key) or self._open.setdefault(key, recording)
            if of_framework and kept is recording:
                self._of_frameworks[key] = recording
                self._sweeper.wanted = True
            return kept

    @property
    def is_open(self) -> bool:
        """True while a framework's session is open."""
        return bool(self._of_frameworks)

    def take_silent(self, seconds: float) -> list[Recording]:
        """Remove and return frameworks' sessions that were silent for `seconds`, and the oldest past `MAX_OPEN`.

        A session whose run was interrupted waits, perhaps for a human being, and does not count as silent.
        """
        before = time.monotonic() - seconds
        with self._jobs.lock:
            idle = sorted(((r.used, key) for key, r in self._of_frameworks.items() if not r.busy))
            overdue = max(0, len(self._of_frameworks) - MAX_OPEN)
            silent = [key for used, key in idle[overdue:] if used < before and not self._of_frameworks[key].paused]
            return [self._forget(key) for key in (*(key for _, key in idle[:overdue]), *silent)]

    def take_all(self) -> list[Recording]:
        """Remove and return all frameworks' sessions except those that are to be resumed."""
        with self._jobs.lock:
            return [self._forget(key) for key, r in list(self._of_frameworks.items()) if not r.paused]

    def pause(self, session_id: str, prompt_id: str | None, *, paused: bool) -> None:
        """Note that the run of a framework's session has paused or ended; `prompt_id=None` means all its prompts."""
        for recording in self.of_framework(session_id, prompt_id):
            recording.paused = paused

    def of_framework(self, session_id: str, prompt_id: str | None) -> list[Recording]:
        """Return the open conversations of a framework's session; `prompt_id=None` means all its prompts."""
        with self._jobs.lock:
            open_now = self._of_frameworks.items()
            return [r for key, r in open_now if key[1] == session_id and prompt_id in (None, key[0])]

    def _forget(self, key: Key) -> Recording:
        self._of_frameworks.pop(key, None)
        return self._open.pop(key)
