"""httpx, by whichever of its two names this process has it: the only door to it.

openai 3 speaks httpx2, and asks at every call whether `httpx` is in `sys.modules`. While another thread is importing
it, it is there half made, and the app's call fails with an AttributeError. So a flusher that starts beside a running
app must not import httpx where httpx2 is loaded; the two have the same interface.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

NAMES = ("httpx2", "httpx")
"""In the order in which they are used, if they are loaded already."""


def library() -> Any:
    """The module that makes our own clients."""
    return next(iter(_loaded()), None) or import_module("httpx")


def errors(*names: str, also: tuple[type[Exception], ...] = ()) -> tuple[type[Exception], ...]:
    """The exception classes of these names, of every library that a client may come from, and Python's own."""
    return (*(getattr(module, name) for module in _loaded() for name in names), *also)


def classes(name: str) -> tuple[type[Any], ...]:
    """The classes of this name, of every library that a client may come from."""
    return tuple(getattr(module, name) for module in _loaded())


def _loaded() -> list[ModuleType]:
    found = (sys.modules.get(name) for name in NAMES)
    return [module for module in found if module is not None and not _half_made(module)]


def _half_made(module: ModuleType) -> bool:
    """Whether another thread is importing it at this moment."""
    return bool(getattr(module.__spec__, "_initializing", False))
