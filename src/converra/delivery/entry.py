"""A message that waits to be sent: already encoded, with the few facts that batching asks about."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any

import msgspec

from converra.conversation import limits
from converra.conversation.models import Message, encode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PLAIN_FIELDS = frozenset({"role", "content", "timestamp"})
_ANSWER_FIELDS = _PLAIN_FIELDS | {"model", "tokens"}
_NAMES = frozenset({"messageId", "traceId", "spanId"})
"""Metadata that only names a message: a create may leave it out."""


class Fit(IntEnum):
    """What a create's content can hold of a message without losing anything (API document, "Content Format")."""

    PLAIN = 0
    """It has only role, content and timestamp."""
    ANSWER = 1
    """It has model or token count besides."""
    NAMED = 2
    """A user or system message whose metadata says something; the document's content has no place for that."""
    RICH = 3
    """It is a tool message, or has usage, latency or tool calls: only an append holds it."""


class Entry(msgspec.Struct, gc=False, frozen=True):
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
    row: int = 0

    @property
    def weight(self) -> int:
        """What it may add to the content that the server limits: no server's form is longer than the JSON."""
        return len(self.raw) + 1


def entries_of(
    message: Message, since: float, *, charge: int = 0, limit: int = limits.MAX_MESSAGE_BYTES
) -> list[Entry]:
    """A recorded message as entries: one, or several where it is over the limit."""
    parts = limits.split(message, limit)
    first = [entry(part, since, charge=0, whole=0) for part in parts[:-1]]
    return [*first, entry(parts[-1], since, charge=charge)]


def entry(message: Message, since: float, *, charge: int = 0, whole: int = 1) -> Entry:
    """One message as one entry."""
    return Entry(
        raw=encode(message),
        role=message.role,
        id=str((message.metadata or {}).get("messageId", "")),
        size=len(message.content.encode()),
        fit=_fit(message),
        since=since,
        charge=charge,
        whole=whole,
    )


def message_of(waiting: Entry) -> Message:
    """The message again."""
    return msgspec.json.decode(waiting.raw, type=Message)


def resplit(waiting: Entry, limit: int) -> list[Entry]:
    """A message over the limit of a server that takes less than the API document says, in smaller parts."""
    again = entries_of(message_of(waiting), waiting.since, charge=waiting.charge, limit=limit)
    return [*again[:-1], msgspec.structs.replace(again[-1], whole=waiting.whole)]


def own_words(text: str, message_id: str) -> Entry:
    """A system message of ours, which counts as nobody's."""
    return entry(Message(role="system", content=text, metadata={"messageId": message_id}), 0.0, whole=0)


def in_content(waiting: Entry, *, plain: bool) -> dict[str, Any]:
    """The message as a create's content holds it; `plain` leaves out whatever the API document has no field for."""
    fields = msgspec.json.decode(waiting.raw)
    keep = fields.keys() if waiting.fit is Fit.NAMED and not plain else _ANSWER_FIELDS
    return {name: value for name, value in fields.items() if name in keep}


def _fit(message: Message) -> Fit:
    fields = set(_set_fields(message))
    if message.role == "tool" or fields - _ANSWER_FIELDS - {"metadata"}:
        return Fit.RICH
    if not (message.metadata or {}).keys() <= _NAMES:
        return Fit.RICH if message.role == "assistant" else Fit.NAMED
    return Fit.PLAIN if fields - {"metadata"} <= _PLAIN_FIELDS else Fit.ANSWER


def _set_fields(message: Message) -> Iterator[str]:
    given: Mapping[str, Any] = msgspec.structs.asdict(message)
    return (name for name, value in given.items() if value is not None)
