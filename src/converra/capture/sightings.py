"""Calls that are captured directly, as a reader of spans recognises them: each call is recorded once.

======  ===========================================================================  ===================================
rule    the span of a captured call is                                               because
======  ===========================================================================  ===================================
inside  the first one that starts in the context of the call after its begin, or     their wrapper is inside
        one that is made after the call, with a start before it
around  the one that was current when the call began                                 their wrapper is outside
answer  one with the provider's id of the answer                                     the context does not show it
======  ===========================================================================  ===================================

Why only the first span inside: a stream stays open for long, and the app may meanwhile call a library in the same
context that is not captured here.
"""

from __future__ import annotations

from contextlib import suppress
from contextvars import ContextVar
from time import time_ns
from typing import Any

from converra.process.telemetry import current_span_ids

MAX_KNOWN = 10_000
"""Calls that are remembered, by each rule."""

FIRST_SPAN_NS = 2_000_000_000
"""Nanoseconds after its begin in which a span may start that is inside of a call."""


class Sighting:
    """One captured call, as spans may tell it."""

    __slots__ = ("_sightings", "began", "is_open", "is_taken", "is_void", "response_id")

    def __init__(self, sightings: Sightings, began: int) -> None:
        self._sightings = sightings
        self.began: int = began
        """Nanoseconds since the epoch."""
        self.is_open: bool = True
        """Its end was not noted; that of a call that an outer layer records never is."""
        self.is_taken: bool = False
        """A span has started inside of it."""
        self.is_void: bool = False
        """Its request was never sent."""
        self.response_id: str | None = None

    def answered(self, response_id: str | None) -> None:
        """Note the provider's id of the answer. Workers call it, when the turn is assembled."""
        if response_id:
            self.response_id = response_id
            _keep(self._sightings.answers, response_id, self)

    def covers(self, started: int) -> bool:
        """Report whether a span that starts now, officially at `started` (nanoseconds), tells this call."""
        if started <= self.began:
            return True
        if self.is_taken or started - self.began > FIRST_SPAN_NS:
            return False
        self.is_taken = True
        return self.is_open


class Sightings:
    """The calls that one recorder captures directly. Without a lock: each step is atomic."""

    def __init__(self) -> None:
        self.inside: dict[int, Sighting] = {}
        """Span id → the call that it started in."""
        self.around: dict[int, Sighting] = {}
        """Span id → the call that began in it."""
        self.answers: dict[str, Sighting] = {}
        """The provider's id of an answer → its call."""

    def begin(self) -> Sighting:
        """Note that a captured call begins here and now."""
        sighting = Sighting(self, time_ns())
        _current.set(sighting)
        span_id = current_span_ids()[1]
        if span_id:
            _keep(self.around, span_id, sighting)
        return sighting

    def saw(self, span_id: int, started: int) -> None:
        """Note that a span starts here and now; `started` is its official start, in nanoseconds since the epoch."""
        sighting = _current.get()
        if sighting is not None and not sighting.is_void and sighting.covers(started):
            _keep(self.inside, span_id, sighting)


_current: ContextVar[Sighting | None] = ContextVar("converra_sighting", default=None)
"""The captured call that began last in this context."""


def _keep(known: dict[Any, Sighting], key: Any, sighting: Sighting) -> None:
    known[key] = sighting
    if len(known) > MAX_KNOWN:
        with suppress(StopIteration, KeyError, RuntimeError):  # another thread may take the oldest out
            del known[next(iter(known))]
