"""Process locks: a file that a process of a shared outbox keeps locked, and that the system unlocks when it dies.

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
    """The lock of this process, or that of a dead process whose rows are being adopted."""

    def __init__(self, fd: int, path: str) -> None:
        self._fd = fd
        self._path = path

    @classmethod
    def take(cls, outbox: str, token: str) -> ProcessLock | None:
        """Lock the file of an owner; return None while that owner is alive.

        Args:
            outbox: Path of the outbox file.
            token: Token of the owner, part of the name of its lock file.

        Raises:
            OSError: The lock file cannot be created.

        """
        path = f"{outbox}-{token}.lock"
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock(fd)
        except OSError:
            os.close(fd)
            return None
        return cls(fd, path)

    def end(self) -> None:
        """Remove the file and unlock it: its owner has left no rows."""
        self.remove()
        self.abandon()

    def remove(self) -> None:
        """Remove the file; it stays locked. Called before the owner's row is gone for good.

        After a crash in between, the row leads the next process to the file, which `take` makes again. The other way
        round, the file would stay for ever.
        """
        with contextlib.suppress(OSError):
            os.unlink(self._path)  # noqa: PTH108 - the path is a string

    def abandon(self) -> None:
        """Close the file without removing it. In a forked child this leaves the parent's lock as it is."""
        os.close(self._fd)
