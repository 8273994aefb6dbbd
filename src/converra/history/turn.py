"""A turn as it is captured: the request, the answer, and the facts of the call.

All of it is made on the app's thread in a few microseconds: strings are kept by reference, and nothing is copied,
hashed, parsed or encoded. `draft` makes the API's messages from it later, on a worker thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from converra.history.arguments import is_blank
from converra.wire.models import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable

Counts = tuple[Usage | None, dict[str, Any] | None]
"""Token usage of a call, and its details."""

ODD = 400
"""Assumed size of a tool call's arguments that are not a string, in characters."""


class SourceToolCall(msgspec.Struct, frozen=True, gc=False):
    """A tool call of the model. `arguments` is as the provider sent it, mostly a JSON string."""

    id: str | None
    name: str | None
    arguments: Any

    @property
    def is_meant(self) -> bool:
        """Report whether it is a real call: some gateways add empty ones to a text.

        A real call has a name, or else arguments and an id to which a result can refer.
        """
        return bool(self.name or (self.id and not is_blank(self.arguments)))


class Attachment(NamedTuple):
    """A part of a message that is not text.

    `data` is base64, a data URL, or the bytes themselves. It never leaves the process: only its size and digest do.
    """

    kind: str
    """`image`, `audio`, `file`, `video` or `document`."""
    mime: str | None = None
    data: str | bytes | None = None
    url: str | None = None
    name: str | None = None
    """A file name or a provider's file id."""


class SourceMessage(msgspec.Struct, frozen=True, gc=False):
    """One message, read from the format of a provider or a framework.

    `text` becomes the `content`, with a placeholder line for each attachment. `calls` are the tool calls of an
    assistant turn. A tool result has `call_id` and, if it is known, `name`.
    """

    role: str
    text: str = ""
    calls: tuple[SourceToolCall, ...] = ()
    call_id: str | None = None
    name: str | None = None
    attachments: tuple[Attachment, ...] = ()
    metadata: dict[str, Any] | None = None
    latency_ms: float | None = None

    @property
    def weight(self) -> int:
        """Approximate number of characters of all strings that it keeps alive."""
        beside = self.beside if self.calls or self.attachments or self.metadata else 0
        return len(self.text) + beside

    @property
    def beside(self) -> int:
        """Approximate number of characters of all strings except its text."""
        size = 0
        for call in self.calls:
            size += len(call.arguments) if type(call.arguments) is str else ODD
        for attachment in self.attachments:
            size += len(attachment.data or "")
        return size + opaque_weight(self.metadata) if self.metadata else size


class Dialect(NamedTuple):
    """The reader of one message format. Its functions are pure and fast, and must not raise on odd input.

    `fingerprint` returns one integer for each message, equal if a message is resent unchanged. It is called for all
    messages of all requests, so it must cost well under a microsecond for each.
    `read` returns the source messages of one message: several for a list of Responses items, none for an item without
    text. It is called only for messages whose fingerprint is unknown.
    """

    name: str
    fingerprint: Callable[[Sequence[Any]], list[int]]
    read: Callable[[Any], tuple[SourceMessage, ...]]
    echo: Callable[[SourceMessage], Any] | None = None
    """The message in which most apps resend a reply; only its fingerprint is used."""
    identity: Callable[[Any], str | None] | None = None
    """The id of a user's message, where a message keeps its id for good and another one has another id; or None."""


_HTTP_STATUSES = range(100, 600)


