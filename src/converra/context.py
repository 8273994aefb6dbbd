"""Which conversation is active here: one context variable, so threads, tasks and generators follow Python's rules."""

from __future__ import annotations

from contextvars import ContextVar

_active: ContextVar[object | None] = ContextVar("converra_conversation", default=None)


def active() -> object | None:
    """Look up what was entered last in this context and not left yet."""
    return _active.get()


class Entered:
    """One entry into a scope, to be left once.

    Leaving never fails: `ContextVar.reset` raises where a block is left in another context than it was entered in, as
    web frameworks do with streamed responses; there is nothing to restore then.
    """

    __slots__ = ("before", "scope")

    def __init__(self, scope: object) -> None:
        self.scope = scope
        self.before = _active.get()
        _active.set(scope)

    def leave(self) -> None:
        """Make what was active before active again, if this is still the active one here."""
        if _active.get() is self.scope:
            _active.set(self.before)
