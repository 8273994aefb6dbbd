"""The charts of a conversation: geometry for inline SVG, computed here, drawn by a template."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from converra.server.store.totals import answered, bounded, mapping
from converra.server.viewer import costs
from converra.server.viewer.figures import count, duration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

WIDTH = 260
HEIGHT = 56
_WIDEST = 18.0
_GAP = 0.25
_BARS = 130
"""Of more answers only the last are drawn."""
_COUNTS = ("promptTokens", "completionTokens")


class Bar(NamedTuple):
    """One rectangle. `kind` is its class, `words` what the page says when it is pointed at."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    words: str


class Chart(NamedTuple):
    """A chart and the words of its axes."""

    title: str
    most: str
    """The value of the highest bar, exactly."""
    bars: Sequence[Bar]
    scale: Sequence[str]
    """The values at the top, in the middle and at the bottom."""
    ends: tuple[str, str]
    """The numbers of the first and the last answer."""
    width: int = WIDTH
    height: int = HEIGHT


class _Value(NamedTuple):
    """The value of one answer: the parts that are stacked, and what it says."""

    number: int
    parts: Sequence[float]
    words: str


def charts(messages: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Tokens, latency and cost, a bar for each answer of the model; none with less than two bars to compare."""
    answers = [
        message for message in messages if not answered(message) and ("usage" in message or "latencyMs" in message)
    ]
    drawn = [
        _chart("Tokens per answer", ("in", "out"), _values(answers, _tokens), lambda most: count(round(most))),
        _chart("Latency per answer", ("wait",), _values(answers, _latency), lambda most: str(duration(most))),
        _chart("Cost per answer", ("cost",), _values(answers, _cost), lambda most: costs.money(Decimal(most))),
    ]
    return [chart for chart in drawn if chart is not None]


def _values(
    answers: Sequence[Mapping[str, Any]], read: Callable[[Mapping[str, Any]], tuple[Sequence[float], str] | None]
) -> list[_Value]:
    """Read the answers that have such a value; their numbers count all answers."""
    found = ((number, read(answer)) for number, answer in enumerate(answers, 1))
    return [_Value(number, *value) for number, value in found if value is not None][-_BARS:]


def _tokens(answer: Mapping[str, Any]) -> tuple[Sequence[float], str] | None:
    usage = mapping(answer.get("usage"))
    if not usage:
        return None
    sent, received = (bounded(usage.get(name, 0)) for name in _COUNTS)
    return (sent, received), f"{sent:,.0f} tokens in, {received:,.0f} out"


def _latency(answer: Mapping[str, Any]) -> tuple[Sequence[float], str] | None:
    if "latencyMs" not in answer:
        return None
    wait = bounded(answer["latencyMs"])
    return (wait,), str(duration(wait))


def _cost(answer: Mapping[str, Any]) -> tuple[Sequence[float], str] | None:
    dollars = costs.of(answer)
    return None if dollars is None else ((float(dollars),), costs.about(dollars))


def _chart(title: str, kinds: Sequence[str], values: Sequence[_Value], shown: Callable[[float], str]) -> Chart | None:
    most = max((sum(value.parts) for value in values), default=0)
    if len(values) < 2 or not most:  # noqa: PLR2004 - two, to compare
        return None
    exact = f"{most:,.0f}" if len(kinds) > 1 else shown(most)
    scale = (shown(most), shown(most / 2), "0")
    ends = (f"{values[0].number:,}", f"{values[-1].number:,}")
    return Chart(title, exact, _stacked(values, kinds, most), scale, ends)


def _stacked(values: Sequence[_Value], kinds: Sequence[str], most: float) -> list[Bar]:
    """Bars side by side, the parts of each on top of each other."""
    step = min(_WIDEST, WIDTH / len(values))
    width = step * (1 - _GAP)
    bars = []
    for place, value in enumerate(values):
        top = float(HEIGHT)
        for kind, part in zip(kinds, value.parts, strict=True):
            height = part / most * HEIGHT
            top -= height
            x, y, w, h = (round(size, 2) for size in (place * step, top, width, height))
            bars.append(Bar(x, y, w, h, kind, f"Answer {value.number:,}: {value.words}"))
    return bars
