"""A message that waits to be sent: already encoded, with the few facts that batching asks about."""

from __future__ import annotations

from enum import IntEnum

import msgspec

from converra.wire import limits
from converra.wire.models import Message, encode

_NAMES = frozenset({"messageId", "traceId", "spanId"})
"""Metadata that only names a message."""


class Fit(IntEnum):
    """How well a create's content suits a message (API document, "Content Format"); see `conversation.details`."""

    PLAIN = 0
    """It has only role, content and timestamp, and ids among its details."""
    ANSWER = 1
    """It has model or token count besides."""
    NAMED = 2
    """A user or system message with more metadata than ids."""
    DETAILED = 3
    """A text with usage or latency, or an answer with more metadata than ids."""
    RICH = 4
    """A tool message, or one with tool calls: only an append holds it."""


class EncodedMessage(msgspec.Struct, gc=False, frozen=True):
    """One message of the wire. `charge` is what it gives back to the outbox when it is gone."""

    raw: bytes
    role: str
    id: str
    size: int
    """UTF-8 bytes of its content."""
    fit: Fit
    since: float
    charge: int = 0
    whole: int = 1
    """1 where a recorded message ends with it; 0 for all parts of a split one but the last, and for our own words."""
    already_known: bool = False
    """To be dropped where the conversation is there already: whoever opened it has sent it."""
    row: int = 0
    """Where it stands in a durable outbox: negative for a piece of what stands there, 0 for nowhere."""

    @property
    def weight(self) -> int:
        """What it may add to the content that the server limits: no server's form is longer than the JSON."""
        return len(self.raw) + 1


def entries_of(
    message: Message,
    since: float,
    *,
    charge: int = 0,
    already_known: bool = False,
    limit: int = limits.MAX_MESSAGE_BYTES,
) -> list[EncodedMessage]:
    """A recorded message as entries: one, or several where it is over the limit."""
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
) -> EncodedMessage:
    """One message as one entry; `raw` is its encoding where that is known."""
    return EncodedMessage(
        raw=encode(message) if raw is None else raw,
        role=message.role,
        id=str((message.metadata or {}).get("messageId", "")),
        size=len(message.content.encode()),
        fit=_fit(message),
        since=since,
        charge=charge,
        whole=whole,
        already_known=already_known,
    )


def entry_text(waiting: EncodedMessage) -> str:
    """The words of a waiting message."""
    return str(msgspec.json.decode(waiting.raw)["content"])


def message_of(waiting: EncodedMessage) -> Message:
    """The message again."""
    return msgspec.json.decode(waiting.raw, type=Message)


def resplit(waiting: EncodedMessage, limit: int) -> list[EncodedMessage]:
    """A message over the limit of a server that takes less than the API document says, in smaller parts."""
    again = entries_of(
        message_of(waiting), waiting.since, charge=waiting.charge, already_known=waiting.already_known, limit=limit
    )
    row = -abs(waiting.row)
    first = [msgspec.structs.replace(part, row=row) for part in again[:-1]]
    return [*first, msgspec.structs.replace(again[-1], row=row, whole=waiting.whole)]


def own_words(text: str, message_id: str) -> EncodedMessage:
    """A system message of ours, which counts as nobody's."""
    return entry(Message(role="system", content=text, metadata={"messageId": message_id}), 0.0, whole=0)


def fields_of(waiting: EncodedMessage) -> dict[str, msgspec.Raw]:
    """The fields of the message, their values still encoded."""
    return _fields.decode(waiting.raw)


_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


def _fit(message: Message) -> Fit:
    if message.role == "tool" or message.tool_calls is not None:
        return Fit.RICH
    if message.usage is not None or message.latency_ms is not None:
        return Fit.DETAILED
    if message.metadata and not message.metadata.keys() <= _NAMES:
        return Fit.DETAILED if message.role == "assistant" else Fit.NAMED
    return Fit.PLAIN if message.model is None and message.tokens is None else Fit.ANSWER
