"""The parts of a span that matter here: a call of a model, or a run of a tool. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from converra.history.turn import Answer, Failure, SourceMessage

if TYPE_CHECKING:
    from converra.spans.span import Span


class ModelCall(msgspec.Struct, gc=False):
    """A call of a model, as a leaf span tells it."""

    messages: Sequence[SourceMessage] = ()
    """The request, in order, system messages first."""
    answer: Answer | None = None
    """None if the call failed before anything came. Without content, an answer of one assistant message with no text:
    model, usage and finish reason are recorded all the same."""
    failure: Failure | None = None
    model: str | None = None
    """The model that the request names."""
    tools: Sequence[Any] = ()
    """The declared tools, each a mapping with a `name`, or one in OpenAI's shape."""
    provider: str | None = None
    first_token_ms: float | None = None
    seconds: float | None = None
    """Its duration, if the span was only made when the call was over."""
    has_content: bool = True
    """False if the emitter left out the words."""
    switch: str | None = None
    """The variable or setting of the emitter that turns content on, for the log."""

    @property
    def response_id(self) -> str | None:
        """The provider's id of the answer, by which a call that was captured directly is recognised."""
        return self.answer.response_id if self.answer is not None else None


class ToolRun(msgspec.Struct, gc=False):
    """A run of a tool that the app or a framework made. The duration of the span is that of the run."""

    call_id: str | None = None
    """The id of the tool call that it answers. Without one the run is not recorded: the next request has the result."""
    name: str | None = None
    result: str | None = None
    """The result as text; None if the emitter left it out."""


Reading = ModelCall | ToolRun


class SpanDialect(NamedTuple):
    """A row of the table of dialects: one way of writing GenAI spans."""

    name: str
    read: Callable[[Span], Reading | None]
    """Reads a span; None for one that it does not recognise, and for spans of agents, chains and workflows: only
    their names count, which `names` reads. Pure. Parts that it does not know stay opaque; it never raises on odd
    attributes."""
