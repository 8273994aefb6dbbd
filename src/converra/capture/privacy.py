"""The last step before a message leaves the process or touches a disk: `capture_content` and `redact`.

It fails closed. If the user's function fails, only the structure of the message is sent, and a warning is logged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from converra.process.guard import guard, log_limited
from converra.wire import json_safe
from converra.wire.models import Message, ToolCall, tool_call

if TYPE_CHECKING:
    from collections.abc import Callable

    Redact = Callable[[dict[str, Any]], dict[str, Any] | None]

WITHHELD = "(content not captured)"

ID = "messageId"

STRUCTURAL = frozenset(
    {
        ID,
        "traceId",
        "spanId",
        "finishReason",
        "usageDetails",
        "timeToFirstTokenMs",
        "partial",
        "error",
        "thread",
        "replaces",
        "part",
        "parts",
        "continues",
        "emitter",
        "provider",
        "language",
    }
)
"""Metadata that holds no text of the user, of the model or of a tool."""

MAX_NAME = 128
"""Longest name or id, in characters; longer strings are treated as content."""


class Privacy:
    """A function over messages that applies the settings `capture_content` and `redact`. It never raises.

    Args:
        capture_content: False removes texts, tool arguments and free metadata.
        redact: The user's function; it gets a message as a dict, and returns one, or None to drop the message.

    """

    def __init__(self, *, capture_content: bool = True, redact: Redact | None = None) -> None:
        self._capture_content = capture_content
        self._redact = redact

    def __call__(self, message: Message) -> Message | None:
        """Return the message to send; None if the user's function dropped it."""
        if not self._capture_content:
            message = without_words(message)
        if self._redact is None:
            return message
        with guard("calling your redact function"):
            return _redacted(message, self._redact)
        return without_words(message)


def _redacted(message: Message, redact: Redact) -> Message | None:
    """Apply the user's function, and make its result safe for strict JSON."""
    result = redact(msgspec.to_builtins(message))
    if result is None:
        return None
    try:
        given = json_safe.plain(result)
        redacted = msgspec.convert(given, Message)
    except msgspec.ValidationError:
        log_limited(
            "redact", "converra: your redact function did not return a message; sending structure without words."
        )
        return without_words(message)
    if not redacted.content and redacted.role != "tool":
        redacted.content = WITHHELD
    redacted.tool_calls = given.get("toolCalls") or None  # unknown fields of a call are kept
    redacted.metadata = _with_id_of(message, redacted.metadata) or None
    return redacted


def _with_id_of(message: Message, metadata: dict[str, Any] | None) -> dict[str, Any]:
    """Restore the message's id in redacted metadata: delivery recognises the message by it, and it holds no content."""
    own = {ID: message.metadata[ID]} if message.metadata and ID in message.metadata else {}
    return {**own, **(metadata or {}), **own}


def without_words(message: Message) -> Message:
    """Keep roles, models, usage, latency and tool names; remove content, arguments and free metadata."""
    calls = message.tool_calls
    metadata = {key: value for key, value in (message.metadata or {}).items() if key in STRUCTURAL}
    return msgspec.structs.replace(
        message,
        content=WITHHELD if message.content else "",
        tool_calls=[_named(tool_call(c)) for c in calls] if calls else None,
        metadata=_structure(metadata) or None,
    )


def _named(call: ToolCall) -> ToolCall:
    return ToolCall(id=_structure(call.id), name=_structure(call.name))


def _structure(value: Any) -> Any:
    """Keep numbers, names and ids of a value, also inside of mappings. Hand-written metadata may hold anything."""
    if isinstance(value, dict):
        kept = ((key, _structure(item)) for key, item in value.items())
        return {key: item for key, item in kept if item is not None}
    if isinstance(value, str):
        return value if len(value) <= MAX_NAME and not any(map(str.isspace, value)) else None
    return value if isinstance(value, int | float) else None
