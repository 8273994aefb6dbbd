"""MLflow: spans of the type CHAT_MODEL; each attribute is JSON, input and output in the shape of the provider. Pure.

A session that was set on the trace is not exported with its spans: the resent history finds the conversation then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.integrations.payload.fields import items, parsed, string
from converra.spans.facts import failure
from converra.spans.messages import as_text, wordless
from converra.spans.reading import ModelCall, ToolRun
from converra.spans.shapes import answered, asked, counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from converra.history.turn import Answer
    from converra.spans.reading import Reading
    from converra.spans.span import Span

TYPE, INPUTS, OUTPUTS = "mlflow.spanType", "mlflow.spanInputs", "mlflow.spanOutputs"
CALLS = ("CHAT_MODEL", "LLM")
TOOL = "TOOL"


def read(span: Span) -> Reading | None:
    """Read a call of a model, or a run of a tool."""
    kind = span.attributes.get(TYPE)
    if not isinstance(kind, str):
        return None
    kind = kind.strip('"')
    if kind == TOOL:
        result = _value(span.attributes, OUTPUTS)
        return ToolRun(None, span.name, None if result is None else as_text(result))
    return _model_call(span) if kind in CALLS else None


def _value(attributes: Mapping[str, Any], name: str) -> Any:
    """Return an attribute, parsed; one that is no JSON as it is."""
    value = attributes.get(name)
    if not isinstance(value, str):
        return value
    found = parsed(value)
    return value if found is None and value != "null" else found


def _model_call(span: Span) -> ModelCall:
    attributes = span.attributes
    sent, came = _value(attributes, INPUTS), _value(attributes, OUTPUTS)
    request, answer, failed = asked(sent), answered(came), failure(span)
    model = _value(attributes, "mlflow.llm.model")
    answer.model = answer.model or string(model)
    _count(answer, _value(attributes, "mlflow.chat.tokenUsage"))
    return ModelCall(
        messages=request.messages,
        answer=None if failed is not None and not answer.messages else wordless(answer),
        failure=failed,
        model=request.model or string(model),
        tools=request.tools or items(_value(attributes, "mlflow.chat.tools")),
        provider=string(_value(attributes, "mlflow.llm.provider"))
        or string(_value(attributes, "mlflow.message.format")),
        has_content=bool(sent or came),
    )


def _count(answer: Answer, usage: Any) -> None:
    """Take MLflow's counts where the answer of the provider has none."""
    if answer.usage is None:
        for name, value in counted(usage).items():
            setattr(answer, name, value)
