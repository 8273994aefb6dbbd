"""Any attributes on spans, nested in any way, in any order, with any of them missing: nothing goes wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from converra.process.guard import caught
from converra.spans import dialects
from converra.spans.bridge import LogEvent
from converra.spans.names import AGENTS, PROMPTS, SESSIONS, USERS, names
from converra.spans.span import Span, SpanEvent
from tests.otel.recorders import Vault
from tests.otel.spans import chat, said, span

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

SCALARS = st.none() | st.booleans() | st.integers(-2, 2**53) | st.floats() | st.text(max_size=6)
PLAIN = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)
KEYS: tuple[str, ...] = (
    *("role", "parts", "content", "type", "text", "id", "name", "arguments", "response", "tool_calls", "function"),
    *("finish_reason", "message", "uri", "mime_type", "modality", "index"),
)
WORDS = st.sampled_from(
    ("user", "assistant", "tool", "system", "text", "tool_call", "tool_call_response", "blob", "uri", "reasoning")
)
MESSAGES = st.recursive(
    SCALARS | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)
"""Almost messages."""

VALUES: SearchStrategy[Any] = (
    PLAIN | MESSAGES | MESSAGES.map(lambda value: json.dumps(value, default=str)) | st.binary(max_size=4)
)

NAMES = (
    *("gen_ai.operation.name", "gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions"),
    *("gen_ai.tool.definitions", "gen_ai.tool.call.id", "gen_ai.tool.call.result", "gen_ai.tool.name"),
    *("gen_ai.response.finish_reasons", "gen_ai.response.id", "gen_ai.response.model", "gen_ai.request.model"),
    *("gen_ai.response.time_to_first_chunk", "gen_ai.usage.input_tokens", "gen_ai.usage.raw", "gen_ai.provider.name"),
    *("gen_ai.request.choice.count", "error.type", "http.response.status_code", "logfire.span_type", "duration"),
    *("openinference.span.kind", "input.value", "output.value", "llm.model_name", "llm.token_count.prompt"),
    *("llm.input_messages.0.message.role", "llm.input_messages.0.message.content", "llm.input_messages.0", "llm"),
    *("llm.input_messages.0.message.contents.0.message_content.type", "llm.output_messages.x.message.role"),
    *("llm.output_messages.0.message.tool_calls.0.tool_call.function.name", "llm.tools.0.tool.json_schema"),
    *("llm.output_messages.0.message.contents.0.message_content.image", "llm.invocation_parameters", "tool.id"),
    *("gen_ai.prompt.0.content", "gen_ai.prompt.0.role", "gen_ai.prompt.0.tool_calls.0.name", "gen_ai.completion.0"),
    *("gen_ai.completion.0.content", "llm.request.type", "traceloop.span.kind", "traceloop.entity.output"),
    *("telemetry.sdk.language", *SESSIONS, *AGENTS, *USERS, *PROMPTS),
)
"""Names that a reader looks at."""

OPERATIONS = st.sampled_from(("chat", "execute_tool", "invoke_agent", "text_completion", "LLM", "TOOL", "log", "tool"))
EVENTS = (
    *("gen_ai.client.inference.operation.details", "gen_ai.content.prompt", "gen_ai.content.completion", "exception"),
    *("gen_ai.user.message", "gen_ai.assistant.message", "gen_ai.tool.message", "gen_ai.choice"),
)
FIELDS = (*NAMES[:3], "gen_ai.prompt", "gen_ai.completion", "exception.type", *KEYS)
ATTRIBUTES = st.dictionaries(st.sampled_from(NAMES), OPERATIONS | VALUES, max_size=8)


def events() -> SearchStrategy[SpanEvent]:
    fields = st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4)
    return st.builds(SpanEvent, st.sampled_from(EVENTS), st.integers(0, 9), fields)


@st.composite
def families(draw: DrawFn) -> tuple[list[Span], list[LogEvent]]:
    """Spans inside one another, some of them calls with a question of their own, and log records of them."""
    made: list[Span] = []
    for number in range(draw(st.integers(1, 6))):
        inside = draw(st.none() | st.sampled_from(made)) if made else None
        fields: dict[str, Any] = {
            "at": draw(st.integers(1, 6)),
            "failed": draw(st.booleans()),
            "events": tuple(draw(st.lists(events(), max_size=2))),
            "inside": inside,
        }
        odd = draw(ATTRIBUTES)
        if draw(st.booleans()):
            odd = {key: value for key, value in odd.items() if key in SESSIONS or key.startswith("llm.")}
            made.append(chat(said("user", f"question {number}"), attributes=odd, **fields))
        else:
            made.append(span(attributes=odd, resource=draw(ATTRIBUTES), scope=draw(WORDS), **fields))
    logs = [
        LogEvent(one.trace_id, one.span_id, draw(events())) for one in draw(st.lists(st.sampled_from(made), max_size=2))
    ]
    return made, logs


@given(families(), st.data())
def test_nothing_is_raised_and_nothing_comes_twice(
    family: tuple[list[Span], list[LogEvent]], data: st.DataObject
) -> None:
    """Each question is recorded at most once; a call that no other call is around or inside of, exactly once."""
    made, logs = family
    coming = data.draw(st.lists(st.sampled_from(made), max_size=2 * len(made)))
    failures, vault = caught(), Vault()
    for one in coming:
        names(one)
        dialects.read(one)
        vault.bridge.feed([one], logs[:1])
        if data.draw(st.booleans()):
            vault.bridge.release()
    vault.bridge.feed([], logs[1:])
    texts = [message["content"] for one in vault.conversations() for message in one["messages"]]
    asked = [text for text in texts if isinstance(text, str) and text.startswith("question ")]
    assert len(set(asked)) == len(asked)
    alone = {one.span_id for one in made if one.parent_id is None} - {one.parent_id for one in made}
    for one in coming:
        given_messages = one.attributes.get("gen_ai.input.messages")
        if one.span_id in alone and one.name == "chat gpt-4o" and not one.events and not logs:
            assert json.loads(str(given_messages))[0]["parts"][0]["content"] in asked
    assert caught() == failures


@given(ATTRIBUTES, st.lists(events(), max_size=2))
def test_readers_take_anything(attributes: dict[str, Any], found: list[SpanEvent]) -> None:
    """Each dialect on its own, not only the first that recognises a span."""
    for dialect in dialects.DIALECTS:
        dialect.read(span(attributes=attributes, events=tuple(found)))
