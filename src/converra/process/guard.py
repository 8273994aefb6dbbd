"""The guard: failures of `converra` are counted and logged, and never reach the app.

All blind `except`s of the package are here, except those that every call of the app passes: they catch by themselves
and call `report`, which saves a frame.

Only `Exception` is caught. `KeyboardInterrupt`, `SystemExit`, `GeneratorExit` and `asyncio.CancelledError` belong to
the app and pass. The log names the type of the exception and its location, never its message: that may quote a prompt
or a key.
"""

from __future__ import annotations

import functools
import itertools
import logging
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType

P = ParamSpec("P")
R = TypeVar("R")

logger: logging.Logger = logging.getLogger("converra")

QUIET_SECONDS = 60.0
"""Seconds in which a second message with the same key is counted instead of logged."""

_last: dict[str, float] = {}
_suppressed: dict[str, int] = {}
_caught = itertools.count(1)
_caught_so_far = 0


def caught() -> int:
    """Return the number of failures of `converra` that were caught in this process."""
    return _caught_so_far


def log_limited(key: str, message: str, *args: object, level: int = logging.WARNING) -> bool:
    """Log at most once in `QUIET_SECONDS` for each key; the next line counts the messages that were suppressed.

    Why no lock: a signal handler, a finalizer or a fork could find it taken. Two threads that meet here may both log.

    Args:
        key: What counts as the same message.
        message: The message, with %-placeholders for `args`.
        args: Values for the placeholders.
        level: Level of the log record.

    Returns:
        True if the message was logged.

    """
    now = time.monotonic()
    if now - _last.get(key, -QUIET_SECONDS) < QUIET_SECONDS:
        _suppressed[key] = _suppressed.get(key, 0) + 1
        return False
    _last[key] = now
    suppressed = _suppressed.pop(key, 0)
    if suppressed:
        message += f" ({suppressed} more of these since the last message)"
    logger.log(level, message, *args)
    return True


def reset_log_limits() -> None:
    """Log the next message of each key at once; for tests."""
    _last.clear()
    _suppressed.clear()


class guard:  # noqa: N801 - reads as a statement: `with guard("reading the answer"):`
    """A `with` block that catches, counts and logs an exception of our own code; `what` completes "failed while"."""

    __slots__ = ("what",)

    def __init__(self, what: str) -> None:
        self.what: str = what

    def __enter__(self) -> None:
        """Nothing to set up."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> bool:
        """Report and swallow an `Exception`; let everything else pass."""
        if not isinstance(error, Exception):
            return False
        report(self.what, error)
        return True


def guarded(what: str) -> Callable[[Callable[P, R]], Callable[P, R | None]]:
    """Decorate a function to return None instead of raising; `what` completes "failed while"."""

    def decorate(function: Callable[P, R]) -> Callable[P, R | None]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R | None:
            try:
                return function(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - this is the guard
                report(what, error)
                return None

        return call

    return decorate


def report(what: str, error: BaseException) -> None:
    """Count and log a failure of our own, with its location and the line of the app that led there."""
    global _caught_so_far  # noqa: PLW0603 - a counter without a lock, see `log_limited`
    _caught_so_far = next(_caught)
    with suppress(Exception):  # a logging handler may raise, and nothing is left to report that to
        log_limited(
            f"bug:{what}",
            "converra failed while %s: %s at %s, called from %s. The app is not affected.",
            what,
            type(error).__name__,
            _deepest(error.__traceback__),
            _app_frame(),
        )


def _deepest(tb: TracebackType | None) -> str:
    location = "unknown"
    while tb is not None:
        location = _location(tb.tb_frame, tb.tb_lineno)
        tb = tb.tb_next
    return location


def _app_frame() -> str:
    """Return the location of the nearest frame that is neither ours nor an installed package's."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - what `inspect.currentframe` calls, without importing inspect
    while frame is not None:
        name = frame.f_code.co_filename
        if "site-packages" not in name and not frame.f_globals.get("__name__", "").startswith("converra"):
            return _location(frame, frame.f_lineno)
        frame = frame.f_back
    return "a background thread"


def _location(frame: FrameType, line: int) -> str:
    return f"{frame.f_code.co_filename}:{line} in {frame.f_code.co_name}"
