"""From what was said to the wire's messages: contract between a captured turn and "Append Messages".

A draft keeps what was said as it was captured. Everything that takes longer (parsing arguments, digesting
attachments, formatting times) waits for `message()`.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from converra.history.arguments import arguments
from converra.history.attachments import describe
from converra.history.turn import Answer, Failure, SourceMessage, opaque_weight
from converra.wire import json_safe
from converra.wire.models import ROLES, Message, ToolCall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from converra.history.turn import SourceToolCall

    Finish = Callable[[Message], Message | None]

PLAIN_STOPS = frozenset(
    {None, "", "stop", "tool_calls", "function_call", "completed", "end_turn", "eos", "stop_sequence"}
)
"""Finish reasons that say nothing: the answer ended where the model wanted it to end."""

OVERHEAD = 400
"""What a waiting draft weighs besides its strings, in bytes; a measured round number."""


class Draft(msgspec.Struct, kw_only=True):
    """One message to be. `size` bounds the memory of what waits: the bytes of all strings it keeps alive."""

    source: SourceMessage
    id: str
    finish: Finish
    started: float
    """Seconds since the epoch."""
    answer: Answer | None = None
    """The provider's facts, on the one message of an answer that carries them."""
    failure: Failure | None = None
    latency_ms: float | None = None
    first_token_ms: float | None = None
    span: tuple[int, int] = (0, 0)
    extra: dict[str, Any] | None = None
    """More metadata: thread, replaces."""
    already_known: bool = False
    """To be dropped where the conversation turns out to exist on the server: whoever opened it has sent this."""

    @property
    def size(self) -> int:
        """Bytes, nearly: one per character, plus what the structure weighs."""
        size = OVERHEAD + self.source.weight
        return size + self.answer.beside if self.answer else size

    def message(self) -> Message | None:
        """The message, made safe for strict JSON and through the user's redaction; None when that dropped it."""
        return self.finish(self._message())

    def _message(self) -> Message:
        source, answer = self.source, self.answer
        role, content = _role_and_content(source, answer)
        usage = answer.usage if answer else None
        latency = _milliseconds(self.latency_ms)
        message = Message(
            role=role,  # type: ignore[arg-type]  # one of ROLES by construction
            content=content,
            timestamp=_moment(self.started + (latency or 0.0) / 1000),
            model=json_safe.text(answer.model) if answer and answer.model else None,
            tokens=usage.completion_tokens if usage else None,
            tool_calls=_tool_calls(source),
            usage=usage,
            latency_ms=_milliseconds(source.latency_ms) if self.latency_ms is None else latency,
            metadata=json_safe.plain(dict(self._metadata())),
        )
        return _whole_usage(message)

    def _metadata(self) -> Iterator[tuple[str, Any]]:
        yield "messageId", self.id
        if self.source.role not in ROLES:
            yield "role", self.source.role
        if self.source.attachments:
            yield "attachments", [describe(a) for a in self.source.attachments]
        if any(self.span):
            yield "traceId", f"{self.span[0]:032x}"
            yield "spanId", f"{self.span[1]:016x}"
        if self.failure:
            yield "error", failure_record(self.failure)
        yield from (self.extra or {}).items()
        yield from (self.source.metadata or {}).items()
        if self.answer:
            yield from self._answer_metadata(self.answer)

    def _answer_metadata(self, answer: Answer) -> Iterator[tuple[str, Any]]:
        if answer.finish_reason not in PLAIN_STOPS:
            yield "finishReason", answer.finish_reason
        if answer.usage_details:
            yield "usageDetails", answer.usage_details
        if answer.alternatives:
            yield "alternatives", [_alternative(one) for one in answer.alternatives]
        if answer.partial:
            yield "partial", True
        if self.first_token_ms is not None:
            yield "timeToFirstTokenMs", _milliseconds(self.first_token_ms)
        yield from (answer.metadata or {}).items()


def _alternative(record: dict[str, Any]) -> dict[str, Any]:
    """One of the other choices, its attachments described like those of a message."""
    attached = record.get("attachments")
    return {**record, "attachments": [describe(a) for a in attached]} if attached else record


def _role_and_content(source: SourceMessage, answer: Answer | None) -> tuple[str, str]:
    """Contract, section 3: only `tool` may be empty, so a turn that only calls tools is a `tool` message."""
    role = json_safe.text(source.role) if source.role in ROLES else "user"
    content = json_safe.text(source.text)
    if role == "tool" or content.strip():
        return role, content
    if role == "assistant" and source.calls:
        return "tool", ""
    reason = answer.finish_reason if answer else None
    return role, f"(no text: {json_safe.text(reason)})" if reason else "(no text)"


def _whole_usage(message: Message) -> Message:
    """The API document's usage has both counts; where only one is known, it goes with the details."""
    usage = message.usage
    if usage is None or not (usage.prompt_tokens is None or usage.completion_tokens is None):
        return message
    metadata = message.metadata or {}
    known = metadata.get("usageDetails")
    details = {**msgspec.to_builtins(usage), **(known if isinstance(known, dict) else {})}
    metadata = {**metadata, **({"usageDetails": details} if details else {})}
    return msgspec.structs.replace(message, usage=None, metadata=metadata)


def _tool_calls(source: SourceMessage) -> list[ToolCall] | None:
    if source.calls:
        return [_tool_call(call) for call in source.calls]
    if source.call_id is not None or (source.role == "tool" and source.name):
        return [ToolCall(id=_name(source.call_id), name=_name(source.name))]
    return None


def _tool_call(call: SourceToolCall | ToolCall) -> ToolCall:
    return ToolCall(id=_name(call.id or None), name=_name(call.name), arguments=arguments(call.arguments))


def _name(value: Any) -> str | None:
    return None if value is None else json_safe.text(value if isinstance(value, str) else str(value))


def failure_record(failure: Failure) -> dict[str, Any]:
    """`metadata.error`: the type, and the HTTP status where there was one. Never the words of the exception."""
    record: dict[str, Any] = {"type": failure.type}
    if failure.status is not None:
        record["status"] = failure.status
    return record


def _moment(seconds: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(round(seconds, 3), UTC)
    except (ValueError, OverflowError, OSError):  # a clock that is not set
        return None


def _milliseconds(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 1)


class ManualDraft(msgspec.Struct, kw_only=True):
    """A message that was added by hand: already in the wire's form."""

    written: Message
    id: str
    finish: Finish
    already_known: bool = False

    @property
    def size(self) -> int:
        """Bytes, nearly: one per character, plus what the structure weighs."""
        return 2 * OVERHEAD + len(self.written.content) + opaque_weight(self.written.metadata)

    def message(self) -> Message | None:
        """The message with its id, after the user's redaction; None when that dropped it."""
        written, name = self.written, {"messageId": self.id}
        message = msgspec.structs.replace(
            written,
            content=json_safe.text(written.content),
            model=None if written.model is None else json_safe.text(written.model),
            tool_calls=_written_calls(written.tool_calls),
            metadata=json_safe.plain({**name, **(written.metadata or {}), **name}),
        )
        return self.finish(_whole_usage(message))


def _written_calls(calls: list[Any] | None) -> list[Any] | None:
    """Tool calls as they were given: those given as dicts stay so, since the API document leaves their fields open."""
    if calls is None:
        return None
    return [_tool_call(call) if isinstance(call, ToolCall) else json_safe.plain(call) for call in calls]
