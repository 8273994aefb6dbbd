"""A conversation as the viewer shows it: bubbles, tool calls with their results, and what each turn cost."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from converra.server.store.totals import answered, failed, mapping
from converra.server.store.totals import calls as calls_of
from converra.server.viewer import costs, emitters, prompt_diff
from converra.server.viewer.figures import duration, size
from converra.server.viewer.texts import SHOWN_CHARACTERS, Text, Texts, pretty, without_placeholders
from converra.wire.models import is_added

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

_SHOWN_OF_PROMPTS = 600
"""System prompts are long, and not what one comes to read."""

_PREVIEW = 90
_READ_FOR_PREVIEW = 2_000

_PLACED = ("role", "content", "timestamp", "model", "tokens", "toolCalls", "usage", "latencyMs")
"""The fields of a message that have a place on the page."""


class ShownCall(NamedTuple):
    """A tool call, and its result where one came."""

    key: str
    """Its id on the page."""
    name: str
    preview: str
    """The arguments, and what came of them, as far as one line holds them."""
    arguments: Text
    """Pretty-printed JSON, or the raw text that was none."""
    result: Text | None
    failed: bool
    latency: str | None
    notes: Sequence[tuple[str, str]]
    answered_at: int | None
    """The place of the result among the messages."""


class Bubble(NamedTuple):
    """One message as it is shown. Tool results that belong to a call are inside that call instead."""

    at: int
    """The place among the messages."""
    role: str
    label: str
    text: Text | None
    calls: Sequence[ShownCall]
    attachments: Sequence[str]
    facts: Sequence[str]
    badges: Sequence[tuple[str, str]]
    """A failure or another notable fact: its kind, as the style sheet names it, and a text."""
    replaces: int | None
    """The place of the message that this one takes the place of."""
    notes: Sequence[tuple[str, str]]
    """Folded details: a heading and text."""
    rest: str | None
    """The fields that have no place of their own on the page, as JSON."""
    time: str | None
    """When it was said, in UTC."""


Placed = tuple[int, "Mapping[str, Any]"]
"""A message and its place."""


class _Chat(NamedTuple):
    """The conversation around a message."""

    messages: Sequence[Mapping[str, Any]]
    results: Mapping[str, Placed]
    """The tool results by the ids of their calls."""
    places: Mapping[str, int]
    """The places of the messages by their ids."""
    texts: Texts


def bubbles(
    messages: Sequence[Mapping[str, Any]], *, only: Collection[int] | None = None, texts: Texts | None = None
) -> list[Bubble]:
    """Build the conversation from top to bottom, or `only` the messages at some places."""
    results = {call_id: (at, message) for at, message in enumerate(messages) if (call_id := answered(message))}
    asked = {str(call.get("id")) for message in messages for call in calls_of(message) if "arguments" in call}
    places = {str(known): at for at, message in enumerate(messages) if (known := _metadata(message).get("messageId"))}
    chat = _Chat(messages, results, places, texts or Texts())
    return [
        _bubble(at, chat)
        for at, message in enumerate(messages)
        if (only is None or at in only) and (not (call_id := answered(message)) or call_id not in asked)
    ]


def callers(messages: Sequence[Mapping[str, Any]], since: int) -> set[int]:
    """Return the places before `since` of messages with a call that a later message answers."""
    late = {call_id for message in messages[since:] if (call_id := answered(message))}
    return {
        at
        for at, message in enumerate(messages[:since])
        if any(str(call.get("id")) in late for call in calls_of(message) if "arguments" in call)
    }


def _bubble(at: int, chat: _Chat) -> Bubble:
    message = chat.messages[at]
    made = [call for call in calls_of(message) if "arguments" in call]
    attachments = [_attachment(each) for each in _listed(_metadata(message).get("attachments"))]
    changed = _prompt_change(at, chat.messages)
    return Bubble(
        at=at,
        role=message["role"],
        label=_label(message, calling=bool(made)),
        text=_text(message, chat.texts, len(attachments)),
        calls=[
            _call(f"m{at}c{place}", call, chat.results.get(str(call.get("id"))), chat.texts)
            for place, call in enumerate(made)
        ],
        attachments=attachments,
        facts=list(_facts(message)),
        badges=[*([("info", "prompt changed")] if changed else []), *_badges(message)],
        replaces=chat.places.get(str(_metadata(message).get("replaces"))),
        notes=[*_named("what changed", changed), *_notes(message)],
        rest=_rest(message),
        time=moment(message.get("timestamp")),
    )


def _text(message: Mapping[str, Any], texts: Texts, attachments: int) -> Text | None:
    text = without_placeholders(message["content"], attachments)
    if not text:
        return None
    if message["role"] == "tool":
        return texts.data(text)
    return texts.markdown(text, _SHOWN_OF_PROMPTS if _is_prompt(message) else SHOWN_CHARACTERS)


def _label(message: Mapping[str, Any], *, calling: bool) -> str:
    if message["role"] != "tool":
        return str(message["role"]).capitalize()
    names = ", ".join(str(call["name"]) for call in calls_of(message) if call.get("name"))
    return "Tool call" if calling else f"Result of {names}" if names else "Tool result"


def _call(key: str, call: Mapping[str, Any], found: Placed | None, texts: Texts) -> ShownCall:
    at, result = found or (None, None)
    outcome = texts.data(result["content"]) if result else None
    return ShownCall(
        key=key,
        name=str(call.get("name", "?")),
        preview=_preview(call["arguments"], outcome.shown if outcome else None),
        arguments=texts.data(call["arguments"]),
        result=outcome,
        failed=result is not None and failed(result),
        latency=duration(result["latencyMs"]) if result and "latencyMs" in result else None,
        notes=[*_notes(result), *_named("details", _rest(result))] if result else [],
        answered_at=at,
    )


def _preview(arguments: Any, outcome: str | None) -> str:
    """As a person would write the call down."""
    if isinstance(arguments, dict):
        given = ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in arguments.items())
    else:
        given = pretty(arguments)
    given = given[:_READ_FOR_PREVIEW]
    line = " ".join(f"({given})".split()) if outcome is None else " ".join(f"({given}) → {outcome}".split())
    return line if len(line) <= _PREVIEW else line[: _PREVIEW - 1] + "…"


def _prompt_change(at: int, messages: Sequence[Mapping[str, Any]]) -> str | None:
    """Compare a system prompt with the one before it, line by line; None if nothing changed."""
    if not _is_prompt(messages[at]):
        return None
    earlier = (messages[place] for place in range(at - 1, -1, -1))
    before = next((message["content"] for message in earlier if _is_prompt(message)), None)
    if before is None or before == messages[at]["content"]:
        return None
    return prompt_diff.changes(before, messages[at]["content"])


def _is_prompt(message: Mapping[str, Any]) -> bool:
    """Tell a system prompt from the system messages that a recorder adds: the end, and feedback."""
    added = is_added(message["role"], message["content"], mapping(message.get("metadata")))
    return bool(message["role"] == "system" and not added)


def _attachment(given: Any) -> str:
    """Describe an attachment by kind and size: never its bytes, and never a link chosen by a message."""
    if not isinstance(given, dict):
        return pretty(given)
    weight = [size(given["bytes"])] if isinstance(given.get("bytes"), int) else []
    return " · ".join(
        [*(str(given[name])[:_PREVIEW] for name in ("kind", "mime", "name", "url") if given.get(name)), *weight]
    )


def _facts(message: Mapping[str, Any]) -> Iterator[str]:
    """Model, tokens and time, as far as they were reported."""
    usage, metadata = mapping(message.get("usage")), _metadata(message)
    if "model" in message:
        yield message["model"]
    if usage:
        yield f"{usage.get('promptTokens', 0):,} → {usage.get('completionTokens', 0):,} tokens"
    elif "tokens" in message:
        yield f"{message['tokens']:,} tokens"
    if "latencyMs" in message:
        yield str(duration(message["latencyMs"]))
    first = metadata.get("timeToFirstTokenMs")
    if isinstance(first, int | float):
        yield f"first token {duration(first)}"
    emitter = emitters.of_message(metadata)
    if emitter is not None:
        yield emitter.label
    price = costs.of(message)
    if price is not None:
        yield costs.about(price)


def _badges(message: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    metadata = _metadata(message)
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
    if "thread" in metadata:
        yield "info", f"thread {pretty(metadata['thread'])}"
    if "part" in metadata:
        yield "info", f"part {metadata['part']} of {metadata.get('parts', '?')}"


def _error(error: Any) -> str:
    if not isinstance(error, dict):
        return str(error)
    return " ".join(str(error[name]) for name in ("type", "status") if error.get(name)) or pretty(error)


def _notes(message: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    metadata = _metadata(message)
    for name, heading in (("alternatives", "other choices"), ("reasoning", "reasoning")):
        if name in metadata:
            yield heading, pretty(metadata[name])


def _named(heading: str, text: str | None) -> list[tuple[str, str]]:
    return [(heading, text)] if text else []


def _rest(message: Mapping[str, Any]) -> str | None:
    rest = {name: value for name, value in message.items() if name not in _PLACED}
    return pretty(rest) if rest else None


def moment(timestamp: Any) -> str | None:
    """ISO 8601 in UTC, converted from the zone it has; UTC if it has none. None for an invalid time."""
    try:
        parsed = datetime.fromisoformat(str(timestamp).upper())
        said = parsed.replace(tzinfo=parsed.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return said.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _metadata(message: Mapping[str, Any]) -> Mapping[str, Any]:
    return mapping(message.get("metadata"))


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
