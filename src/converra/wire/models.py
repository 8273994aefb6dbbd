"""Messages as the API stores them (API document, "Append Messages"), and their parsing as a programmer gives them.

Fields that are None are not encoded: the API never sees a null. A programmer gives a `Message`, or a dict with the
field names of the API or of Python.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Required, TypedDict, get_args

import msgspec

from converra.errors import InvalidArgumentError
from converra.wire.json_safe import encode

Role = Literal["user", "assistant", "system", "tool"]
ROLES: tuple[str, ...] = get_args(Role)

Status = Literal["active", "in_progress", "completed", "abandoned"]

FEEDBACK = "feedback"
"""Name of feedback in the metadata of a conversation, and of the system message that carries it."""

CLOSING_WORDS = "Conversation ended."
"""Content of the system message that completes a conversation when no other message is left to do so."""

CARRYING_WORDS = "Metadata updated."
"""Content of the system message that carries metadata of the conversation when no other message follows."""

USER_ID = "userId"
"""Name of the app's user in the metadata of a conversation (API document, "Content Format")."""


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


def is_added(role: str | None, content: str, metadata: Mapping[str, Any] | None) -> bool:
    """Report whether a recorder has added the message: it only carries the end, metadata or feedback."""
    return role == "system" and (content in (CLOSING_WORDS, CARRYING_WORDS) or FEEDBACK in (metadata or ()))


class UsageParam(TypedDict, total=False):
    """Token usage as a dict, accepted wherever a `Usage` is; both counts are in tokens."""

    prompt_tokens: int | None
    promptTokens: int | None
    completion_tokens: int | None
    completionTokens: int | None


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
    usage: Usage | UsageParam | None
    latency_ms: float | None
    latencyMs: float | None
    metadata: Mapping[str, Any] | None


MessageLike = Message | MessageParam
"""A message as a programmer may give it: an object, or a dict with the fields of `MessageParam`."""


def size(message: Message) -> int:
    """Return the UTF-8 bytes of a message's content, which the API limits."""
    return len(message.content.encode())


def _spellings(cls: type[msgspec.Struct]) -> dict[str, str]:
    """Map both names of every field to the API's name."""
    fields = msgspec.structs.fields(cls)
    return {name: field.encode_name for field in fields for name in (field.name, field.encode_name)}


_MESSAGE = _spellings(Message)
_USAGE = _spellings(Usage)

_EXPECTED = {
    "timestamp": "a datetime, or a string in ISO 8601 with a time zone",
    "model": "a string",
    "tokens": "a whole number",
    "usage": "a Usage, or a dict of whole numbers",
    "latencyMs": "a number of milliseconds",
    "metadata": "a dict whose keys are strings",
}
"""By field: the values that it can have, in words."""


def message_from(value: MessageLike | Mapping[str, Any]) -> Message:
    """Make a message (API document, "Append Messages").

    A field that is None counts as not given. Tool calls given as dicts are kept unchanged: the API document leaves
    their fields open.

    Raises:
        InvalidArgumentError: A field is unknown, or has a value that the API rejects.

    """
    wire = _wire(value)
    calls = _tool_calls(wire.pop("toolCalls", None))
    if isinstance(wire.get("usage"), Mapping):
        wire["usage"] = _respelled(wire["usage"], _USAGE, "usage")
    _check(wire)
    message = _converted(wire)
    message.tool_calls = calls
    return message


def tool_call(given: ToolCall | Mapping[str, Any]) -> ToolCall:
    """Make a tool call with the API's fields, also from a provider's form that nests them in `function`."""
    if isinstance(given, ToolCall):
        return given
    function = given.get("function")
    fields = {**given, **function} if isinstance(function, Mapping) else given
    return ToolCall(id=fields.get("id"), name=fields.get("name"), arguments=fields.get("arguments", msgspec.UNSET))


def messages_from(values: Sequence[MessageLike]) -> list[Message]:
    """Make at least one message.

    Raises:
        InvalidArgumentError: There is none, or one is invalid; the error has its index.

    """
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Sequence):
        raise InvalidArgumentError(f"messages is {_name(values)}, expected a list of messages")
    if not values:
        raise InvalidArgumentError("messages is empty, expected at least one message")
    return [_numbered(index, value) for index, value in enumerate(values)]


def to_json(value: Any) -> bytes:
    """Encode data given by a programmer; raises InvalidArgumentError for values that JSON does not have."""
    try:
        return encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidArgumentError(f"the request cannot be written as JSON: {error}") from error


def _numbered(index: int, value: MessageLike) -> Message:
    try:
        return message_from(value)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"messages[{index}]: {error}") from error.__cause__


def _wire(value: Any) -> dict[str, Any]:
    if isinstance(value, Message):
        return _respelled(msgspec.structs.asdict(value), _MESSAGE, "message")
    if isinstance(value, Mapping):
        return _respelled(value, _MESSAGE, "message")
    raise InvalidArgumentError(f"a message is {_name(value)}, expected a Message or a dict with role and content")


def _respelled(given: Mapping[str, Any], spellings: dict[str, str], subject: str) -> dict[str, Any]:
    unknown = [repr(name) for name in given if name not in spellings]
    if unknown:
        known = ", ".join(name for name in spellings if name.islower())
        raise InvalidArgumentError(f"{subject} has unknown fields {', '.join(unknown)}; known are {known}")
    return {spellings[name]: value for name, value in given.items() if value is not None}


def _tool_calls(given: Any) -> list[ToolCall] | None:
    if given is None:
        return None
    if not isinstance(given, (list, tuple)) or not all(isinstance(call, (ToolCall, Mapping)) for call in given):
        raise InvalidArgumentError(f"tool_calls is {given!r}, expected a list of dicts or ToolCall objects")
    return list(given)


def _check(wire: dict[str, Any]) -> None:
    role, content = wire.get("role"), wire.get("content")
    if role not in ROLES:
        raise InvalidArgumentError(f"role is {role!r}, expected one of {', '.join(ROLES)}")
    if not isinstance(content, str):
        raise InvalidArgumentError(f"content is {_name(content)}, expected a string")
    if not content and role != "tool":
        article = "an" if role == "assistant" else "a"
        raise InvalidArgumentError(f"content of {article} {role} message is empty; only a tool message may have none")


def _converted(wire: dict[str, Any]) -> Message:
    try:
        message = msgspec.convert(wire, Message)
    except msgspec.ValidationError as error:
        raise InvalidArgumentError(_reason(wire, error)) from error
    if message.latency_ms is not None and not math.isfinite(message.latency_ms):
        raise InvalidArgumentError(f"latency_ms is {message.latency_ms}, expected a finite number")
    return message


def _reason(wire: dict[str, Any], error: msgspec.ValidationError) -> str:
    """Name the field that is wrong, as Python spells it, with its value."""
    found = next((name for name in _EXPECTED if f"$.{name}" in str(error)), None)
    if found is None:
        return str(error)
    python = next(name for name, spelled in _MESSAGE.items() if spelled == found)
    return f"{python} is {wire[found]!r}, expected {_EXPECTED[found]}"


def _name(value: Any) -> str:
    return "missing" if value is None else type(value).__name__
