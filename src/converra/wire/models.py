"""A message as the API stores it (API document, "Append Messages").

Encoding leaves out every field that is None: the API never sees a null.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, get_args

import msgspec

Role = Literal["user", "assistant", "system", "tool"]
ROLES: tuple[str, ...] = get_args(Role)

Status = Literal["active", "in_progress", "completed", "abandoned"]


class Usage(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True):
    """Token usage as the provider reported it, in tokens."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class ToolCall(msgspec.Struct, rename="camel", omit_defaults=True):
    """A tool call, or in a tool result the call that it answers.

    `arguments` is the parsed object, or the raw string when it does not parse; a result has none.
    """

    id: str | None = None
    name: str | None = None
    arguments: Any = msgspec.UNSET


class Message(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """One message of a conversation. Only a `tool` message may have empty content."""

    role: Role
    content: str
    timestamp: datetime | None = None
    model: str | None = None
    tokens: int | None = None
    tool_calls: list[ToolCall] | None = None
    usage: Usage | None = None
    latency_ms: float | None = None
    metadata: dict[str, Any] | None = None


def _as_written(value: Any) -> str:
    """A datetime of a subclass, which msgspec does not take: while a test has frozen time, every datetime is one."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    raise TypeError(f"{type(value).__name__} is not JSON")


_encoder = msgspec.json.Encoder(enc_hook=_as_written)


def encode(value: Any) -> bytes:
    """Strict UTF-8 JSON of a message, or of plain data that `safe.plain` has been through."""
    return _encoder.encode(value)


def size(message: Message) -> int:
    """What a message weighs against the API's limits, in UTF-8 bytes of its content."""
    return len(message.content.encode())
