"""The charts of a conversation: geometry for inline SVG, computed here, drawn by a template."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from converra.server.store.totals import answered, bounded, mapping
from converra.server.viewer.figures import duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WIDTH = 260
HEIGHT = 56
_WIDEST = 18.0
_GAP = 0.25
_BARS = 200
"""Of more answers only the last are drawn."""
_COUNTS = ("promptTokens", "completionTokens")


class Bar(NamedTuple):
    """One rectangle. `kind` is its class, `words` what it says when pointed at."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    words: str


class Chart(NamedTuple):
    """A chart, its title, and the value of its highest bar."""

    title: str
    most: str
    bars: Sequence[Bar]
    width: int = WIDTH
    height: int = HEIGHT


def charts(messages: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Tokens and latency, a bar for each answer of the model; none with less than two bars to compare."""
    answers = [
        message for message in messages if not answered(message) and ("usage" in message or "latencyMs" in message)
    ]
    answers = answers[-_BARS:]
    usages = [mapping(message.get("usage")) for message in answers if mapping(message.get("usage"))]
    waits = [bounded(message["latencyMs"]) for message in answers if "latencyMs" in message]
    tokens = [tuple(bounded(usage.get(name, 0)) for name in _COUNTS) for usage in usages]
    made = []
    if len(tokens) > 1 and any(map(sum, tokens)):
        words = [f"{sent:,.0f} tokens in, {received:,.0f} out" for sent, received in tokens]
        made.append(Chart("Tokens per answer", f"{max(map(sum, tokens)):,.0f}", _stacked(tokens, ("in", "out"), words)))
    if len(waits) > 1 and any(waits):
        words = [str(duration(wait)) for wait in waits]
        bars = _stacked([(wait,) for wait in waits], ("wait",), words)
        made.append(Chart("Latency per answer", str(duration(max(waits))), bars))
    return made


def _stacked(values: Sequence[Sequence[float]], kinds: Sequence[str], words: Sequence[str]) -> list[Bar]:
    """Bars side by side, the parts of each on top of each other."""
    most = max(map(sum, values))
    step = min(_WIDEST, WIDTH / len(values))
    bars = []
    for place, (parts, said) in enumerate(zip(values, words, strict=True)):
        top = float(HEIGHT)
        for kind, part in zip(kinds, parts, strict=True):
            height = part / most * HEIGHT
            top -= height
            width = step * (1 - _GAP)
            bars.append(Bar(round(place * step, 2), round(top, 2), round(width, 2), round(height, 2), kind, said))
    return bars
