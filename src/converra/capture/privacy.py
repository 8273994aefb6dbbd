"""The last step before a message leaves the caller's process or touches a disk: content switched off, redaction.

It fails closed: where the user's function fails, the structure of the message goes without its words, and that is
said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from converra.process.guard import guard, log_limited
from converra.wire import json_safe
from converra.wire.models import Message, ToolCall
from converra.wire.parsing import tool_call

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
    }
)
"""Metadata that holds no words of the user, of the model or of a tool."""

MAX_NAME = 128
"""Longest string, in characters, that can be a name or an id; longer ones are words."""


class Privacy:
    """What the settings `capture_content` and `redact` ask for, as one function over messages. It never raises."""

    def __init__(self, *, capture_content: bool = True, redact: Redact | None = None) -> None:
        self._capture_content = capture_content
        self._redact = redact

    def __call__(self, message: Message) -> Message | None:
        """Pass a message through; None when the user's function dropped it."""
        if not self._capture_content:
            message = without_words(message)
        if self._redact is None:
            return message
        with guard("calling your redact function"):
            return _redacted(message, self._redact)
        return without_words(message)


def _redacted(message: Message, redact: Redact) -> Message | None:
    """What the user's function makes of a message, safe for strict JSON again."""
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
    redacted.tool_calls = given.get("toolCalls") or None  # with the fields that only their author knows
    redacted.metadata = _with_id_of(message, redacted.metadata) or None
    return redacted


def _with_id_of(message: Message, metadata: dict[str, Any] | None) -> dict[str, Any]:
    """The redacted metadata with the message's id, which says nothing and is what delivery knows the message by."""
    own = {ID: message.metadata[ID]} if message.metadata and ID in message.metadata else {}
    return {**own, **(metadata or {}), **own}


def without_words(message: Message) -> Message:
    """Keep roles, models, usage, latency and tool names; take content, arguments and free metadata."""
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
    """What of a value is no words: numbers, names and ids, also inside of mappings. A hand-written one may be any."""
    if isinstance(value, dict):
        kept = ((key, _structure(item)) for key, item in value.items())
        return {key: item for key, item in kept if item is not None}
    if isinstance(value, str):
        return value if len(value) <= MAX_NAME and not any(map(str.isspace, value)) else None
    return value if isinstance(value, int | float) else None
