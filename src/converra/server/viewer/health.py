"""Health of the two APIs: the last requests as a strip of ticks, and their summary."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, NamedTuple

from converra.server.viewer.figures import duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converra.server.store.records import RequestLine

LATELY = 100
"""Requests that the strip shows."""

_REFUSED = 400
_FAILED = 500


class Tick(NamedTuple):
    """One request of the strip: its number, how it went, and that in words."""

    number: int
    outcome: str
    words: str


class Health(NamedTuple):
    """The last requests, oldest first."""

    ticks: Sequence[Tick]
    counts: dict[str, int]
    """By outcome: `served`, `refused`, `failed`, `unanswered`."""
    median: str | None


def health(lines: Sequence[RequestLine]) -> Health:
    """From the newest lines of the log, newest first."""
    ticks = [_tick(line) for line in reversed(lines)]
    outcomes = [tick.outcome for tick in ticks]
    waits = [line.ms for line in lines if line.ms is not None and line.status is not None]
    counts = {name: outcomes.count(name) for name in ("served", "refused", "failed", "unanswered")}
    return Health(ticks, counts, duration(statistics.median(waits)) if waits else None)


def outcome(status: int | None) -> str:
    """Classify a request by its status."""
    if status is None:
        return "unanswered"
    if status >= _FAILED:
        return "failed"
    return "refused" if status >= _REFUSED else "served"


def _tick(line: RequestLine) -> Tick:
    went = outcome(line.status)
    fault = f", fault: {line.fault}" if line.fault else ""
    return Tick(line.number, went, f"{line.method} {line.path}: {line.status or 'no answer'}{fault}")
