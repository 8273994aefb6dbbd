"""The form of entries: one per conversation and hand-over, with the messages as they are already encoded."""

from __future__ import annotations

import zlib
from typing import Any

import msgspec

from converra.delivery.header import Header

MAX_MESSAGES = 64
"""Messages of an entry: a longer hand-over takes several."""


class Packed(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One message, in the API's JSON."""

    raw: bytes
    id: str
    at: float
    """When it was recorded, in seconds since the epoch."""
    whole: int = 1
    already_known: bool = False


class Entry(msgspec.Struct, array_like=True, kw_only=True):
    """Everything that one process has recorded of a conversation since its last hand-over."""

    key: str
    prompt_id: str
    producer: str
    """The process that recorded it."""
    number: int
    """Grows with each entry of a producer: a repeated one is recognised by it."""
    at: float
    """When it was made, in seconds since the epoch."""
    messages: list[Packed] = []
    header: Header | None = None
    """With the first entry of a producer, and to start again."""
    writer: str = ""
    notes: dict[str, Any] = {}
    ended: bool = False
    always: bool = False
    carry: bool = False
    """Metadata of this entry or an earlier one is to be delivered even if no message follows."""


def encode(entry: Entry) -> bytes:
    """Encode an entry."""
    return _encoder.encode(entry)


def decode(raw: bytes) -> Entry:
    """Decode an entry. Raises msgspec.DecodeError."""
    return _decoder.decode(raw)


def place_of(key: str) -> int:
    """Return the place of a conversation, whose remainder by the number of lanes is its lane. It never changes."""
    return zlib.crc32(key.encode())


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Entry)
