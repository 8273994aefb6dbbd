"""The current process, and what starts clean when it turns out to be a forked child.

`os.fork` runs Python's fork hooks. A server that forks in C (uWSGI) runs none, so `check` compares the process id
wherever work is handed over: once per turn, never per chunk.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from converra.process.guard import guard

if TYPE_CHECKING:
    from collections.abc import Callable

_pid = os.getpid()
_cleanups: list[Callable[[], None]] = []
"""Called in each child, in the order of registration. Python cannot remove a fork hook, so there is one for all."""
_cleaning = threading.RLock()
_is_cleaning = False


def in_child(cleanup: Callable[[], None]) -> None:
    """Register a function that every forked child calls before it records anything."""
    if not _cleanups and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_fork)
    _cleanups.append(cleanup)


def check() -> None:
    """Start clean in a child that was forked without Python's hooks. Costs the time of `os.getpid`."""
    if os.getpid() != _pid:
        _start_clean()


def _after_fork() -> None:
    global _cleaning, _is_cleaning
    _cleaning, _is_cleaning = threading.RLock(), False  # another thread of the parent may have held the lock
    _start_clean()


def _start_clean() -> None:
    """Call what was registered, once in each process. Other threads wait: they must not use what is inherited."""
    global _pid, _is_cleaning  # noqa: PLW0603 - says something about the process
    with _cleaning:
        if _is_cleaning or os.getpid() == _pid:
            return
        _is_cleaning = True
        for cleanup in _cleanups:
            with guard("starting clean in a child process"):
                cleanup()
        _pid, _is_cleaning = os.getpid(), False
