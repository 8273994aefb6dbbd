"""The table of dialects. Each module reads one way of writing GenAI spans; this one asks them in turn. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.spans.dialects import adk, events, genai, indexed, langfuse, mlflow, openinference, strands, vercel
from converra.spans.reading import ModelCall, SpanDialect

if TYPE_CHECKING:
    from converra.spans.reading import Reading
    from converra.spans.span import Span

DIALECTS: tuple[SpanDialect, ...] = (
    SpanDialect("strands", strands.read),  # before genai, which knows its spans, and not its events
    SpanDialect("adk", adk.read),
    SpanDialect("genai", genai.read),
    SpanDialect("openinference", openinference.read),
    SpanDialect("vercel", vercel.read),
    SpanDialect("langfuse", langfuse.read),
    SpanDialect("mlflow", mlflow.read),
    SpanDialect("indexed", indexed.read),
    SpanDialect("events", events.read),
)
"""The rows, in the order in which they are asked."""

PREFIXES = ("gen_ai.", "llm.", "openinference.", "traceloop.", "ai.", "langfuse.", "mlflow.", "gcp.vertex.agent.")
"""Beginnings of the attributes that all dialects write."""


def is_genai(span: Any) -> bool:
    """Report whether a span, as a record or the SDK's object, has attributes of any dialect."""
    for name in span.attributes or ():  # noqa: SIM110 - `any` costs twice as much
        if name.startswith(PREFIXES):
            return True
    return False


def read(span: Span) -> Reading | None:
    """Read a span by the first dialect that recognises it.

    A dialect that finds a model call without content yields to a later one that finds the content: some emitters write
    facts in one dialect and messages in another.
    """
    if (not span.events and not is_genai(span)) or adk.repeats(span):
        return None
    wordless: Reading | None = None
    for dialect in DIALECTS:
        found = dialect.read(span)
        if found is None:
            continue
        if not isinstance(found, ModelCall) or found.has_content:
            return found
        wordless = wordless or found
    return wordless
