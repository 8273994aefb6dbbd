"""The endpoints of the API, one function each: from arguments to a request, and how its answer is read.

Arguments that can never work raise InvalidArgumentError here, before anything is sent. The sections named are those of
the API document.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Generic, Literal, TypeVar, get_args
from urllib.parse import quote

import msgspec

from converra import transcript
from converra.api.results import ConversationPage, Insights, StoredConversation
from converra.errors import ConverraError, InvalidArgumentError
from converra.wire import limits
from converra.wire.json_safe import encode
from converra.wire.models import MessageLike, Status, messages_from, to_json

T = TypeVar("T")

AppendStatus = Literal["active", "completed"]

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
"""The name of a header (RFC 9110)."""

_PLAIN_ID = re.compile(r"[A-Za-z0-9_-]+")
"""An id that needs no quoting in a URL, as nearly all are."""

DEFAULT_LIMIT = 20
"""Rows of a page where the request names no number."""


class Operation(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One request, and how its response is read.

    Attributes:
        method: The HTTP method.
        path: The path, relative to the base URL.
        query: The query parameters.
        body: The encoded body.
        headers: Headers of the caller's, with lower-case names.
        timeout: Seconds that one attempt may take; None for the connection's.
        read: Reads the body of a success; raises ValueError for one that it cannot read.
        idempotent: True if sending it twice has the effect of sending it once.
        skims: True if `read` needs no field of a success: a long body is then neither kept nor decoded.

    """

    method: str
    path: str
    query: dict[str, str] = {}
    body: bytes | None = None
    headers: dict[str, str] = {}
    timeout: float | None = None
    read: Callable[[bytes | bytearray], T]
    idempotent: bool
    skims: bool = False

    def seconds(self, timeout: float | None, usual: float) -> float:
        """Return the seconds that one attempt may take: its own, else the `timeout` of the call, else `usual`."""
        if self.timeout is not None:
            return self.timeout
        return usual if timeout is None else timeout


OWN_HEADERS = frozenset(
    {
        *("accept", "accept-encoding", "authorization", "connection", "content-encoding", "content-length"),
        *("content-type", "host", "transfer-encoding", "user-agent"),
    }
)
"""Headers that the client sets itself."""


