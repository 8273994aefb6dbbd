"""Long waits in short steps, so that a signal is handled soon, whatever the main thread waits for.

Python runs the handler of a signal on the main thread, between two steps of its code. A wait in C is interrupted only
if the signal comes while that thread waits in it. If it comes a moment before, or the system gives it to another
thread, the handler would run after the whole wait.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import threading

STEP = 0.2
"""Longest step, in seconds."""


def event(waited: threading.Event, until: float) -> bool:
    """Wait for an event until a time of the monotonic clock; return True if it is set."""
    while not waited.wait(max(0.0, min(STEP, until - time.monotonic()))):
        if time.monotonic() >= until:
            return False
    return True


def lock(wanted: Any, seconds: float) -> bool:
    """Acquire a lock within `seconds`; return False if it is not free by then."""
    until = time.monotonic() + seconds
    while not wanted.acquire(timeout=max(0.0, min(STEP, until - time.monotonic()))):
        if time.monotonic() >= until:
            return False
    return True


def sleep(seconds: float) -> None:
    """Sleep."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(STEP, left))


def thread(ending: threading.Thread, until: float) -> None:
    """Wait for the end of a thread until a time of the monotonic clock."""
    while ending.is_alive() and (left := until - time.monotonic()) > 0:
        ending.join(min(STEP, left))
