"""Google's Agent Development Kit, in its format before the GenAI conventions: a request and an answer of Gemini. Pure.

That format has two spans for each call of a model: `call_llm` with the words, and in it `generate_content` with the
facts alone. The current format has only the latter, which `genai` reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.history.turn import SourceMessage
from converra.integrations.google_genai import contents, generate
from converra.integrations.payload.fields import items, string
from converra.spans.dialects import genai
from converra.spans.facts import answer_facts, failure
from converra.spans.messages import as_text, own, structured, wordless
from converra.spans.reading import ModelCall, ToolRun

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from converra.spans.reading import Reading
    from converra.spans.span import Span

SCOPE = "gcp.vertex.agent"
REQUEST, RESPONSE = "gcp.vertex.agent.llm_request", "gcp.vertex.agent.llm_response"
RESULT = "gcp.vertex.agent.tool_response"
OPERATION = "gen_ai.operation.name"
UNKNOWN = "<not specified>"

SWITCH = "ADK_CAPTURE_MESSAGE_CONTENT_IN_SPANS=true"


def read(span: Span) -> Reading | None:
    """Read the span of a call of a model, or of the execution of a tool."""
    attributes = span.attributes
    if REQUEST not in attributes:
        return None
    return _tool_run(attributes) if attributes.get(OPERATION) == "execute_tool" else _model_call(span)


def repeats(span: Span) -> bool:
    """Report whether a span tells nothing that the `call_llm` around it does not tell as well."""
    attributes = span.attributes
    return (
        span.scope == SCOPE
        and attributes.get(OPERATION) == "generate_content"
        and "gen_ai.provider.name" not in attributes
        and "gcp.vertex.agent.event_id" in attributes
    )


def _tool_run(attributes: Mapping[str, Any]) -> ToolRun:
    found = genai.tool_run(attributes)
    result = structured(attributes.get(RESULT))
    if result not in (None, UNKNOWN, {}):
        found.result = as_text(result)
    if found.call_id == UNKNOWN:
        found.call_id = None
    return found


def _model_call(span: Span) -> ModelCall:
    attributes, failed = span.attributes, failure(span)
    request, response = own(structured(attributes.get(REQUEST))), own(structured(attributes.get(RESPONSE)))
    answer = answer_facts(attributes)
    answer.model = string(response.get("model_version"))
    parts = items(own(response.get("content")).get("parts"))
    if parts:
        answer.messages = contents.spoken(parts)
    config = own(request.get("config"))
    return ModelCall(
        messages=tuple(_messages(config, request)),
        answer=None if failed is not None and not answer.messages else wordless(answer),
        failure=failed,
        model=string(attributes.get("gen_ai.request.model")),
        tools=generate.declared(items(config.get("tools"))),
        provider="gcp.gemini",
        has_content=bool(request or response),
        switch=SWITCH,
    )


def _messages(config: dict[str, Any], request: dict[str, Any]) -> Iterator[SourceMessage]:
    instruction = config.get("system_instruction")
    if isinstance(instruction, str) and instruction:
        yield SourceMessage("system", instruction)
    for content in items(request.get("contents")):
        yield from contents.read(content)