def checked_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Return the headers with lower-case names; raises InvalidArgumentError for one that cannot be sent."""
    if not isinstance(headers, Mapping | None):
        raise InvalidArgumentError(f"extra_headers is {type(headers).__name__}, expected a dict of strings")
    return {_header_name(name): _header_value(name, value) for name, value in (headers or {}).items()}


def _header_name(name: Any) -> str:
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        raise InvalidArgumentError(f"extra_headers has the name {name!r}, which no header can have")
    if name.lower() in OWN_HEADERS:
        raise InvalidArgumentError(f"extra_headers has {name!r}, which the client sets itself")
    return name.lower()


def _header_value(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.isascii() or not (value.isprintable() or not value):
        raise InvalidArgumentError(f"extra_headers[{name!r}] cannot be sent; expected a string of ASCII characters")
    return value


def checked_timeout(timeout: Any) -> float | None:
    """Return the seconds; raises InvalidArgumentError if they are no positive number."""
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < math.inf:
        raise InvalidArgumentError(f"timeout is {timeout!r}, expected a positive number of seconds")
    return float(timeout)


def create_conversation(
    *,
    prompt_id: str,
    content: str | Sequence[MessageLike],
    status: Status | None = None,
    llm_model: str | None = None,
    company_name: str | None = None,
    idempotency_key: str | None = None,
) -> Operation[StoredConversation]:
    """Create a conversation ("Create Conversation").

    `content` is either form of the content field, or messages that become the structured form. Fields of a message that
    the content has no place for are sent in its metadata; see `wire.details`. Over the limits it raises
    ContentLimitError. Without an idempotency key the request cannot safely be sent again.
    """
    fields = {
        "promptId": _identifier("prompt_id", prompt_id),
        "content": _content(content),
        "status": _one_of("status", status, get_args(Status)),
        "llmModel": _optional_text("llm_model", llm_model),
        "companyName": _optional_text("company_name", company_name),
        "idempotencyKey": _optional_text("idempotency_key", idempotency_key),
    }
    return Operation(
        method="POST",
        path="/conversations",
        body=_body(fields),
        read=StoredConversation.read,
        idempotent=idempotency_key is not None,
    )


def create_encoded(
    *,
    prompt_id: str,
    content: bytes,
    status: str | None,
    llm_model: str | None,
    company_name: str | None,
    idempotency_key: str,
) -> Operation[Accepted | StoredConversation]:
    """As `create_conversation`, for structured content whose messages are checked and encoded already.

    Raises ContentLimitError if the content as a whole is over the limit: it is not decoded to count its messages.
    """
    if len(content) > limits.MAX_CONTENT_BYTES:
        raise limits.content_too_large(len(content))
    fields = {
        "promptId": _optional_text("prompt_id", prompt_id),
        "content": content.decode(),
        "status": status,
        "llmModel": _optional_text("llm_model", llm_model),
        "companyName": _optional_text("company_name", company_name),
        "idempotencyKey": idempotency_key,
    }
    return Operation(
        method="POST", path="/conversations", body=_body(fields, encode), read=_read_created, idempotent=True
    )


class Accepted(msgspec.Struct):
    """The answer to what is encoded already. The conversation in it is skipped, not decoded: it may be large."""

    id: Any = None
    status: Any = None


_accepted = msgspec.json.Decoder(Accepted)


def _read_created(body: bytes | bytearray) -> Accepted | StoredConversation:
    """Read the id and the status of a new conversation; those of an odd answer like the typed client."""
    with suppress(ValueError, RecursionError):
        created = _accepted.decode(body)
        if isinstance(created.id, str) and isinstance(created.status, str):
            return created
    return StoredConversation.read(body)


def append_messages(
    conversation_id: str,
    messages: Sequence[MessageLike],
    *,
    status: AppendStatus | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Operation[StoredConversation]:
    """Append at least one message ("Append Messages"); never idempotent, since an append has no key."""
    fields = {
        "messages": messages_from(messages),
        "status": _one_of("status", status, get_args(AppendStatus)),
        "metadata": metadata,
    }
    return Operation(
        method="POST",
        path=f"{_conversation(conversation_id)}/messages",
        body=_body(fields),
        read=StoredConversation.read,
        idempotent=False,
    )


def append_encoded(
    conversation_id: str,
    messages: Sequence[bytes],
    *,
    status: AppendStatus | None,
    metadata: Mapping[str, Any] | None,
    shows: bool = False,
) -> Operation[Accepted | StoredConversation]:
    """As `append_messages`, for encoded messages; the answer only says that it came, unless it `shows` the rest."""
    fields = {"messages": [msgspec.Raw(message) for message in messages], "status": status, "metadata": metadata}
    return Operation(
        method="POST",
        path=f"{_conversation(conversation_id)}/messages",
        body=_body(fields, encode),
        read=_read_appended if shows else _accepted.decode,
        idempotent=False,
        skims=not shows,
    )


def _read_appended(body: bytes | bytearray) -> Accepted | StoredConversation:
    """Read the whole answer to an append; only that it came where it is odd."""
    accepted = _accepted.decode(body)
    with suppress(ConverraError):
        return StoredConversation.read_as_sent(bytes(body))
    return accepted


def list_conversations(
    *,
    prompt_id: str | None = None,
    status: Status | None = None,
    has_insights: bool | None = None,
    limit: int | None = None,
    offset: int | None = None,
) -> Operation[ConversationPage]:
    """List conversations, one page of them ("List Conversations")."""
    given = {
        "promptId": _optional_text("prompt_id", prompt_id),
        "status": _one_of("status", status, get_args(Status)),
        "hasInsights": _flag("has_insights", has_insights),
        "limit": _number("limit", limit, least=1),
        "offset": _number("offset", offset, least=0),
    }
    return _read("/conversations", given, ConversationPage.read)


def get_conversation(conversation_id: str, *, include_insights: bool | None = None) -> Operation[StoredConversation]:
    """Get one conversation with its content ("Get Conversation")."""
    query = {"includeInsights": _flag("include_insights", include_insights)}
    return _read(_conversation(conversation_id), query, StoredConversation.read)


def get_insights(conversation_id: str) -> Operation[Insights]:
    """Get what the analysis of a conversation found ("Get Conversation Insights")."""
    return _read(f"{_conversation(conversation_id)}/insights", {}, Insights.read)


def _read(path: str, query: Mapping[str, str | None], read: Callable[[bytes | bytearray], T]) -> Operation[T]:
    given = {name: value for name, value in query.items() if value is not None}
    return Operation(method="GET", path=path, query=given, read=read, idempotent=True)


def _content(content: str | Sequence[MessageLike]) -> str:
    text = content if isinstance(content, str) else transcript.build_structured(content)
    if not text.strip():
        raise InvalidArgumentError("content is empty, expected a transcript or messages")
    _unicode("content", text)
    sent, (texts, structured) = transcript.fitted(text)
    limits.check_content(sent, texts, structured=structured)
    return sent


def _conversation(conversation_id: str) -> str:
    if type(conversation_id) is str and _PLAIN_ID.fullmatch(conversation_id):
        return f"/conversations/{conversation_id}"
    _identifier("conversation_id", conversation_id)
    if conversation_id in {".", ".."}:
        raise InvalidArgumentError(f"conversation_id is {conversation_id!r}, which a URL cannot hold")
    return f"/conversations/{quote(conversation_id, safe='')}"


def _identifier(name: str, value: Any) -> str:
    text = _optional_text(name, value)
    if text is None:
        raise InvalidArgumentError(f"{name} is None, expected a non-empty string")
    return text


def _optional_text(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip():
        raise InvalidArgumentError(f"{name} is {value!r}, expected a non-empty string")
    return _unicode(name, value)


def _unicode(name: str, value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(f"{name} is no valid Unicode text: {error}") from error
    return value


def _one_of(name: str, value: Any, known: tuple[str, ...]) -> str | None:
    if value is None:
        return None
    if value not in known:
        raise InvalidArgumentError(f"{name} is {value!r}, expected one of {', '.join(known)}")
    return known[known.index(value)]


def _flag(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, bool):
        raise InvalidArgumentError(f"{name} is {value!r}, expected True or False")
    return "true" if value else "false"


def _number(name: str, value: Any, *, least: int) -> str | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InvalidArgumentError(f"{name} is {value!r}, expected a whole number of at least {least}")
    return str(value)


def _body(fields: Mapping[str, Any], encoded: Callable[[Any], bytes] = to_json) -> bytes:
    return encoded({name: value for name, value in fields.items() if value is not None})
