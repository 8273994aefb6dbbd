"""Fields of an SDK object, a plain dict or nonsense, read without running any of their code; JSON; fingerprints.

Reading `__dict__` passes by pydantic's `__getattr__`, its properties, its serializer and its warnings.

A fingerprint is one integer for a JSON message with a role and content, equal if the message is resent unchanged. Every
call fingerprints its whole history, so the usual shapes have fast paths: strings cache their hash, and a resent message
mostly holds the same string objects.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from converra.wire import json_safe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_decode = msgspec.json.Decoder().decode

MAX_DEPTH = 16
BLOB_LENGTH = 4_096
"""Characters beyond which a string without any white space is taken for encoded binary data."""

_NOTHING: dict[str, Any] = {}

_SCALARS = (str, bool, int, float)
_LISTS = (list, tuple)
"""Constants: `isinstance(value, str | int)` makes a union at each call, which costs half a microsecond here."""

_PLAIN = frozenset({type(None), *_SCALARS})
"""Classes of what is copied as it is: finding that out inside of a list or an object saves a call for each value."""


def fields(value: Any) -> dict[str, Any]:
    """Return the fields of an object or a dict, to be read only; no fields for anything else."""
    if isinstance(value, dict):
        return value
    try:
        own = value.__dict__
    except AttributeError:
        return _NOTHING
    if type(own) is not dict:
        return _NOTHING
    extra = getattr(value, "__pydantic_extra__", None)
    return {**own, **extra} if extra and type(extra) is dict else own


def items(value: Any) -> list[Any] | tuple[Any, ...]:
    """Return a list or tuple as it is; an empty one for other values, which iterating might consume."""
    return value if isinstance(value, _LISTS) else ()


def string(value: Any) -> str | None:
    """Return a string as it is, None for anything else."""
    return value if isinstance(value, str) else None


def number(value: Any) -> int | None:
    """Return a count as it is, None for anything else."""
    return value if type(value) is int and value >= 0 else None


def parsed(text: str | bytes) -> Any:
    """Parse JSON of a provider; return None if it is none."""
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        pass
    try:  # takes half a surrogate pair, which a chunk may begin or end with and msgspec rejects
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def copied(value: Any, depth: int = 0) -> Any:
    """Copy as plain data, without nulls: the copy keeps no SDK object alive."""
    if value.__class__ in _PLAIN or isinstance(value, _SCALARS):
        return value
    if depth >= MAX_DEPTH:
        return "<too deep>"
    if isinstance(value, (bytes, bytearray)):
        return f"<{len(value)} bytes>"
    if isinstance(value, _LISTS):
        return [item if item.__class__ in _PLAIN else copied(item, depth + 1) for item in value]
    return {
        key: item if item.__class__ in _PLAIN else copied(item, depth + 1)
        for key, item in fields(value).items()
        if item is not None
    }


def plain(value: Any) -> Any:
    """Copy as plain data to be kept opaque; encoded binary data becomes its length."""
    return _without_blobs(copied(value))


def as_json(value: Any) -> str:
    """Write a value as JSON text, without encoded data. Half a character, and the like, is replaced."""
    return json_safe.encode(json_safe.plain(plain(value))).decode()


def _without_blobs(value: Any) -> Any:
    if isinstance(value, str):
        return f"<{len(value)} characters>" if is_blob(value) else value
    if isinstance(value, list):
        return [_without_blobs(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_blobs(item) for key, item in value.items()}
    return value


def is_blob(value: str) -> bool:
    """Return True for base64 or the like: a long string whose beginning is one word."""
    return len(value) > BLOB_LENGTH and not any(c.isspace() for c in value[:512])


BARE = 2
"""Fields of a message that only has a role and content."""
ANSWERING = 3
"""Fields of the result of a tool that has nothing besides its text and the id of its call."""


def fingerprint(messages: Sequence[Any]) -> list[int]:
    """Digests of all messages, in order."""
    try:
        return [
            hash((m["role"], source))
            if len(m) == BARE and (source := m.get("content")).__class__ is str
            else _digest(m)
            for m in messages
        ]
    except (TypeError, KeyError, AttributeError):  # an item without a role, or what is no message at all
        return [_careful(m) for m in messages]


def fingerprint_parts(messages: Sequence[Any], holder: str, digest_of: Callable[[Any], int]) -> list[int]:
    """Digests of messages whose parts stand in a list below `holder`; most have one, a text and nothing else.

    `digest_of` reads all others.
    """
    try:
        return [
            hash((message["role"], only["text"]))
            if len(parts := message[holder]) == 1 and len(only := parts[0]) == 1 and "text" in only
            else digest_of(message)
            for message in messages
        ]
    except (TypeError, KeyError, IndexError, AttributeError):  # some message is odd
        return [digest_of(message) for message in messages]


def _careful(message: Any) -> int:
    """Return the same digest as `fingerprint`, for a list in which some message is odd."""
    try:
        source = message.get("content")
        if source.__class__ is str and len(message) == BARE:
            return hash((message["role"], source))
    except (TypeError, KeyError, AttributeError):
        pass
    return _digest(message)


def _digest(message: Any) -> int:
    """Hash a message with more than a role and a text; the usual shapes come first."""
    try:
        if "tool_call_id" in message:
            source = message["content"]
            if source.__class__ is str and len(message) == ANSWERING:
                return hash((message["role"], message["tool_call_id"], source))
        elif "tool_calls" in message:
            made = message["tool_calls"]
            if len(made) == 1:
                called = made[0]["function"]
                call = made[0]["id"], called["name"], called["arguments"]
                return hash((message["role"], message.get("content"), call))
            calls = [(c["id"], c["function"]["name"], c["function"]["arguments"]) for c in made]
            return hash((message["role"], message.get("content"), *calls))
        parts = message.get("content")
        if parts.__class__ is list:
            named = [value for value in message.values() if value.__class__ is str]
            return hash((*named, *[(p["type"], p["text"]) if "text" in p else digest(p) for p in parts]))
        return hash((*message, *message.values()))  # a tool's result, a call: all values are strings
    except (TypeError, KeyError, IndexError, AttributeError):
        return digest(message)


def digest(value: Any, depth: int = 0) -> int:
    """Hash any plain data by its content, in the order it stands."""
    kind = value.__class__
    if kind is str:
        return hash(value)
    if depth >= MAX_DEPTH:
        return 0
    if kind is dict:
        return hash((*value, *[digest(item, depth + 1) for item in value.values()]))
    if kind is list or kind is tuple:
        return hash((list, *[digest(item, depth + 1) for item in value]))
    try:
        return hash((kind, value))
    except TypeError:
        return id(value)
