"""Drafts: captured messages that become messages of the API (API document, "Append Messages").

A draft keeps a message as it was captured. All that takes longer (parsing arguments, digesting attachments, formatting
times) waits for `message()`, which a worker calls.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

import msgspec

from converra.history.arguments import arguments
from converra.history.turn import Answer, Failure, SourceMessage, opaque_weight
from converra.wire import json_safe
from converra.wire.models import ROLES, Message, ToolCall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from converra.history.turn import Attachment, SourceToolCall

    Finish = Callable[[Message], Message | None]

PLAIN_STOPS = frozenset(
    {None, "", "stop", "tool_calls", "tool_use", "function_call", "completed", "end_turn", "eos", "stop_sequence"}
)
"""Finish reasons that are not recorded: the answer ended where the model wanted it to end."""

OVERHEAD = 400
"""Bytes of a waiting draft without its strings; measured, and rounded."""


DIGEST_CHUNK = 4 * 64 * 1024
"""Base64 characters decoded at once: a multiple of four, small enough not to hold the interpreter's lock for long."""

MAX_URL = 2_048
"""Characters of an attachment's URL that are kept."""


class Draft(msgspec.Struct, kw_only=True):
    """One captured message, not yet in the API's form."""

    source: SourceMessage
    id: str
    """Its `metadata.messageId`: unique, and known before the message is sent."""
    finish: Finish | None = None
    """Applies the user's redaction, if there is any; returns None if that dropped the message."""
    started: float
    """Start of the call, in seconds since the epoch."""
    answer: Answer | None = None
    """The answer, on the one message that carries its facts."""
    failure: Failure | None = None
    latency_ms: float | None = None
    first_token_ms: float | None = None
    span: tuple[int, int] = (0, 0)
    """OpenTelemetry trace id and span id; zeros if there was no span."""
    extra: dict[str, Any] | None = None
    """Further metadata: `thread`, `replaces`."""
    already_known: bool = False
    """It was recorded by another process of a shared session; see `delivery.protocol.joining`."""
    _size: int = 0

    @property
    def size(self) -> int:
        """Approximate bytes of memory, counting one for each character: bounds what waits. It never changes."""
        if not self._size:
            size, answer = OVERHEAD + self.source.weight, self.answer
            self._size = size + answer.beside if answer and (answer.metadata or answer.alternatives) else size
        return self._size

    def message(self) -> Message | None:
        """Make the message, safe for strict JSON and redacted; None if redaction dropped it."""
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
            tool_calls=_tool_calls(source)
            if source.calls or source.role == "tool" or source.call_id is not None
            else None,
            usage=usage,
            latency_ms=_milliseconds(source.latency_ms) if self.latency_ms is None else latency,
            metadata=self._metadata(),
        )
        message = _whole_usage(message)
        return message if self.finish is None else self.finish(message)

    def _metadata(self) -> dict[str, Any]:
        found: dict[str, Any] = {"messageId": self.id}
        if self.source.role not in ROLES:
            found["role"] = self.source.role
        if self.source.attachments:
            found["attachments"] = [describe(a) for a in self.source.attachments]
        if any(self.span):
            found["traceId"], found["spanId"] = f"{self.span[0]:032x}", f"{self.span[1]:016x}"
        if self.failure:
            found["error"] = failure_record(self.failure)
        found |= self.extra or {}
        found |= self.source.metadata or {}
        if self.answer:
            found.update(self._answer_metadata(self.answer))
        return found if len(found) == 1 else json_safe.plain(found)  # ids are safe as they are

    def _answer_metadata(self, answer: Answer) -> Iterator[tuple[str, Any]]:
        if answer.finish_reason not in PLAIN_STOPS:
            yield "finishReason", answer.finish_reason
        if answer.usage_details:
            yield "usageDetails", answer.usage_details
        if answer.alternatives:
            yield "alternatives", [_alternative(record) for record in answer.alternatives]
        if answer.partial:
            yield "partial", True
        if self.first_token_ms is not None:
            yield "timeToFirstTokenMs", _milliseconds(self.first_token_ms)
        yield from (answer.metadata or {}).items()


def _alternative(record: dict[str, Any]) -> dict[str, Any]:
    """Describe the attachments of one of the other choices like those of a message."""
    attached = record.get("attachments")
    return {**record, "attachments": [describe(a) for a in attached]} if attached else record


