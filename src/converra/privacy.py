"""The last step before a message leaves the caller's process or touches a disk: content switched off, redaction.

It fails closed: where the user's function fails, the structure of the message goes without its words, and that is
said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from converra.conversation.models import Message, ToolCall
from converra.guard import guard, tell

if TYPE_CHECKING:
    from collections.abc import Callable

WITHHELD = "(content not captured)"

STRUCTURAL = frozenset(
    {
        "messageId",
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


class Privacy:
    """What the settings `capture_content` and `redact` ask for, as one function over messages."""

    def __init__(
        self, *, capture_content: bool = True, redact: Callable[[dict[str, Any]], dict[str, Any] | None] | None = None
    ) -> None:
        self._capture_content = capture_content
        self._redact = redact

    def __call__(self, message: Message) -> Message | None:
        """Pass a message through; None when the user's function dropped it."""
        if not self._capture_content:
            message = without_words(message)
        if self._redact is None:
            return message
        with guard("calling your redact function"):
            return self._redacted(message, self._redact)
        return without_words(message)

    def _redacted(self, message: Message, redact: Callable[[dict[str, Any]], dict[str, Any] | None]) -> Message | None:
        result = redact(msgspec.to_builtins(message))
        if result is None:
            return None
        try:
            redacted = msgspec.convert(result, Message)
        except msgspec.ValidationError:
            tell("redact", "converra: your redact function did not return a message; sending structure without words.")
            return without_words(message)
        if not redacted.content and redacted.role != "tool":
            redacted.content = WITHHELD
        return redacted


def without_words(message: Message) -> Message:
    """Keep roles, models, usage, latency and tool names; take content, arguments and free metadata."""
    calls = message.tool_calls
    metadata = {key: value for key, value in (message.metadata or {}).items() if key in STRUCTURAL}
    return msgspec.structs.replace(
        message,
        content=WITHHELD if message.content else "",
        tool_calls=[ToolCall(id=c.id, name=c.name) for c in calls] if calls else None,
        metadata=metadata or None,
    )
