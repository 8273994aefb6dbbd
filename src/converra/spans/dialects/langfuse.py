"""Langfuse: observations of the type `generation`, with input and output in the shape of the provider. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.integrations.payload.fields import string
from converra.spans.facts import failure
from converra.spans.messages import as_text, structured, wordless
from converra.spans.reading import ModelCall, ToolRun
from converra.spans.shapes import answered, asked, counted

if TYPE_CHECKING:
    from converra.spans.reading import Reading
    from converra.spans.span import Span

PREFIX = "langfuse.observation."
TYPE, INPUT, OUTPUT = f"{PREFIX}type", f"{PREFIX}input", f"{PREFIX}output"
ERROR = "ERROR"

SWITCH = "the mask of Langfuse, or capture_input and capture_output of its decorator (not False)"


def read(span: Span) -> Reading | None:
    """Read a generation; a tool's observation gives only its result and duration."""
    kind = span.attributes.get(TYPE)
    if kind == "tool":
        result = span.attributes.get(OUTPUT)
        return ToolRun(None, span.name, None if result is None else as_text(structured(result)))
    return _model_call(span) if kind == "generation" else None


def _model_call(span: Span) -> ModelCall:
    attributes = span.attributes
    sent, came = structured(attributes.get(INPUT)), structured(attributes.get(OUTPUT))
    request, answer = asked(sent), answered(came)
    failed = failure(span)
    model = string(attributes.get(f"{PREFIX}model.name"))
    answer.model = answer.model or model
    for name, value in counted(structured(attributes.get(f"{PREFIX}usage_details"))).items():
        setattr(answer, name, value)
    answer.finish_reason = answer.finish_reason or _finish_reason(attributes.get(f"{PREFIX}metadata.finish_reason"))
    return ModelCall(
        messages=request.messages,
        answer=None if failed is not None and not answer.messages else wordless(answer),
        failure=failed,
        model=request.model or model,
        tools=request.tools,
        has_content=sent is not None or came is not None,
        switch=SWITCH,
    )


def _finish_reason(value: Any) -> str | None:
    """Return the reason that Langfuse keeps as JSON text."""
    return value.strip('"') if isinstance(value, str) else None
