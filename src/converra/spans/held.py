"""Spans on their way through the bridge: as they arrive, and while they are held."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from converra.capture.handle import Conversation
from converra.spans.family import Member
from converra.spans.reading import Reading
from converra.spans.span import EMPTY, Span, SpanEvent

if TYPE_CHECKING:
    from converra.capture.recording import Recording

PromptId = str | Callable[[Span], str | None] | None


class LogEvent(NamedTuple):
    """A log record that names a span: some emitters put the content there."""

    trace_id: str
    span_id: str
    event: SpanEvent


class Arrival(NamedTuple):
    """A span that has come, and is not read yet."""

    span: Span | None
    ended: Any
    """The SDK's object, in place of `span`."""
    prompt_id: PromptId = None
    block: Conversation | None = None
    expected: Expected | None = None
    log: LogEvent | None = None
    patience: float = 0.0


def size_of(span: Any) -> int:
    """Count the characters in the attributes of a span and of its events: the words of its messages are there.

    Args:
        span: A `Span`, or the SDK's object.

    """
    size = 0
    for part in (span, *(getattr(span, "events", None) or ())):
        attributes = getattr(part, "_attributes", None) or part.attributes or EMPTY
        for value in getattr(attributes, "_dict", attributes).values():  # the SDK's mappings are slow
            if type(value) is str:
                size += len(value)
    return size


class Held(msgspec.Struct, eq=False):
    """A span that waits for its turn."""

    span: Span
    reading: Reading | None
    """None for the end of a trace."""
    member: Member
    prompt_id: PromptId
    block: Conversation | None
    expected: Expected | None
    due: float
    """By the monotonic clock; not earlier."""
    until: float
    """Not later, whatever is still unknown."""
    size: int = 0
    """Bytes of its texts, roughly."""
    seeks_session: bool = False
    """It was due, and had neither a session nor a block."""

    @property
    def order(self) -> int:
        """Its place: turns by their start, the end of a trace by its end."""
        return self.span.ended if self.reading is None else self.span.started


class Releasing(Protocol):
    """The bridge, as a turn that it holds sees it."""

    def release(self) -> None:
        """Record everything that is held."""


class Expected:
    """Implements `capture.open_call.Pending`: keeps a conversation open for a turn that is held."""

    __slots__ = ("_bridge", "_recording", "asked")

    def __init__(self, bridge: Releasing, recording: Recording) -> None:
        self._bridge = bridge
        self._recording: Recording | None = recording
        self.asked: bool = False
        recording.expect(self)

    def cut(self) -> None:
        """Record it now."""
        self._bridge.release()

    def hurry(self) -> None:
        """Record it now."""
        self._bridge.release()

    def settle(self) -> None:
        """Let the conversation end: the turn is recorded, or makes none."""
        recording, self._recording = self._recording, None
        if recording is not None:
            recording.forget(self)
