"""Conventions up to 1.36: one event for each message, `gen_ai.user.message`, `gen_ai.choice` and so on. Pure.

The events are on the span, or are log records of it, whose body a receiver puts among the attributes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.integrations.openai import chat
from converra.integrations.payload.fields import string
from converra.spans.dialects import genai
from converra.spans.facts import answer_facts, failure, finish_reason, first_token_ms
from converra.spans.messages import choices, own, structured, wordless
from converra.spans.reading import ModelCall

if TYPE_CHECKING:
    from converra.history.turn import SourceMessage
    from converra.spans.reading import Reading
    from converra.spans.span import Span, SpanEvent

ROLES = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
}
CHOICE = "gen_ai.choice"


def read(span: Span) -> Reading | None:
    """Read a span with such events."""
    asked = [event for event in span.events if event.name in ROLES]
    answered = sorted((event for event in span.events if event.name == CHOICE), key=_index)
    if not (asked or answered) or span.attributes.get("gen_ai.operation.name") not in (None, *genai.CALLS):
        return None
    messages = [source for event in asked for source in _message(event, ROLES[event.name])]
    output = [_message(event, "assistant") for event in answered]
    answer = answer_facts(span.attributes)
    reasons = [event.attributes.get("finish_reason") for event in answered]
    answer.messages = output[0] if output else ()
    answer.alternatives = choices(output[1:], reasons)
    answer.finish_reason = next(filter(None, map(finish_reason, reasons)), None) or answer.finish_reason
    failed = failure(span)
    answer.partial = failed is not None
    has_content = any(_has_words(source) for source in (*messages, *(one for sources in output for one in sources)))
    return ModelCall(
        messages=messages if has_content else (),
        answer=None if failed is not None and not answer.messages else wordless(answer),
        failure=failed,
        model=string(span.attributes.get("gen_ai.request.model")),
        provider=string(span.attributes.get("gen_ai.system")),
        first_token_ms=first_token_ms(span.attributes),
        has_content=has_content,
        switch=genai.SWITCH,
    )


def _has_words(source: SourceMessage) -> bool:
    return bool(source.text or any(call.arguments for call in source.calls))


def _index(event: SpanEvent) -> int:
    index = event.attributes.get("index")
    return index if isinstance(index, int) else 0


def _message(event: SpanEvent, role: str) -> tuple[SourceMessage, ...]:
    """Read one event: the fields of a message in OpenAI's shape, beside one another or in `message`."""
    given: dict[str, Any] = {name: structured(value) for name, value in event.attributes.items()}
    inner = given.get("message")
    if isinstance(inner, str):
        given["content"] = inner
    given |= own(inner)
    message = {
        "role": string(given.get("role")) or role,
        "content": event.attributes.get("content", given.get("content")),
    }
    if isinstance(given.get("content"), list | tuple):
        message["content"] = given["content"]
    call_id = given.get("tool_call_id", given.get("id") if role == "tool" else None)
    if call_id is not None:
        message["tool_call_id"] = call_id
    if isinstance(given.get("tool_calls"), list | tuple):
        message["tool_calls"] = [own(one) for one in given["tool_calls"]]
    return chat.read(message)
