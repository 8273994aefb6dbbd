"""httpx, by whichever of its two names this process has it: the only door to it.

openai 3 speaks httpx2, and asks at every call whether `httpx` is in `sys.modules`. While another thread is importing
it, it is there half made, and the app's call fails with an AttributeError. So a flusher that starts beside a running
app must not import httpx where httpx2 is loaded; the two have the same interface.

httpx logs each request at INFO, so an app that logs at INFO would read a line for each batch. Levels and handlers are
the app's. A filter on the library's loggers drops the records of silent requests, in the thread, task or greenlet that
makes one, and passes all others.
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from converra.api.deadline import under_way

if TYPE_CHECKING:
    from types import ModuleType

NAMES = ("httpx2", "httpx")
"""In the order in which they are used, if they are loaded already."""

_PARTS = ("connection", "http11", "http2", "proxy", "socks")
_LOGGERS = (
    *("httpx", "httpx2"),
    *(f"{core}.{part}" for core in ("httpcore", "httpcore2") for part in _PARTS),
)
"""A filter sees what is logged by its own logger, not by the children of it."""


def library() -> Any:
    """Return the module that makes this package's HTTP clients."""
    return next(iter(_loaded()), None) or import_module("httpx")


def errors(*names: str, also: tuple[type[Exception], ...] = ()) -> tuple[type[Exception], ...]:
    """Return the exception classes of these names, of every library that a client may come from, and Python's own."""
    return (*(getattr(module, name) for module in _loaded() for name in names), *also)


def classes(name: str) -> tuple[type[Any], ...]:
    """Return the classes of this name, of every library that a client may come from."""
    return tuple(getattr(module, name) for module in _loaded())


def _loaded() -> list[ModuleType]:
    found = (sys.modules.get(name) for name in NAMES)
    return [module for module in found if module is not None and not _half_made(module)]


def _half_made(module: ModuleType) -> bool:
    """Return True if another thread is importing the module at this moment."""
    return bool(getattr(module.__spec__, "_initializing", False))


def install_filter() -> None:
    """Put the filter on the loggers of every HTTP library; once more changes nothing."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_is_of_the_app)


def _is_of_the_app(_record: logging.LogRecord) -> bool:
    attempt = under_way.get()
    return attempt is None or not attempt.silent
