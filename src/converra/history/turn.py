"""A turn as it is captured: what was asked, what was answered, and the facts of the call.

Everything here is frozen on the caller's thread in a few microseconds: strings are kept by reference, nothing is
copied, hashed, parsed or encoded. `draft.py` makes the wire's messages of it later, on the flusher's thread.
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
"""The tokens of a turn, and what they were."""

ODD = 400
"""What the arguments of a call are taken to weigh that are no string, in characters."""


class SourceToolCall(NamedTuple):
    """A tool call made by the model. `arguments` is as the provider sent it, mostly a JSON string."""

    id: str | None
    name: str | None
    arguments: Any

    @property
    def is_meant(self) -> bool:
        """Whether the model called something; gateways put empty calls beside a text.

        Without a name it takes arguments, and an id to which a result can refer.
        """
        return bool(self.name or (self.id and not is_blank(self.arguments)))


class Attachment(NamedTuple):
    """A non-text part. `data` is base64 or a data URL and never leaves the process; only its digest does."""

    kind: str
    """image, audio, file, video, document"""
    mime: str | None = None
    data: str | None = None
    url: str | None = None
    name: str | None = None
    """A file name or a provider's file id."""


class SourceMessage(msgspec.Struct, frozen=True, gc=False):
    """One message, as the provider's or the framework's format was read.

    `text` is what goes into `content`, with a placeholder line where each attachment stood. A tool result has
    `call_id` and, when known, `name`; `calls` are the tool calls of an assistant turn.
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
        """Characters of all strings that it keeps alive, nearly."""
        return len(self.text) + self.beside

    @property
    def beside(self) -> int:
        """Characters of all strings beside its text."""
        size = 0
        for call in self.calls:
            size += len(call.arguments) if type(call.arguments) is str else ODD
        for attachment in self.attachments:
            size += len(attachment.data or "")
        return size + opaque_weight(self.metadata) if self.metadata else size


class Dialect(NamedTuple):
    """How to read one wire format. All functions are pure, quick, and must not raise on odd input.

    `fingerprint` gives one integer per message: equal when a message was resent unchanged. It reads every message of
    every request, so it must cost well under a microsecond each.
    `read` turns one message into what was said; called only for messages that `fingerprint` has not shown to be old.
    One message may hold several things said (a Responses item list), or none (an item kind without words).
    """

    name: str
    fingerprint: Callable[[Sequence[Any]], list[int]]
    read: Callable[[Any], tuple[SourceMessage, ...]]
    echo: Callable[[SourceMessage], Any] | None = None
    """The message in which most apps resend an answer that said this; only to be looked at."""


class Failure(NamedTuple):
    """Why a call ended without a whole answer: the class name of the error and its HTTP status, if any."""

    type: str
    status: int | None = None


class Answer(msgspec.Struct, gc=False):
    """What the model said, and what the provider reported about it.

    `messages` is in the order of the output; the facts (model, usage, latency, finish reason) go on the last assistant
    message of it, once.
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
    unread: Any = None
    """What the provider counted, where nobody waits for that to be read."""
    read: Callable[[Any], Counts] | None = None
    """Makes `usage` and `usage_details` of it."""

    @property
    def is_begun(self) -> bool:
        """Whether the provider has answered anything; a stream may end before its first chunk."""
        source = any(one.text or one.calls or one.attachments for one in self.messages)
        return bool(source or self.finish_reason or self.response_id or self.usage)

    def settle(self) -> None:
        """Read what was put off."""
        read, unread = self.read, self.unread
        if read is not None:
            self.read = self.unread = None
            self.usage, self.usage_details = read(unread)

    @property
    def weight(self) -> int:
        """Characters of all strings that it keeps alive, nearly."""
        size = 0
        for source in self.messages:
            size += len(source.text)
            if source.calls or source.attachments or source.metadata:
                size += source.beside
        return size + self.beside if self.metadata or self.alternatives else size

    @property
    def beside(self) -> int:
        """Characters of the strings beside what was said: thoughts, alternatives."""
        return opaque_weight(self.metadata) + opaque_weight(self.alternatives)


def opaque_weight(value: Any) -> int:
    """Characters of the strings in opaque data, two levels deep, where the long ones are."""
    if not value:
        return 0
    outer = value.values() if type(value) is dict else value
    return sum(len(text) for one in outer for text in _members(one) if type(text) is str)


def _members(value: Any) -> Iterable[Any]:
    if type(value) is dict:
        return value.values()
    return value if type(value) is list else (value,)


class Trace:
    """One run of a framework, with all that runs inside of it: where nothing else tells, its calls belong together."""

    __slots__ = ("answers", "documents", "recording", "thread")

    def __init__(self) -> None:
        self.recording: Any = None
        """Where the last call of it is recorded; for the recorder."""
        self.thread: str | None = None
        """The framework's session of the outermost run, where it has one."""
        self.documents: list[Any] = []
        """What was retrieved for the next call."""
        self.answers: dict[str, Answer] = {}
        """The latest answers, by the id of their message: a parser may raise on one."""


class Origin:
    """What the user gave to a framework's handler: prompt, session and metadata. Known by identity."""

    __slots__ = ("metadata", "prompt_id", "session_id", "used")

    def __init__(
        self,
        prompt_id: str | None = None,
        session_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.prompt_id = prompt_id
        self.session_id = session_id
        self.metadata = dict(metadata or {})
        self.used = False
        """Whether anything was recorded on its behalf."""


class Scope(NamedTuple):
    """Where a framework says that something belongs, outside of any `conversation()` block."""

    thread: str | None = None
    """The framework's own session, such as a LangGraph thread id."""
    origin: Origin | None = None
    trace: Trace | None = None

    @property
    def session(self) -> str | None:
        """The framework's session, else its handler's."""
        return self.thread or (self.origin.session_id if self.origin else None)


class Request(msgspec.Struct, gc=False):
    """What a call sent: its messages in order, system first, in one dialect.

    `previous` is the id that says which answer this continues (Responses `previous_response_id` or conversation id):
    the messages are then all new. `fresh=True` says the same without naming an answer.
    """

    dialect: Dialect
    messages: Sequence[Any]
    instructions: str | None = None
    model: str | None = None
    previous: str | None = None
    tools: Sequence[Any] = ()
    scope: Scope | None = None

    @property
    def thread(self) -> str | None:
        """The framework's own session, such as a LangGraph thread id, if it has one."""
        return self.scope.thread if self.scope else None


class Facts(msgspec.Struct, frozen=True, gc=False):
    """When a call happened and how long it took. `started` is seconds since the epoch."""

    started: float
    latency_ms: float | None = None
    first_token_ms: float | None = None
    trace_id: int = 0
    span_id: int = 0
