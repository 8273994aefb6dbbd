"""A conversation as one timeline: answers and tool calls with how long they took, what they used and cost."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from converra.server.store.totals import answered, bounded, failed, mapping
from converra.server.store.totals import calls as calls_of
from converra.server.viewer import costs, texts
from converra.server.viewer.chat_view import moment
from converra.server.viewer.figures import duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

WIDTH = 1000
_LEAST = 4
"""The width of the shortest bar."""
_PAUSE_MS = 3_000.0
"""Longer pauses are drawn as long as this one."""
_WORDS = 80


class Row(NamedTuple):
    """One message on the timeline."""

    at: int
    kind: str
    """`user`, `model`, `tool` or `system`, and the class of the bar."""
    label: str
    words: str
    time: str | None
    pause: str | None
    """The time before it without any message, if that is longer than it is drawn."""
    x: float
    width: float
    failed: bool
    latency: str | None
    tokens: str | None
    cost: str | None


class _Span(NamedTuple):
    start: float
    end: float
    pause: float


class Sums(NamedTuple):
    """Times of a whole timeline, as a person reads them."""

    model: str | None
    tools: str | None
    between: str | None
    """Time in which neither worked: the user, or the app."""


def timeline(messages: Sequence[Mapping[str, Any]], shown: range) -> list[Row]:
    """Build the rows of the messages at some places, on a scale of their own."""
    names = {str(call.get("id")): str(call.get("name", "?")) for message in messages for call in calls_of(message)}
    spans = list(_spans([messages[at] for at in shown]))
    whole = max((span.end for span in spans), default=0.0) or 1.0
    return [
        _row(at, messages[at], span, WIDTH / whole, names.get(answered(messages[at]) or ""))
        for at, span in zip(shown, spans, strict=True)
    ]


def sums(messages: Sequence[Mapping[str, Any]]) -> Sums:
    """Add up the time of the model and of the tools, and the rest between the first message and the last."""
    tools = sum(_latency(message) for message in messages if answered(message))
    model = sum(_latency(message) for message in messages if not answered(message))
    times = [at for message in messages if (at := _said_at(message)) is not None]
    between = max(0.0, max(times) - min(times) - tools - model) if times else 0.0
    return Sums(*(duration(ms) if ms else None for ms in (model, tools, between)))


def _spans(messages: Sequence[Mapping[str, Any]]) -> Iterator[_Span]:
    """Yield where each message begins and ends, in milliseconds without the long pauses.

    A message without a time follows the one before it.
    """
    drawn = said = None
    for message in messages:
        latency, end = _latency(message), _said_at(message)
        start = None if end is None else end - latency
        gap = 0.0 if start is None or said is None else max(0.0, start - said)
        begin = (drawn or 0.0) + min(gap, _PAUSE_MS)
        if start is not None and said is not None and start < said:  # while the one before went on: parallel tools
            begin = max(0.0, begin - min(said - start, latency))
        yield _Span(begin, begin + latency, gap if gap > _PAUSE_MS else 0.0)
        drawn = max(drawn or 0.0, begin + latency)
        said = end if end is not None and (said is None or end > said) else said


def _row(at: int, message: Mapping[str, Any], span: _Span, scale: float, tool: str | None) -> Row:
    usage = mapping(message.get("usage"))
    price = costs.of(message)
    width = max(_LEAST, (span.end - span.start) * scale)
    return Row(
        at=at,
        kind=_kind(message),
        label=_label(message, tool),
        words=texts.title(message["content"][: 4 * _WORDS])[:_WORDS],
        time=moment(message.get("timestamp")),
        pause=duration(span.pause) if span.pause else None,
        x=round(min(span.start * scale, WIDTH - width), 1),
        width=round(width, 1),
        failed=failed(message),
        latency=duration(message["latencyMs"]) if "latencyMs" in message else None,
        tokens=f"{usage.get('promptTokens', 0):,} → {usage.get('completionTokens', 0):,}" if usage else None,
        cost=None if price is None else costs.money(price),
    )


def _kind(message: Mapping[str, Any]) -> str:
    if message["role"] in ("user", "system"):
        return str(message["role"])
    return "tool" if answered(message) else "model"


def _label(message: Mapping[str, Any], tool: str | None) -> str:
    if answered(message):
        return tool or "tool"
    asked = [str(call.get("name", "?")) for call in calls_of(message) if "arguments" in call]
    if asked:
        return f"calls {', '.join(asked)}"
    return str(message.get("model") or message["role"]) if message["role"] == "assistant" else str(message["role"])


def _latency(message: Mapping[str, Any]) -> float:
    return bounded(message.get("latencyMs", 0))


def _said_at(message: Mapping[str, Any]) -> float | None:
    iso = moment(message.get("timestamp"))
    return datetime.fromisoformat(iso).timestamp() * 1000 if iso else None
