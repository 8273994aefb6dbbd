"""Messages as the API stores them (API document, "Append Messages").

Fields that are None are not encoded: the API never sees a null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Required, TypedDict, get_args

import msgspec

Role = Literal["user", "assistant", "system", "tool"]
ROLES: tuple[str, ...] = get_args(Role)

Status = Literal["active", "in_progress", "completed", "abandoned"]


class Usage(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True):
    """Token usage as the provider reported it; both counts are in tokens."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class ToolCall(msgspec.Struct, rename="camel", omit_defaults=True):
    """A tool call; in a tool result, the call that it answers.

    `arguments` is the parsed object, or the raw string if it is not a JSON object. A result has none.
    """

    id: str | None = None
    name: str | None = None
    arguments: Any = msgspec.UNSET


class Message(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """One message of a conversation. Only a `tool` message may have empty content.

    The fields of a create's content come first (see `details`): a message is encoded in two parts.
    """

    role: Role
    content: str
    timestamp: datetime | None = None
    model: str | None = None
    tokens: int | None = None
    tool_calls: list[ToolCall] | None = None
    usage: Usage | None = None
    latency_ms: float | None = None
    metadata: dict[str, Any] | None = None


class MessageParam(TypedDict, total=False):
    """A message as a dict, accepted wherever a `Message` is; its fields are spelled like Python or like the API.

    A field that is None counts as not given.
    """

    role: Required[Role]
    content: Required[str]
    timestamp: datetime | str | None
    model: str | None
    tokens: int | None
    tool_calls: Sequence[ToolCall | Mapping[str, Any]] | None
    toolCalls: Sequence[ToolCall | Mapping[str, Any]] | None
    usage: Usage | Mapping[str, Any] | None
    latency_ms: float | None
    latencyMs: float | None
    metadata: Mapping[str, Any] | None


MessageLike = Message | MessageParam | Mapping[str, Any]
"""A message as a programmer may give it: an object, or a dict with the fields of `MessageParam`."""


def _as_written(value: Any) -> str:
    """Encode a datetime of a subclass, which msgspec rejects: libraries that freeze time in tests use one."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    raise TypeError(f"{type(value).__name__} is not JSON")


_encoder = msgspec.json.Encoder(enc_hook=_as_written)


def encode(value: Any) -> bytes:
    """Encode a message, or plain data from `json_safe.plain`, as strict UTF-8 JSON."""
    return _encoder.encode(value)


def size(message: Message) -> int:
    """Return the UTF-8 bytes of a message's content, which the API limits."""
    return len(message.content.encode())
