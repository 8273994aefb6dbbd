"""Which conversation is active here, and what an outer layer has claimed to record.

Both are context variables, so threads, tasks and generators follow Python's rules.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol

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


class Claim(Protocol):
    """What a layer above (a framework's handler) records itself, though layers below (a client's patch) see it too."""

    def covers(self, model: str | None) -> bool:
        """Say whether a call that begins here, now, of this model, is part of it."""


_claim: ContextVar[Claim | None] = ContextVar("converra_claim", default=None)


def claim(layer: Claim) -> None:
    """Claim the calls that begin in this context from now on, as far as the claim covers them."""
    _claim.set(layer)


def claimed(model: str | None) -> bool:
    """Say whether the call that begins here is recorded by an outer layer."""
    present = _claim.get()
    return present is not None and present.covers(model)
