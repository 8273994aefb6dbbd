"""The messages of dspy's own engine, read: requests, answers, events of streams. Pure, and no object of it is changed.

The engine has one format for all providers: frozen objects with slots, whose parts are marked by their `type`. Only the
token usage is the provider's own: each counts in its way, which the provider's answer beside it shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from converra.history.turn import Answer, Attachment, Dialect, Request, SourceMessage, SourceToolCall
from converra.integrations.payload.fields import as_json, digest, fields, number, plain, string
from converra.integrations.payload.media import placeholder
from converra.integrations.payload.usage import counts, logprobs_summary
from converra.wire.json_safe import joined

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

ROLES = {"developer": "system"}

MEDIA = {"image": "image", "audio": "audio", "video": "video", "document": "document", "binary": "file"}
"""Types of parts that are not text, and the kinds of their attachments."""

REASONS = {"tool_call": "tool_calls"}

COUNTERS = ("input_tokens", "output_tokens", "total_tokens")
BESIDE = ("cache_read_tokens", "cache_write_tokens")
ANTHROPIC = ("cache_read_input_tokens", "cache_creation_input_tokens")
"""Counts of cached tokens, of the engine and of Anthropic, which does not include them in the prompt's."""


class Part(NamedTuple):
    """A part that was put together from events, with the fields of the engine's own that are read."""

    type: str
    text: str | None = None
    id: str | None = None
    name: str | None = None
    input: Any = None
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    file_id: str | None = None
    title: str | None = None


class Message(NamedTuple):
    """A message of such parts."""

    role: str
    parts: tuple[Part, ...]


def request(asked: Any) -> Request:
    """Read a request of the engine."""
    system = asked.system
    instructions = None if system is None else string(system) or _source("system", system).text
    tools = [{"name": tool.name} for tool in asked.tools]
    return Request(DIALECT, asked.messages, instructions, string(asked.model), None, tools)


def fingerprint(messages: Sequence[Any]) -> list[int]:
    """Digests of all messages, in order. Thoughts have no part in them: some apps resend them."""
    return [_digest(message) for message in messages]


def _digest(message: Any) -> int:
    parts = message.parts
    if len(parts) == 1 and parts[0].type == "text":
        return hash((message.role, parts[0].text))
    return hash((message.role, *[_part(part) for part in parts if part.type not in ("thinking", "citation")]))


def _part(part: Any) -> int:
    kind = part.type
    if kind == "tool_call":
        return hash((part.id, part.name, digest(part.input)))
    if kind == "tool_result":
        return hash((part.id, *map(_part, part.content)))
    if kind == "data":
        return digest(part.value)
    if kind in MEDIA:
        return hash((kind, part.data, part.url, part.file_id, str(part.path)))
    return hash((kind, part.text))


def read(message: Any) -> tuple[SourceMessage, ...]:
    """Read one message of a request: the results of tools come first, each as a message of its own."""
    results = [part for part in message.parts if part.type == "tool_result"]
    others = [part for part in message.parts if part.type != "tool_result"]
    found, role = tuple(map(_result, results)), string(message.role) or ""
    return (*found, _source(ROLES.get(role, role), others)) if others else found


def _result(part: Any) -> SourceMessage:
    found = _source("tool", part.content)
    return SourceMessage("tool", found.text, (), part.id, part.name, found.attachments)


def _source(role: str, parts: Iterable[Any]) -> SourceMessage:
    """Read the parts of a message: one line for each but thoughts, citations and calls."""
    lines: list[str] = []
    attachments: list[Attachment] = []
    calls: list[SourceToolCall] = []
    metadata: dict[str, Any] = {}
    for part in parts:
        kind = part.type
        if kind == "text":
            lines.append(part.text)
        elif kind == "tool_call":
            made = part.input
            calls.append(SourceToolCall(part.id, part.name, made if isinstance(made, str) else plain(made)))
        elif kind in MEDIA:
            attachments.append(_attachment(part))
            lines.append(placeholder(attachments[-1]))
        elif kind == "thinking":
            if part.text:
                metadata["reasoning"] = "\n".join(filter(None, (metadata.get("reasoning"), part.text)))
        elif kind == "citation":
            cited = {name: getattr(part, name) for name in ("url", "title", "text")}
            metadata.setdefault("annotations", []).append({k: v for k, v in cited.items() if v is not None})
        elif kind == "refusal":
            metadata["refusal"] = True
            lines.append(part.text)
        elif kind == "data":
            lines.append(as_json(part.value))
        else:
            lines.append(f"[{kind}]")
    text = "\n".join(lines)
    return SourceMessage(role, text, tuple(calls), None, None, tuple(attachments), metadata or None)


def _attachment(part: Any) -> Attachment:
    path = getattr(part, "path", None)
    name = string(part.file_id) or (None if path is None else path.name)
    return Attachment(MEDIA[part.type], string(part.media_type), string(part.data), string(part.url), name)


def echo(source: SourceMessage) -> Message:
    """Build an answer as most apps resend it, as far as fingerprints read it."""
    said = (Part("text", source.text),) if source.text else ()
    return Message("assistant", (*said, *[Part("tool_call", None, c.id, c.name, c.arguments) for c in source.calls]))


DIALECT = Dialect("dspy.lm15", fingerprint, read, echo)