class Failure(NamedTuple):
    """The error that ended a call before its answer was complete: its class name, and its HTTP status if it has one."""

    type: str
    status: int | None = None

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Describe an exception by its class, and the HTTP status that it carries under one of its usual names."""
        found = [getattr(error, name, None) for name in ("status_code", "code", "status")]
        response = getattr(error, "response", None)
        if isinstance(response, dict):  # as botocore keeps it
            found.append((response.get("ResponseMetadata") or {}).get("HTTPStatusCode"))
        status = next((status for status in found if type(status) is int and status in _HTTP_STATUSES), None)
        return cls(type(error).__name__, status)

    @classmethod
    def in_answer(cls, answer: Answer) -> Failure | None:
        """Return the error that an answer reports about itself, if it does."""
        error = (answer.metadata or {}).get("error")
        return cls(error["type"], error.get("status")) if error else None


class Answer(msgspec.Struct, gc=False):
    """The answer of the model, and the facts that the provider reported about it.

    `messages` is in the order of the output. Its last assistant message carries the facts (model, usage, latency,
    finish reason), once.
    """

    messages: tuple[SourceMessage, ...] = ()
    model: str | None = None
    usage: Usage | None = None
    usage_details: dict[str, Any] | None = None
    finish_reason: str | None = None
    alternatives: tuple[dict[str, Any], ...] = ()
    response_id: str | None = None
    partial: bool = False
    metadata: dict[str, Any] | None = None
    carried_by: str | None = None
    """Id of the recorded message that carries the facts; None until it is recorded."""
    unread: Any = None
    """The usage as the provider sent it, to be read later by `read` on a worker thread."""
    read: Callable[[Any], Counts] | None = None
    """Reads `usage` and `usage_details` from `unread`."""

    @property
    def is_begun(self) -> bool:
        """Report whether the provider has answered anything; a stream may end before its first chunk."""
        has_output = any(source.text or source.calls or source.attachments for source in self.messages)
        return bool(has_output or self.finish_reason or self.response_id or self.usage)

    def readable(self) -> Answer:
        """Return it with its messages, in case that an integration has deferred more than the usage."""
        return self

    def settle(self) -> None:
        """Read the usage, if that was deferred."""
        read, unread = self.read, self.unread
        if read is not None:
            self.read = self.unread = None
            self.usage, self.usage_details = read(unread)

    @property
    def weight(self) -> int:
        """Approximate number of characters of all strings that it keeps alive."""
        size = 0
        for source in self.messages:
            size += len(source.text)
            if source.calls or source.attachments or source.metadata:
                size += source.beside
        return size + self.beside if self.metadata or self.alternatives else size

    @property
    def beside(self) -> int:
        """Approximate number of characters of the strings outside the messages: reasoning, alternatives."""
        return opaque_weight(self.metadata) + opaque_weight(self.alternatives)


def opaque_weight(value: Any) -> int:
    """Count the characters of the strings in opaque data, two levels deep: the long ones are there."""
    if not value:
        return 0
    outer = value.values() if type(value) is dict else value
    return sum(len(text) for inner in outer for text in _members(inner) if type(text) is str)


def _members(value: Any) -> Iterable[Any]:
    if type(value) is dict:
        return value.values()
    return value if type(value) is list else (value,)


class Trace:
    """A run of a framework with all runs inside it. Its calls belong to one conversation if nothing else decides."""

    __slots__ = ("answers", "documents", "recording", "thread")

    def __init__(self) -> None:
        self.recording: Any = None
        """The recording that its last call went to; set by the router."""
        self.thread: str | None = None
        """The framework's session of the outermost run; None if it has none."""
        self.documents: list[Any] = []
        """Documents that were retrieved for the next call."""
        self.answers: dict[str, Callable[[BaseException], None]] = {}
        """Reject the latest answers, by message id: an output parser may raise on one after its call has ended."""


