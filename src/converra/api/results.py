"""Answers of the API, typed and tolerant: a newer server never breaks an older client.

A field that is missing or null is None, or empty where the API document always shows it: `""` for an id, a prompt id, a
status, a role or a content, 0 for a total, a limit or an offset, an empty list for messages. `created_at` of a
conversation is typed as always shown but has no empty value: it is None for a server that leaves it out.

A field that is unknown, or whose value is not what the document says, is kept as it came in `extra`, under its name on
the wire. A list of objects keeps those that are objects; where one is not, the whole list is in `extra` too. An object
that is wrapped in `{"data": ...}` is unwrapped; what stands beside it is in `extra`. Only an answer that is no JSON
object at all cannot be read.
"""

from __future__ import annotations

import json
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self, cast, get_args, get_origin, get_type_hints

import msgspec

from converra.errors import APIResponse, request_id
from converra.wire import details, notebook
from converra.wire.models import Role, Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


_OF_THE_RESPONSE = ("request_id", "response")
_NOT_OF_THE_BODY = ("extra", *_OF_THE_RESPONSE, "shows_messages")


class Result(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """Object of an answer; `extra` holds the fields that this version does not know."""

    extra: dict[str, Any] = {}

    def __repr__(self) -> str:
        missing = _missing(type(self))
        values = ((name, getattr(self, name)) for name in missing if name != "response")
        shown = (f"{name}={value!r}" for name, value in values if value is not None and value != missing[name])
        return f"{type(self).__name__}({', '.join(shown)})"

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Self:
        """Read an object that was decoded from JSON."""
        return cls._typed(raw)

    @classmethod
    def _typed(cls, raw: dict[str, Any]) -> Self:
        fields = _fields(cls)
        known: dict[str, Any] = {}
        extra: dict[str, Any] = {}
        for wire_name, value in raw.items():
            field = fields.get(wire_name)
            if field is None or not field.read_into(known, value):
                extra[wire_name] = value
        return cls(**known, extra=extra)

    def to_dict(self) -> dict[str, Any]:
        """Return the object as the API sent it, with `extra` and without nulls; ready for JSON."""
        return dict(self._wire_items()) | self.extra

    def _wire_items(self) -> Iterator[tuple[str, Any]]:
        for wire_name, field in _fields(type(self)).items():
            value = getattr(self, field.name)
            if value is not None:
                yield wire_name, _plain(value)


class Answer(Result, frozen=True, kw_only=True):
    """Object of an answer that stands alone.

    Attributes:
        request_id: The id that the API gave to the request (header `x-request-id` or `request-id`); None if it gave
            none. It does not count when results are compared.
        response: The whole response with status, headers and body; None for an object that is part of another answer,
            such as a row of a list. It does not count when results are compared.

    """

    request_id: str | None = None
    response: APIResponse | None = None

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and all(
            getattr(self, name) == getattr(other, name)
            for name in self.__struct_fields__
            if name not in _OF_THE_RESPONSE
        )

    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # as of every result: `extra` is a dict

    def set_response(self, response: APIResponse) -> None:
        """Note the response, and the id of the request, which stands in its headers."""
        msgspec.structs.force_setattr(self, "response", response)
        msgspec.structs.force_setattr(self, "request_id", request_id(response.headers))

    @classmethod
    def read(cls, body: bytes | bytearray) -> Self:
        """Read the body of an answer; raises ValueError if it is no JSON object."""
        return cls.from_dict(_unwrapped(_decode(body), _fields(cls)))


class StoredToolCall(Result, frozen=True, kw_only=True):
    """A tool call as the API holds it."""

    id: str | None = None
    name: str | None = None
    arguments: Any = None


class StoredUsage(Result, frozen=True, kw_only=True):
    """Token usage as the API holds it, in tokens."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class StoredMessage(Result, frozen=True, kw_only=True):
    """A message as the API holds it.

    A role that this version does not know is kept as it came, although the type does not name it.
    """

    role: Role | Literal[""] = ""
    content: str = ""
    timestamp: datetime | None = None
    model: str | None = None
    tokens: int | None = None
    tool_calls: list[StoredToolCall] | None = None
    usage: StoredUsage | None = None
    latency_ms: float | None = None
    metadata: dict[str, Any] | None = None


class Insights(Answer, frozen=True, kw_only=True):
    """Results of the analysis of a conversation (API document, "Get Conversation Insights")."""

    conversation_id: str | None = None
    sentiment: str | None = None
    sentiment_score: float | None = None
    task_completed: bool | None = None
    topics: list[str] | None = None
    summary: str | None = None
    issues: list[Any] | None = None
    created_at: datetime | None = None


class StoredConversation(Answer, frozen=True, kw_only=True):
    """A conversation. Which fields are set depends on the endpoint: a row of a list has no content, for one.

    Where the messages are shown, the details that a create has sent in the metadata are put back into them. A status
    that this version does not know is kept as it came, although the type does not name it.

    Attributes:
        messages: The messages; empty if the API shows none. The API document shows them in the answer to an append.
        shows_messages: True if the API showed messages, also an empty list of them.

    """

    id: str = ""
    prompt_id: str = ""
    user_id: str | None = None
    title: str | None = None
    content: str | None = None
    messages: list[StoredMessage] = []
    shows_messages: bool = False
    status: Status | Literal[""] = ""
    llm_model: str | None = None
    has_insights: bool | None = None
    insights: Insights | None = None
    metadata: dict[str, Any] | None = None
    created_at: datetime = cast("datetime", None)
    updated_at: datetime | None = None

    def __post_init__(self) -> None:
        if self.messages:
            msgspec.structs.force_setattr(self, "shows_messages", True)  # noqa: FBT003 - its signature

    def _repr_html_(self) -> str:
        """Show the conversation in a notebook: its messages, or else its transcript."""
        title = " · ".join(filter(None, (self.id, self.prompt_id, self.status)))
        rows = [_cells(message) for message in self.messages] or [["", self.content or "", ""]]
        return notebook.table(title, ("role", "content", "facts"), rows)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Self:
        """Read an object that was decoded from JSON, with the details of its messages put back."""
        return cls._shown(_with_details(raw))

    @classmethod
    def read_as_sent(cls, body: bytes) -> Self:
        """Read the body of an answer, with the details of its messages left in the metadata."""
        return cls._shown(_unwrapped(_decode(body), _fields(cls)))

    @classmethod
    def _shown(cls, raw: dict[str, Any]) -> Self:
        conversation = cls._typed(raw)
        if isinstance(raw.get("messages"), list):
            msgspec.structs.force_setattr(conversation, "shows_messages", True)  # noqa: FBT003 - its signature
        return conversation

    def _wire_items(self) -> Iterator[tuple[str, Any]]:
        left_out = {"messages": not self.shows_messages, "promptId": not self.prompt_id}
        return (item for item in super()._wire_items() if not left_out.get(item[0]))


class Pagination(Result, frozen=True, kw_only=True):
    """Position of a page among all results."""

    total: int = 0
    limit: int = 0
    offset: int = 0


class ConversationPage(Answer, frozen=True, kw_only=True):
    """One page of a list (API document, "List Conversations")."""

    data: list[StoredConversation] = []
    pagination: Pagination = Pagination()


def _with_details(raw: dict[str, Any]) -> dict[str, Any]:
    messages, metadata = raw.get("messages"), raw.get("metadata")
    if not (isinstance(messages, list) and isinstance(metadata, dict)):
        return raw
    rest, found = details.take(metadata)
    return {**raw, "messages": details.put_back(messages, found), "metadata": rest} if found else raw


def _cells(message: StoredMessage) -> list[str]:
    """Return role, text with tool calls, and facts of a message, for a notebook."""
    calls = [f"{call.name}({'' if call.arguments is None else call.arguments})" for call in message.tool_calls or ()]
    usage = message.usage
    tokens = f"{usage.prompt_tokens or 0:,} + {usage.completion_tokens or 0:,} tokens" if usage else ""
    latency = "" if message.latency_ms is None else f"{message.latency_ms:,.0f} ms"
    facts = (
        message.model or "",
        tokens,
        latency,
        f"{message.timestamp:%Y-%m-%d %H:%M:%S}" if message.timestamp else "",
    )
    return [message.role, "\n".join(filter(None, (message.content, *calls))), "\n".join(filter(None, facts))]


def _unwrapped(raw: dict[str, Any], fields: Mapping[str, _Field]) -> dict[str, Any]:
    """Take an object out of `{"data": ...}`; what stands beside it stays, as unknown fields."""
    inner = raw.get("data")
    if not isinstance(inner, dict) or not raw.keys().isdisjoint(fields.keys() - {"data"}):
        return raw
    return {name: value for name, value in raw.items() if name != "data"} | inner


def _decode(body: bytes | bytearray) -> dict[str, Any]:
    try:
        raw = _decode_any(body)
    except RecursionError as error:
        raise ValueError("JSON is nested too deeply") from error
    if not isinstance(raw, dict):
        raise ValueError(f"expected a JSON object, got {type(raw).__name__}")  # noqa: TRY004 - one error for all bodies
    return raw


def _decode_any(body: bytes | bytearray) -> Any:
    """Decode JSON as servers send it, with halves of surrogate pairs and NaN, which msgspec refuses.

    JavaScript cuts emoji in half and escapes the halves; one such message must not hide a conversation.
    """
    try:
        return msgspec.json.decode(body)
    except ValueError:
        text = json.dumps(json.loads(body, parse_constant=lambda _: None), ensure_ascii=False)
        return msgspec.json.decode(text.encode(errors="replace"))


class _Field(NamedTuple):
    """Reader of one field; `result` is the class of the object, or of each item of the list, that it holds."""

    name: str
    type: Any
    result: type[Result] | None
    many: bool

    def read_into(self, known: dict[str, Any], value: Any) -> bool:
        """Set what can be read of a value; return False if that is not all of it."""
        if value is None:
            return True
        if self.many:
            return self._read_items(known, value)
        try:
            known[self.name] = self._read_one(value)
        except ValueError:
            return False
        return True

    def _read_items(self, known: dict[str, Any], value: Any) -> bool:
        if not isinstance(value, list):
            return False
        good = [self.result.from_dict(item) for item in value if isinstance(item, dict)] if self.result else []
        known[self.name] = good
        return len(good) == len(value)

    def _read_one(self, value: Any) -> Any:
        if self.result is not None:
            return self.result.from_dict(msgspec.convert(value, dict))
        # Most values are of the type itself, and `convert` would work out the type anew for each.
        return value if type(value) is self.type else msgspec.convert(value, self.type)


@cache
def _fields(cls: type[Result]) -> dict[str, _Field]:
    hints = get_type_hints(cls)
    fields = {field.encode_name: _field(field.name, hints[field.name]) for field in msgspec.structs.fields(cls)}
    return {wire_name: field for wire_name, field in fields.items() if field.name not in _NOT_OF_THE_BODY}


def _field(name: str, hint: Any) -> _Field:
    """Describe a field; the shapes in use are `X`, `X | None`, `list[X]`, `list[X] | None` and literals of strings."""
    plain = next((arm for arm in get_args(hint) if arm is not type(None)), hint) if _optional(hint) else hint
    if any(get_origin(arm) is Literal for arm in (plain, *get_args(plain))):
        plain = str  # a newer server may know more of them
    item = get_args(plain)[0] if get_origin(plain) is list else plain
    result = item if isinstance(item, type) and issubclass(item, Result) else None
    return _Field(
        name, dict if get_origin(plain) is dict else plain, result, many=result is not None and item is not plain
    )


@cache
def _missing(cls: type[Result]) -> dict[str, Any]:
    """Return the value by which the `repr` knows each field that the API did not send, `extra` last; no number is."""
    defaults = {
        field.name: field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        for field in msgspec.structs.fields(cls)
    }
    extra = defaults.pop("extra")
    return {**{name: None if type(value) is int else value for name, value in defaults.items()}, "extra": extra}


def _optional(hint: Any) -> bool:
    return type(None) in get_args(hint)


def _plain(value: Any) -> Any:
    if isinstance(value, Result):
        return value.to_dict()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return msgspec.to_builtins(value)
