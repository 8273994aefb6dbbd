"""Fingerprints of JSON messages with a role and content: one integer each, equal if a message is resent unchanged.

Every call fingerprints its whole history, so the usual shapes have fast paths: strings cache their hash, and a resent
message mostly holds the same string objects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_DEPTH = 16
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