class Origin:
    """Prompt, session and metadata that the user gave to a framework's handler. Compared by identity."""

    __slots__ = ("metadata", "prompt_id", "session_id", "used")

    def __init__(
        self,
        prompt_id: str | None = None,
        session_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.prompt_id: str | None = prompt_id
        self.session_id: str | None = session_id
        self.metadata: dict[str, Any] = dict(metadata or {})
        self.used: bool = False
        """A call was recorded for it."""


class Run(NamedTuple):
    """A framework's run of an agent, as messages name it in their metadata (`agent`, `runId`)."""

    agent: str | None = None
    """The agent's name."""
    id: str | None = None


class Scope(NamedTuple):
    """The conversation that a framework names for a call outside any `conversation()` block, and its run."""

    thread: str | None = None
    """The framework's own session, such as a LangGraph thread id."""
    origin: Origin | None = None
    trace: Trace | None = None
    run: Run | None = None
    invented: bool = False
    """The framework made up the id of its session, so a resent history may name the conversation better."""

    @property
    def session(self) -> str | None:
        """The framework's session, or else that of its handler."""
        return self.thread or (self.origin.session_id if self.origin else None)


class DeferredMessages(Sequence[Any]):
    """Messages in bytes that cannot change, parsed when they are first needed: mostly on a worker thread.

    Args:
        load: Parses them.
        size: Number of bytes that wait to be parsed.

    """

    __slots__ = ("_load", "_messages", "size")

    def __init__(self, load: Callable[[], Sequence[Any]], size: int) -> None:
        self.size: int = size
        self._load: Callable[[], Sequence[Any]] | None = load
        self._messages: Sequence[Any] = ()

    def __len__(self) -> int:
        """Count the messages."""
        return len(self._loaded())

    def __getitem__(self, index: Any) -> Any:
        """Return the message at an index, or those of a slice."""
        return self._loaded()[index]

    def _loaded(self) -> Sequence[Any]:
        load, self._load = self._load, None
        if load is not None:
            self._messages = load()
        return self._messages


class Request(msgspec.Struct, gc=False):
    """The request of a call: its messages in order, system messages first, in one dialect.

    `previous` names the answer that it continues (`previous_response_id` or conversation id of the Responses API).
    Then all of its messages are new.
    """

    dialect: Dialect
    messages: Sequence[Any]
    instructions: str | None = None
    model: str | None = None
    previous: str | None = None
    tools: Sequence[Any] = ()
    scope: Scope | None = None
    run: Run | None = None
    branch: bool = False
    """It begins a side call (a sub-agent), unless it continues an answer that is recorded."""
    waited: float = 0.0
    """Seconds since it was sent, where a framework reports it only with its answer."""

    def tool_names(self) -> list[Any]:
        """Read the names of the declared tools; most requests declare tools of one shape, which the first one has."""
        tools = self.tools
        try:
            holder = next((name for name in _TOOL_HOLDERS if name in tools[0]), None)
            if holder is not None:
                return [tool[holder]["name"] for tool in tools]
            return [tool["name"] for tool in tools]
        except (KeyError, TypeError, IndexError):
            return [_tool_name(tool) for tool in tools]

    @property
    def agent(self) -> str | None:
        """The name of the agent that makes the call, as its framework knows it; None outside of such a framework."""
        return self.run.agent if self.run else None

    @property
    def thread(self) -> str | None:
        """The framework's own session, such as a LangGraph thread id; None if it has none."""
        return self.scope.thread if self.scope else None


_TOOL_HOLDERS = ("function", "custom", "toolSpec", "systemTool")
"""Fields of a declared tool that may hold its name."""


def _tool_name(tool: Any) -> str | None:
    """Read the name of a declared tool, in the shapes of the providers; hosted tools have only a type."""
    if not isinstance(tool, dict):
        return None
    function = next((held for holder in _TOOL_HOLDERS if (held := tool.get(holder))), tool)
    name = (function.get("name") if isinstance(function, dict) else None) or tool.get("type")
    return name if isinstance(name, str) else None


class Facts(msgspec.Struct, frozen=True, gc=False):
    """Times of a call, its OpenTelemetry span (0 if none) and its run. `started` is seconds since the epoch."""

    started: float
    latency_ms: float | None = None
    first_token_ms: float | None = None
    trace_id: int = 0
    span_id: int = 0
    run: Run | None = None
    sighting: Any = None
    """The mark by which a reader of spans recognises the call; None while there is no such reader."""