def answer(response: Any) -> Answer:
    """Read a whole answer."""
    found = _source("assistant", response.message.parts)
    return _answer(found, response, response, response.logprobs or ())


def _answer(source: SourceMessage, head: Any, facts: Any, tokens: Iterable[Any]) -> Answer:
    """Build an answer from what was said.

    Args:
        source: What was said.
        head: The object of the engine that names the answer and the model: the answer, or a stream's first event.
        facts: The one that has the reason for the end, and the counts: the answer, or a stream's last event.
        tokens: Those with log probabilities.

    """
    metadata = dict(_beside(head, tokens))
    reason = string(facts.finish_reason)
    return Answer(
        (source,),
        string(head.model),
        finish_reason=REASONS.get(reason or "", reason),
        response_id=string(head.id),
        metadata=metadata or None,
        unread=reported(facts.usage, facts.provider_data),
        read=counts,
    )


def _beside(head: Any, tokens: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    confidence = logprobs_summary([token.logprob for token in tokens])
    if confidence:
        yield "logprobs", confidence
    # What it could not send as it was asked; a value for what was not asked says nothing of the turn.
    adapted = [f"{one.field}:{one.action}" for one in head.adaptations if one.action != "defaulted"]
    if adapted:
        yield "adaptations", adapted


def reported(usage: Any, sent: Any) -> dict[str, Any] | None:
    """Return the counts under the names of the provider that counts in the same way.

    Args:
        usage: The engine's counts.
        sent: The provider's answer. Anthropic's has counts of cached tokens, which are not among those of the prompt.

    """
    if usage is None:
        return None
    found = {name: getattr(usage, name) for name in COUNTERS}
    cached, written = (getattr(usage, name) for name in BESIDE)
    thoughts = number(usage.reasoning_tokens)
    if thoughts and found["total_tokens"] == (found["input_tokens"] or 0) + (found["output_tokens"] or 0) + thoughts:
        found["output_tokens"] = (found["output_tokens"] or 0) + thoughts  # as Gemini and xAI count
    if fields(fields(sent).get("usage")).keys() & set(ANTHROPIC):
        del found["total_tokens"]
        found |= dict(zip(ANTHROPIC, (cached or 0, written or 0), strict=True))
        found["output_tokens_details"] = {"reasoning_tokens": thoughts}
    else:
        found["input_tokens_details"] = {
            "cached_tokens": cached,
            "cache_write_tokens": written,
            "audio_tokens": usage.input_audio_tokens,
        }
        found["output_tokens_details"] = {"reasoning_tokens": thoughts, "audio_tokens": usage.output_audio_tokens}
    return found


class Start(NamedTuple):
    """Stands for the first event of a stream until it has come."""

    id: str | None = None
    model: str | None = None
    adaptations: tuple[Any, ...] = ()


class End(NamedTuple):
    """Stands for the last event of a stream until it has come."""

    finish_reason: str | None = None
    usage: Any = None
    provider_data: Any = None


class Pieces:
    """One part of a streamed answer, in fragments."""

    __slots__ = ("facts", "kind", "texts")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.texts: list[str] = []
        self.facts: dict[str, Any] = {}

    def part(self) -> Part:
        """Build the part as it would have been without streaming."""
        text = joined(self.texts)
        if self.kind == "tool_call":
            return Part("tool_call", input=text or "{}", **self.facts)
        if self.kind in MEDIA:
            return Part(self.kind, data=text or None, **self.facts)
        return Part(self.kind, text or None if self.kind == "citation" else text, **self.facts)


FRAGMENTS = {"tool_call": "input", "audio": "data", "image": "data"}
"""Fields whose values come in fragments; of other parts, it is `text`."""

FACTS = ("id", "name", "media_type", "url", "file_id", "title")
"""Fields that come whole, with any of the fragments."""


class Events:
    """The events of one stream so far."""

    def __init__(self) -> None:
        self.started: bool = False
        """The first token has arrived."""
        self.finished: bool = False
        """The model has stopped."""
        self._parts: dict[tuple[int, str], Pieces] = {}
        self._logprobs: list[Any] = []
        self._start: Any = Start()
        self._end: Any = End()

    def feed(self, event: Any) -> None:
        """Read one event; nearly all bring a piece of text."""
        kind = event.type
        if kind == "delta":
            self._add(event.delta)
        elif kind == "start":
            self._start = event
        elif kind == "end":
            self._end, self.finished = event, True

    def _add(self, delta: Any) -> None:
        kind = delta.type
        if kind == "continuation":  # the provider's state, for later requests
            return
        key = (delta.part_index, kind)
        pieces = self._parts.get(key)
        if pieces is None:
            pieces = self._parts[key] = Pieces(kind)
        fragment = getattr(delta, FRAGMENTS.get(kind, "text"))
        if fragment:
            pieces.texts.append(fragment)
            self.started = True
        if kind == "text":
            self._logprobs += delta.logprobs
        else:
            facts = {name: value for name in FACTS if (value := getattr(delta, name, None)) is not None}
            pieces.facts |= facts

    def answer(self) -> Answer:
        """Read the answer as far as it has arrived."""
        source = _source("assistant", [pieces.part() for pieces in list(self._parts.values())])
        return _answer(source, self._start, self._end, self._logprobs)
