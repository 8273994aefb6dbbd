"""A bug of ours is told, and never reaches the app. The only blind `except`s of the package are here.

Or nearly: what every call of the app passes through catches by itself and calls `report`, which saves a frame.

Only `Exception` is held back. `KeyboardInterrupt`, `SystemExit`, `GeneratorExit` and `asyncio.CancelledError` belong
to the app and pass. The message of a caught exception is not logged, since it may quote a prompt or a key: its type
and the place are.
"""

from __future__ import annotations

import functools
import itertools
import logging
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger("converra")

QUIET_SECONDS = 60.0

_last: dict[str, float] = {}
_held: dict[str, int] = {}
_caught = itertools.count(1)
_caught_so_far = 0


def caught() -> int:
    """How many of our own failures have been held back in this process."""
    return _caught_so_far


def log_limited(key: str, message: str, *args: object, level: int = logging.WARNING) -> bool:
    """Log, at most once a minute for each key; what was held back meanwhile is counted in the next line.

    No lock: two threads that meet here may both log once, which is better than a lock that a signal handler, a
    finalizer or a fork could find taken.
    """
    now = time.monotonic()
    if now - _last.get(key, -QUIET_SECONDS) < QUIET_SECONDS:
        _held[key] = _held.get(key, 0) + 1
        return False
    _last[key] = now
    held = _held.pop(key, 0)
    if held:
        message += f" ({held} more of these since the last message)"
    logger.log(level, message, *args)
    return True


def reset_log_limits() -> None:
    """Forget what was told: the next message of each kind is logged at once (for tests and forked children)."""
    _last.clear()
    _held.clear()


class guard:  # noqa: N801 - reads as a statement: `with guard("reading the answer"):`
    """Hold back an exception of our own code in a `with` block."""

    __slots__ = ("what",)

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        """Nothing to set up."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> bool:
        """Report and swallow an `Exception`; let everything else pass."""
        if not isinstance(error, Exception):
            return False
        report(self.what, error)
        return True


def guarded(what: str) -> Callable[[Callable[P, R]], Callable[P, R | None]]:
    """Make a function of ours return None instead of raising."""

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


def listener(what: str, function: Callable[[Any], object]) -> Callable[[Any], None]:
    """Guard a function of one argument that is called for every chunk of a stream, at half the price of `guarded`."""

    def listen(item: Any) -> None:
        try:
            function(item)
        except Exception as error:  # noqa: BLE001 - this is the guard
            report(what, error)

    return listen


def report(what: str, error: BaseException) -> None:
    """Count and tell one failure of our own, with where it happened and which line of the app led there."""
    global _caught_so_far  # noqa: PLW0603 - a counter without a lock, see `log_limited`
    _caught_so_far = next(_caught)
    with suppress(Exception):  # a logging handler may raise, and there is nobody left to tell
        log_limited(
            f"bug:{what}",
            "converra failed while %s: %s at %s, called from %s. The app is not affected.",
            what,
            type(error).__name__,
            _deepest(error.__traceback__),
            _app_frame(),
        )


def _deepest(tb: TracebackType | None) -> str:
    place = "unknown"
    while tb is not None:
        place = _place(tb.tb_frame, tb.tb_lineno)
        tb = tb.tb_next
    return place


def _app_frame() -> str:
    """The nearest frame that is neither ours nor of an installed package."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - what `inspect.currentframe` calls, without importing inspect
    while frame is not None:
        name = frame.f_code.co_filename
        if "site-packages" not in name and not frame.f_globals.get("__name__", "").startswith("converra"):
            return _place(frame, frame.f_lineno)
        frame = frame.f_back
    return "a background thread"


def _place(frame: FrameType, line: int) -> str:
    return f"{frame.f_code.co_filename}:{line} in {frame.f_code.co_name}"
