"""Strands Agents: messages in the shape of Bedrock's Converse, each an event of the span. Pure.

With the opt-in for the current conventions it writes one event in their form, which `genai` reads. Either way it gives
the time to the first token in milliseconds, where the conventions say seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.integrations.bedrock import converse
from converra.integrations.payload.fields import items, string
from converra.spans.dialects import genai
from converra.spans.facts import answer_facts, failure
from converra.spans.messages import as_text, own, structured, wordless
from converra.spans.reading import ModelCall, ToolRun
from converra.wire.json_safe import identifier

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from converra.history.turn import Answer, SourceMessage
    from converra.spans.reading import Reading
    from converra.spans.span import Span

SCOPE = "strands.telemetry.tracer"

ROLES = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "user",  # Converse has results in a message of the user
}
"""Roles by the names of events."""

CHOICE = "gen_ai.choice"
TIME_TO_FIRST = "gen_ai.server.time_to_first_token"
FINISHED = {"end_turn": "stop", "tool_use": "tool_calls", "max_tokens": "length", "stop_sequence": "stop"}

PROVIDER = "strands-agents"
"""Its value in the place of the provider."""


def read(span: Span) -> Reading | None:
    """Read a call of a model or the execution of a tool; agents and cycles of the event loop make no turns."""
    if span.scope != SCOPE:
        return None
    operation = span.attributes.get("gen_ai.operation.name")
    if operation == "execute_tool":
        return _tool_run(span)
    return _model_call(span) if operation == "chat" else None


def _tool_run(span: Span) -> ToolRun:
    found = genai.tool_run(span.attributes)
    said = next((event.attributes.get("message") for event in span.events if event.name == CHOICE), None)
    if found.result is None and said is not None:
        found.result = "\n".join(_result(block) for block in items(structured(said))) or as_text(structured(said))
    return found


def _result(block: Any) -> str:
    """Return a block of a result as text."""
    given = own(block)
    if "text" in given:
        return as_text(given["text"])
    return as_text(given.get("json", block))


def _model_call(span: Span) -> ModelCall:
    found = _from_events(span)
    first = span.attributes.get(TIME_TO_FIRST)
    found.first_token_ms = float(first) if isinstance(first, int | float) and first >= 0 else None
    found.provider = None if found.provider == PROVIDER else found.provider
    return found


def _from_events(span: Span) -> ModelCall:
    attributes, failed = span.attributes, failure(span)
    said = [event for event in span.events if event.name == CHOICE]
    asked = tuple(_asked(span))
    if not said and not asked:
        return genai.model_call(span, genai.with_details(span))
    answer = answer_facts(attributes)
    for event in said:
        _fill(answer, event.attributes)
    return ModelCall(
        messages=asked,
        answer=None if failed is not None and not answer.messages else wordless(answer),
        failure=failed,
        model=string(attributes.get("gen_ai.request.model")),
        provider=string(attributes.get("gen_ai.system")),
    )


def _asked(span: Span) -> Iterator[SourceMessage]:
    for event in span.events:
        role = ROLES.get(event.name)
        if role is not None:
            content = structured(event.attributes.get("content"))
            yield from converse.read({"role": role, "content": _blocks(content)})


def _blocks(content: Any) -> list[Any]:
    return [{"text": content}] if isinstance(content, str) else list(items(content))


def _fill(answer: Answer, attributes: Mapping[str, Any]) -> None:
    content = structured(attributes.get("message"))
    answer.messages = converse.read({"role": "assistant", "content": _blocks(content)})
    reason = identifier(attributes.get("finish_reason"))
    answer.finish_reason = FINISHED.get(reason, reason) if reason else answer.finish_reason
