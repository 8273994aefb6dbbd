"""A conversation as the viewer shows it: bubbles, tool calls with their results, and what each turn cost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_SHOWN_CHARACTERS = 3000
"""More of one message is folded away."""


_LINE = 60


class Text(NamedTuple):
    """A text, split where the page folds it."""

    shown: str
    folded: str


class Call(NamedTuple):
    """A tool call, and its result where one came."""

    name: str
    id: str
    arguments: str
    """Pretty-printed JSON, or the raw text that was none."""
    result: Text | None
    latency: str | None


class Bubble(NamedTuple):
    """One message as it is shown. Tool results that belong to a call are inside that call instead."""

    role: str
    text: Text | None
    calls: Sequence[Call]
    facts: Sequence[str]
    badges: Sequence[tuple[str, str]]
    """What went wrong or is out of the ordinary: its kind, as the style sheet knows it, and words."""
    notes: Sequence[tuple[str, str]]
    """Folded details: a heading and text."""
    time: str | None


class Totals(NamedTuple):
    """What a conversation adds up to."""

    turns: int
    tokens_in: int
    tokens_out: int
    latency: str | None
    models: Sequence[str]
    calls: int
    troubles: int


def bubbles(messages: Sequence[Mapping[str, Any]]) -> list[Bubble]:
    """The conversation from top to bottom."""
    results = {call_id: message for message in messages if (call_id := _answered(message))}
    asked = {str(call.get("id")) for message in messages for call in _calls(message) if "arguments" in call}
    shown = (message for message in messages if _answered(message) not in asked or not _answered(message))
    return [_bubble(message, results) for message in shown]


def totals(messages: Sequence[Mapping[str, Any]]) -> Totals:
    """Tokens as reported, latency of all calls, and how much went wrong."""
    usages = [_mapping(message.get("usage")) for message in messages]
    waits = [message["latencyMs"] for message in messages if "latencyMs" in message and not _answered(message)]
    return Totals(
        turns=len(messages),
        tokens_in=_whole(sum(usage.get("promptTokens", 0) for usage in usages)),
        tokens_out=_whole(sum(usage.get("completionTokens", 0) for usage in usages)),
        latency=duration(sum(waits)) if waits else None,
        models=list(dict.fromkeys(message["model"] for message in messages if "model" in message)),
        calls=sum("arguments" in call for message in messages for call in _calls(message)),
        troubles=sum(any(kind == "bad" for kind, _ in _badges(message)) for message in messages),
    )


def duration(ms: float) -> str:
    """Milliseconds in the unit that a person would use."""
    if ms < 1000:  # noqa: PLR2004 - a second
        return f"{ms:.0f} ms"
    return f"{ms / 1000:.1f} s" if ms < 60_000 else f"{ms / 60_000:.1f} min"  # noqa: PLR2004 - a minute


def ago(then_ms: int, now_ms: int) -> str:
    """How long ago something was."""
    seconds = max(0, now_ms - then_ms) // 1000
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds // length} {unit} ago"
    return "just now" if seconds < 10 else f"{seconds} s ago"  # noqa: PLR2004 - younger is now


def pretty(value: Any) -> str:
    """JSON as a person reads it, on one line where that is short; text as it is."""
    if isinstance(value, str):
        return value
    line = json.dumps(value, ensure_ascii=False)
    return line if len(line) <= _LINE else json.dumps(value, ensure_ascii=False, indent=2)


def _bubble(message: Mapping[str, Any], results: Mapping[str, Mapping[str, Any]]) -> Bubble:
    calls = [_call(call, results.get(str(call.get("id")))) for call in _calls(message) if "arguments" in call]
    return Bubble(
        role=message["role"],
        text=_text(message["content"]) if message["content"] else None,
        calls=calls,
        facts=list(_facts(message)),
        badges=list(_badges(message)),
        notes=list(_notes(message)),
        time=message.get("timestamp"),
    )


def _call(call: Mapping[str, Any], result: Mapping[str, Any] | None) -> Call:
    return Call(
        name=str(call.get("name", "?")),
        id=str(call.get("id", "")),
        arguments=pretty(call["arguments"]),
        result=_text(_readable(result["content"])) if result else None,
        latency=duration(result["latencyMs"]) if result and "latencyMs" in result else None,
    )


def _calls(message: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = message.get("toolCalls", ())
    return found


def _answered(message: Mapping[str, Any]) -> str | None:
    """The id of the call that a tool result answers."""
    calls = _calls(message)
    if message["role"] != "tool" or len(calls) != 1 or "arguments" in calls[0]:
        return None
    return str(calls[0].get("id")) if "id" in calls[0] else None


def _facts(message: Mapping[str, Any]) -> Iterator[str]:
    """Model, tokens and time, as far as they were reported."""
    usage, metadata = _mapping(message.get("usage")), _mapping(message.get("metadata"))
    if "model" in message:
        yield message["model"]
    if usage:
        yield f"{usage.get('promptTokens', 0):,} → {usage.get('completionTokens', 0):,} tokens"
    elif "tokens" in message:
        yield f"{message['tokens']:,} tokens"
    if "latencyMs" in message:
        yield duration(message["latencyMs"])
    if isinstance(first := metadata.get("timeToFirstTokenMs"), int | float):
        yield f"first token {duration(first)}"


def _badges(message: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    metadata = _mapping(message.get("metadata"))
    if error := metadata.get("error"):
        yield "bad", f"error: {_error(error)}"
    if metadata.get("partial"):
        yield "warn", "cut short"
    if "refusal" in metadata:
        yield "warn", "refused"
    if finish := metadata.get("finishReason"):
        yield "warn", f"finish: {finish}"
    if "replaces" in metadata:
        yield "info", "edited"
    if "part" in metadata:
        yield "info", f"part {metadata['part']} of {metadata.get('parts', '?')}"


def _error(error: Any) -> str:
    if not isinstance(error, dict):
        return str(error)
    return " ".join(str(error[name]) for name in ("type", "status") if error.get(name)) or pretty(error)


def _notes(message: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    metadata = _mapping(message.get("metadata"))
    for name, heading in (
        ("alternatives", "other choices"),
        ("attachments", "attachments"),
        ("reasoning", "reasoning"),
    ):
        if name in metadata:
            yield heading, pretty(metadata[name])
    known = ("role", "content", "timestamp", "model", "tokens", "toolCalls", "usage", "latencyMs")
    if rest := {name: value for name, value in message.items() if name not in known}:
        yield "details", pretty(rest)


def _readable(content: str) -> str:
    """A tool result, pretty-printed where it is a JSON object or list."""
    if not content.lstrip().startswith(("{", "[")):
        return content
    try:
        return pretty(json.loads(content))
    except (ValueError, RecursionError):
        return content


def _text(text: str) -> Text:
    return Text(text[:_SHOWN_CHARACTERS], text[_SHOWN_CHARACTERS:])


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _whole(number: float) -> int:
    return round(number)
