"""Patience with a busy machine: a test may wait long, but its outcome must not depend on the load."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

LONG = 120.0
"""Seconds that anything may take on a busy machine. Shorter than pytest's timeout, so that a failure says what it saw.

Pass it as the timeout of every flush, shutdown, join and child process, except where the timeout itself is tested.
"""

HANG = 60.0
"""Seconds after which a test of a short budget calls its overrun a hang, and not a busy machine."""

UNHURRIED = {"CONVERRA_TIMEOUT": str(LONG), "CONVERRA_SHUTDOWN_TIMEOUT": str(LONG)}
"""Settings of a child process whose requests and whose exit take as long as a busy machine needs."""

_ANYTHING_TRUE = object()


def until(look: Callable[[], T], expected: object = _ANYTHING_TRUE) -> T:
    """Poll `look` until it returns what is `expected`, or anything true, and return that.

    Raises AssertionError after `LONG` seconds, with what `look` returned last.
    """
    deadline = time.monotonic() + LONG
    while True:
        seen = look()
        if seen == expected or (expected is _ANYTHING_TRUE and seen):
            return seen
        if time.monotonic() > deadline:
            wanted = "" if expected is _ANYTHING_TRUE else f" instead of {expected!r}"
            raise AssertionError(f"after {LONG:.0f} s still {seen!r}{wanted}")
        time.sleep(0.01)
