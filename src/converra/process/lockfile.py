"""The sign of life of a process that uses a shared outbox: a locked file that the system unlocks when it dies.

A lock, not a heartbeat: it is true at once after a SIGKILL and stays true while a process is suspended.
"""

from __future__ import annotations

import contextlib
import os
import sys

if sys.platform == "win32":  # pragma: no cover - the same in Windows' words
    import msvcrt

    def _lock(fd: int) -> None:
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


class ProcessLock:
    """One process's lock, or that of a dead one that was taken over."""

    def __init__(self, fd: int, path: str) -> None:
        self._fd = fd
        self._path = path

    @classmethod
    def take(cls, outbox: str, token: str) -> ProcessLock | None:
        """Lock the file of an owner; None while that owner lives. Raises OSError where there can be no file."""
        path = f"{outbox}-{token}.lock"
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock(fd)
        except OSError:
            os.close(fd)
            return None
        return cls(fd, path)

    def end(self) -> None:
        """Remove the file: its owner has left nothing."""
        with contextlib.suppress(OSError):
            os.unlink(self._path)  # noqa: PTH108 - the path is a string
        self.abandon()

    def abandon(self) -> None:
        """Let go of the file. In a forked child this leaves the parent's lock as it is."""
        os.close(self._fd)
