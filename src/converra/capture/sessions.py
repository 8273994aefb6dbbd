"""The conversations that have a session id, in this process: those that the user keeps open, and those of frameworks.

A framework's session (a LangGraph thread, a handler's session) is opened by its first call, and nobody says when it is
over: it ends by silence, or with the process.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from converra.capture.recording import Recording
    from converra.process.jobs import JobQueue

    Key = tuple[str, str]

MAX_OPEN = 10_000
"""Sessions of frameworks that are open at a time; past it, the one that has been silent longest is completed."""


class Sessions:
    """Open conversations by prompt id and session id."""

    def __init__(self, jobs: JobQueue) -> None:
        self._jobs = jobs
        self._open: dict[Key, Recording] = {}
        self._of_frameworks: dict[Key, Recording] = {}

    def find(self, key: Key) -> Recording | None:
        """The open conversation of this prompt and session."""
        with self._jobs.lock:
            recording = self._open.get(key)
            if recording is None or not recording.ended:
                return recording
            self._forget(key)
            return None

    def add(self, key: Key, recording: Recording, *, lent: bool = False) -> Recording:
        """Remember a conversation; the one that another thread was quicker to open wins.

        One that is lent to a framework ends by silence.
        """
        with self._jobs.lock:
            kept = self.find(key) or self._open.setdefault(key, recording)
            if lent and kept is recording:
                self._of_frameworks[key] = recording
            return kept

    @property
    def waiting(self) -> bool:
        """Whether any of a framework's is open."""
        return bool(self._of_frameworks)

    def silent(self, seconds: float) -> list[Recording]:
        """Take out those of frameworks that have been silent for so long, and those past the bound.

        One whose run was interrupted waits, for a human being perhaps, and does not count as silent.
        """
        before = time.monotonic() - seconds
        with self._jobs.lock:
            idle = sorted(((r.used, key) for key, r in self._of_frameworks.items() if not r.busy))
            overdue = max(0, len(self._of_frameworks) - MAX_OPEN)
            silent = [key for used, key in idle[overdue:] if used < before and not self._of_frameworks[key].paused]
            return [self._forget(key) for key in (*(key for _, key in idle[:overdue]), *silent)]

    def all(self) -> list[Recording]:
        """Take out those of frameworks, but for those that are to be resumed."""
        with self._jobs.lock:
            return [self._forget(key) for key, r in list(self._of_frameworks.items()) if not r.paused]

    def pause(self, session_id: str, prompt_id: str | None, *, paused: bool) -> None:
        """Note that a run of a framework's session has paused or ended; without a prompt, for all of its prompts."""
        with self._jobs.lock:
            keys = (
                [k for k in self._of_frameworks if k[1] == session_id]
                if prompt_id is None
                else [(prompt_id, session_id)]
            )
            for recording in filter(None, map(self._of_frameworks.get, keys)):
                recording.paused = paused

    def _forget(self, key: Key) -> Recording:
        self._of_frameworks.pop(key, None)
        return self._open.pop(key)