def _role_and_content(source: SourceMessage, answer: Answer | None) -> tuple[str, str]:
    """Return role and content. Only `tool` may be empty, so a turn that only calls tools is a `tool` message."""
    role = json_safe.text(source.role) if source.role in ROLES else "user"
    content = json_safe.text(source.text)
    if role == "tool" or content.strip():
        return role, content
    if role == "assistant" and source.calls:
        return "tool", ""
    reason = answer.finish_reason if answer else None
    return role, f"(no text: {json_safe.text(reason)})" if reason else "(no text)"


def _whole_usage(message: Message) -> Message:
    """Move a usage with only one count to `metadata.usageDetails`: the API document's usage has both counts."""
    usage = message.usage
    if usage is None or not (usage.prompt_tokens is None or usage.completion_tokens is None):
        return message
    metadata = message.metadata or {}
    details = msgspec.to_builtins(usage)
    reported = metadata.get("usageDetails")
    if isinstance(reported, dict):
        details |= reported
    if details:
        metadata = {**metadata, "usageDetails": details}
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
    """Make `metadata.error`: the type, and the HTTP status if there was one; never the exception's message."""
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
    """A message that was added by hand: already in the API's form."""

    written: Message
    id: str
    finish: Finish | None = None
    called: datetime | None = None
    """The time of the call, for a message without a timestamp."""
    already_known: bool = False

    @property
    def size(self) -> int:
        """Approximate bytes of memory, counting one for each character: bounds what waits."""
        return 2 * OVERHEAD + len(self.written.content) + opaque_weight(self.written.metadata)

    def message(self) -> Message | None:
        """Make the message with its id, safe for strict JSON and redacted; None if redaction dropped it."""
        written, identity = self.written, {"messageId": self.id}
        message = msgspec.structs.replace(
            written,
            timestamp=written.timestamp or self.called,
            content=json_safe.text(written.content),
            model=None if written.model is None else json_safe.text(written.model),
            tool_calls=_written_calls(written.tool_calls),
            metadata=json_safe.plain({**identity, **(written.metadata or {}), **identity}),
        )
        message = _whole_usage(message)
        return message if self.finish is None else self.finish(message)


def _written_calls(calls: list[Any] | None) -> list[Any] | None:
    """Make tool calls safe for JSON. Dicts keep all their fields: the API document leaves them open."""
    if calls is None:
        return None
    return [_tool_call(call) if isinstance(call, ToolCall) else json_safe.plain(call) for call in calls]


# -- attachments -----------------------------------------------------------------------------------------------------


def describe(attachment: Attachment) -> dict[str, Any]:
    """Make an entry of `metadata.attachments`: kind, type, size and digest of a part, never its content."""
    record: dict[str, Any] = {"kind": attachment.kind}
    mime = attachment.mime
    digest: dict[str, Any] = {}
    if attachment.data is not None:
        embedded_mime, digest = _digest(attachment.data)
        mime = mime or embedded_mime
    if mime:
        record["mime"] = mime
    record.update(digest)
    if attachment.url:
        record["url"] = attachment.url[:MAX_URL]
    if attachment.name:
        record["name"] = attachment.name
    return record


def _digest(data: str | bytes) -> tuple[str | None, dict[str, Any]]:
    """Return the MIME type of a data URL, and the size in bytes and SHA-256 of the decoded content."""
    if isinstance(data, bytes):
        return None, {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    mime, encoded, payload = _data_url(data)
    if not encoded:
        content = unquote_to_bytes(json_safe.text(payload))
        return mime, {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    digest, size = hashlib.sha256(), 0
    start = len(data) - len(payload)
    try:
        for at in range(start, len(data), DIGEST_CHUNK):
            chunk = data[at : at + DIGEST_CHUNK].replace("-", "+").replace("_", "/")  # google-genai encodes for URLs
            piece = base64.b64decode(chunk, validate=True)
            digest.update(piece)
            size += len(piece)
    except (binascii.Error, ValueError):  # not base64 after all; its length is still useful
        return mime, {"bytes": len(payload) * 3 // 4}
    return mime, {"bytes": size, "sha256": digest.hexdigest()}


def _data_url(data: str) -> tuple[str | None, bool, str]:
    """Return the MIME type, whether the payload is base64, and the payload; a string without scheme is base64."""
    if not data.startswith("data:"):
        return None, True, data
    head, _, payload = data[:MAX_URL].partition(",")
    kind, *options = head[len("data:") :].split(";")
    return kind or None, "base64" in options, data[len(head) + 1 :] if payload else ""
