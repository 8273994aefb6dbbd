"""A message that waits to be sent: encoded once, with the facts that batching asks for beside the bytes.

A worker encodes a message when it makes it from its draft. An append holds those bytes as they are. A create holds the
first part of them, up to `details_at`, and the second part in its metadata (see `wire.details`). Neither decodes them.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import msgspec

from converra.wire import details, limits
from converra.wire.json_safe import encode
from converra.wire.models import FEEDBACK, Message, Usage

_NAMES = frozenset({"messageId", "traceId", "spanId"})
"""Metadata that only identifies a message."""


class Fit(IntEnum):
    """Suitability of a message for a create (API document, "Content Format"); a higher value loses more of it."""

    PLAIN = 0
    """Only role, content, timestamp and ids."""
    ANSWER = 1
    """Also a model or a token count."""
    NAMED = 2
    """A user or system message with more metadata than ids."""
    DETAILED = 3
    """A text with usage or latency, or an answer with more metadata than ids."""
    RICH = 4
    """A tool message, or a message with tool calls: only an append holds it."""


class EncodedMessage(msgspec.Struct, gc=False, frozen=True):
    """One message in the API's JSON. `charge` is the number of bytes that it occupies in the outbox."""

    raw: bytes
    role: str
    id: str
    """Its `metadata.messageId`."""
    size: int
    """UTF-8 bytes of its content."""
    fit: Fit
    since: float
    """Monotonic time since when it has waited."""
    details_at: int
    """Offset in `raw` of the first field that a create's content has no place for; that of the last brace if none."""
    model: str | None = None
    charge: int = 0
    whole: int = 1
    """Recorded messages that end with this one: 0 for a synthetic message, and for all but the last part of a split."""
    already_known: bool = False
    """It was recorded before this process joined the session; see `joining`."""
    after_end: bool = False
    """It belongs to its conversation even after that is completed: feedback."""
    row: int = 0
    """Its row in a durable outbox; negative for a part of the message in that row, 0 if it is only in memory."""

    @property
    def weight(self) -> int:
        """Most bytes that it adds to the content that the API limits: JSON is the longest form that a server keeps."""
        return len(self.raw) + 1

    def apart(self) -> tuple[bytes, bytes]:
        """Return the fields that a create's content has, and the others (b"" if none), as two objects."""
        rest = self.raw[self.details_at + 1 :]
        return self.raw[: self.details_at] + b"}", rest and b"{" + rest


def entries_of(
    message: Message,
    since: float,
    *,
    charge: int = 0,
    already_known: bool = False,
    limit: int = limits.MAX_MESSAGE_BYTES,
) -> list[EncodedMessage]:
    """Encode a recorded message as one entry, or as several if its content has more than `limit` bytes."""
    size = _size(message.content)
    if size <= limit:
        return [entry(message, since, charge=charge, already_known=already_known, size=size)]
    parts = limits.split(message, limit)
    first = [entry(part, since, charge=0, whole=0, already_known=already_known) for part in parts[:-1]]
    return [*first, entry(parts[-1], since, charge=charge, already_known=already_known)]


def entry(
    message: Message,
    since: float,
    *,
    charge: int = 0,
    whole: int = 1,
    already_known: bool = False,
    raw: bytes | None = None,
    size: int | None = None,
) -> EncodedMessage:
    """Encode one message as one entry. `raw` is its encoding if an outbox has kept that, `size` that of its content."""
    if raw is None:  # each value is encoded once
        content = encode(msgspec.structs.replace(message, tool_calls=None, usage=None, latency_ms=None, metadata=None))
        rest = encode(_Details(message.tool_calls, message.usage, message.latency_ms, message.metadata))
    else:
        content, rest = _cut_apart(raw)
    return EncodedMessage(
        raw=content if rest == b"{}" else content[:-1] + b"," + rest[1:],
        role=message.role,
        id=str((message.metadata or {}).get("messageId", "")),
        size=_size(message.content) if size is None else size,
        fit=_fit(message),
        since=since,
        details_at=len(content) - 1,
        model=message.model,
        charge=charge,
        whole=whole,
        already_known=already_known,
        after_end=message.role == "system" and FEEDBACK in (message.metadata or ()),
    )


def _size(content: str) -> int:
    """Count UTF-8 bytes, mostly without encoding the text."""
    return len(content) if content.isascii() else len(content.encode())


class _Details(msgspec.Struct, rename="camel", omit_defaults=True):
    """The fields of a message that a create's content has no place for, in the order of `Message`."""

    tool_calls: list[Any] | None = None
    usage: Usage | None = None
    latency_ms: float | None = None
    metadata: dict[str, Any] | None = None


def _cut_apart(raw: bytes) -> tuple[bytes, bytes]:
    """Divide an encoded message into the fields that a create's content has, and the others; values stay encoded."""
    fields = _fields.decode(raw)
    content = {name: value for name, value in fields.items() if name in details.CONTENT_FIELDS}
    return encode(content), encode({name: value for name, value in fields.items() if name not in content})


_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


def entry_text(waiting: EncodedMessage) -> str:
    """Decode the content of a waiting message. Only what reads a conversation back needs it: it is not kept twice."""
    return str(msgspec.json.decode(waiting.raw)["content"])


def with_error(waiting: EncodedMessage, error: dict[str, Any]) -> EncodedMessage:
    """Encode a waiting message again, with `metadata.error`."""
    fields = msgspec.json.decode(waiting.raw)
    fields["metadata"] = {**(fields.get("metadata") or {}), "error": error}
    raw = encode(fields)
    changed = entry(
        msgspec.json.decode(raw, type=Message),
        waiting.since,
        charge=waiting.charge,
        whole=waiting.whole,
        already_known=waiting.already_known,
        raw=raw,
    )
    return msgspec.structs.replace(changed, row=waiting.row)


def resplit(waiting: EncodedMessage, limit: int) -> list[EncodedMessage]:
    """Split a message into smaller parts, for a server that takes less than the API document says."""
    parts = entries_of(
        msgspec.json.decode(waiting.raw, type=Message),
        waiting.since,
        charge=waiting.charge,
        already_known=waiting.already_known,
        limit=limit,
    )
    row = -abs(waiting.row)
    first = [msgspec.structs.replace(part, row=row) for part in parts[:-1]]
    return [*first, msgspec.structs.replace(parts[-1], row=row, whole=waiting.whole)]


def synthetic(text: str, message_id: str) -> EncodedMessage:
    """Make a system message that was not recorded; the delivery counters exclude it."""
    return entry(Message(role="system", content=text, metadata={"messageId": message_id}), 0.0, whole=0)


def _fit(message: Message) -> Fit:
    if message.role == "tool" or message.tool_calls is not None:
        return Fit.RICH
    if message.usage is not None or message.latency_ms is not None:
        return Fit.DETAILED
    if message.metadata and not message.metadata.keys() <= _NAMES:
        return Fit.DETAILED if message.role == "assistant" else Fit.NAMED
    return Fit.PLAIN if message.model is None and message.tokens is None else Fit.ANSWER
