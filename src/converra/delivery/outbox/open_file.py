"""The outbox file while this process has it open: a connection for each side, and our sign of life."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack

from converra.delivery.outbox import schema
from converra.delivery.outbox.ledger import Ledger
from converra.process.lockfile import ProcessLock

_never_closed: list[object] = []
"""Connections of a parent process. SQLite forbids using or closing them in a child, so they are never let go."""


class OpenFile:
    """`front` is for callers, `ledger` for workers: neither side ever waits for the other within this process."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.broken = False
        token = os.urandom(8).hex()
        with ExitStack() as undo:
            self._connect()
            undo.callback(self._disconnect)
            process_lock = ProcessLock.take(path, token)
            if process_lock is None:
                raise OSError(f"the lock of {path} is taken")
            self._process_lock = process_lock
            undo.callback(process_lock.end)
            self.owner = self.front.execute("INSERT INTO owner (token) VALUES (?)", (token,)).lastrowid or 0
            undo.pop_all()
        self.ledger = Ledger(self._back, path, self.owner)

    def close(self) -> None:
        """Close; what waits in the file is for whoever opens it next."""
        left = self.ledger.release_ownership()
        self._disconnect()
        if left:
            self._process_lock.abandon()
        else:
            self._process_lock.end()

    def pause(self, seconds: float) -> bool:
        """Close both connections until `resume`; no caller is at it. False where workers take too long to finish."""
        if not self.ledger.pause(seconds):
            return False
        self.front.close()
        return True

    def resume(self) -> None:
        """Open them again. Raises what SQLite raises; it is `broken` then, and left to the next process."""
        try:
            self._connect()
        except BaseException:
            self.broken = True
            raise
        finally:
            self.ledger.resume(self._back)

    def _disconnect(self) -> None:
        self.front.close()
        self._back.close()

    def _connect(self) -> None:
        until = time.monotonic() + schema.CALLER_SECONDS
        self.front = schema.connect(self._path, recording=True, until=until)
        try:
            self._back = schema.connect(self._path, recording=False, until=until)
        except BaseException:
            self.front.close()
            raise

    def inherited(self, *, paused: bool) -> None:
        """Leave it to the parent process, after a fork."""
        self._process_lock.abandon()
        if not paused:
            _never_closed.extend((self.front, self._back))
