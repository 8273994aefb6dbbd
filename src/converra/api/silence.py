"""Keeps the HTTP library from logging the requests of capture.

httpx logs each request at INFO, so an app that logs at INFO would read a line for each batch. Levels and handlers are
the app's. A filter on the library's loggers drops the records of requests that are made inside of `silenced()`, in the
current thread, task or greenlet, and passes all others.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PARTS = ("connection", "http11", "http2", "proxy", "socks")
_LOGGERS = (
    *("httpx", "httpx2"),
    *(f"{core}.{part}" for core in ("httpcore", "httpcore2") for part in _PARTS),
)
"""A filter sees what is logged by its own logger, not by the children of it."""

_ours: ContextVar[bool] = ContextVar("converra_request", default=False)


@contextmanager
def silenced() -> Iterator[None]:
    """Drop what the HTTP library logs meanwhile."""
    token = _ours.set(True)
    try:
        yield
    finally:
        _ours.reset(token)


def install() -> None:
    """Put the filter on the loggers of every HTTP library; once more changes nothing."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_is_of_the_app)


def _is_of_the_app(_record: logging.LogRecord) -> bool:
    return not _ours.get()
