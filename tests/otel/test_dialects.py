"""Ways of writing spans that no current emitter has, or only some: each is read as the same call."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from converra.history.turn import Failure
from converra.spans import dialects
from converra.spans.reading import ModelCall, ToolRun
from converra.spans.span import SpanEvent
from tests.otel.spans import span

FACTS = {
    "gen_ai.request.model": "m",
    "gen_ai.response.model": "m-1",
    "gen_ai.response.id": "r1",
    "gen_ai.system": "acme",
}
OLD_USAGE = {"gen_ai.usage.prompt_tokens": 9, "gen_ai.usage.completion_tokens": 4.0}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}
CHAT: list[Any] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Rain?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "yes", "tool_call_id": "c1"},
]

INDEXED = {
    **FACTS,
    **OLD_USAGE,
    "llm.request.type": "chat",
    "gen_ai.prompt.0.role": "system",
    "gen_ai.prompt.0.content": "Be brief.",
    "gen_ai.prompt.1.role": "user",
    "gen_ai.prompt.1.content": '[{"type": "text", "text": "Rain?"}]',
    "gen_ai.prompt.2.role": "assistant",
    "gen_ai.prompt.2.tool_calls.0.id": "c1",
    "gen_ai.prompt.2.tool_calls.0.name": "weather",
    "gen_ai.prompt.2.tool_calls.0.arguments": '{"city":"Paris"}',
    "gen_ai.prompt.3.role": "tool",
    "gen_ai.prompt.3.content": "yes",
    "gen_ai.prompt.3.tool_call_id": "c1",
    "gen_ai.completion.0.role": "assistant",
    "gen_ai.completion.0.content": "It rains.",
    "gen_ai.completion.0.finish_reason": "length",
    "llm.request.functions.0.name": "weather",
}
"""As OpenLLMetry wrote it before the current conventions."""

FIRST = (
    SpanEvent("gen_ai.content.prompt", 0, {"gen_ai.prompt": json.dumps(CHAT)}),
    SpanEvent(
        "gen_ai.content.completion",
        0,
        {"gen_ai.completion": json.dumps([{"role": "assistant", "content": "It rains.", "finish_reason": "length"}])},
    ),
)
"""The two events of the first conventions."""

EVENTS = (
    SpanEvent("gen_ai.system.message", 0, {"content": "Be brief."}),
    SpanEvent("gen_ai.user.message", 0, {"content": "Rain?"}),
    SpanEvent("gen_ai.assistant.message", 0, {"tool_calls": json.dumps([CALL])}),
    SpanEvent("gen_ai.tool.message", 0, {"content": "yes", "id": "c1"}),
    SpanEvent("gen_ai.choice", 0, {"index": 0, "finish_reason": "length", "message": {"content": "It rains."}}),
)
"""The events of the conventions up to 1.36."""

PARTS: list[Any] = [
    {"role": "user", "parts": [{"type": "text", "content": "Rain?"}]},
    {
        "role": "assistant",
        "parts": [{"type": "tool_call", "id": "c1", "name": "weather", "arguments": {"city": "Paris"}}],
    },
    {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "yes"}]},
]
CURRENT = {
    **FACTS,
    "gen_ai.operation.name": "chat",
    "gen_ai.usage.input_tokens": 9,
    "gen_ai.usage.output_tokens": 4,
    "gen_ai.system_instructions": ({"type": "text", "content": "Be brief."},),
    "gen_ai.input.messages": tuple(PARTS),
    "gen_ai.output.messages": (
        {"role": "assistant", "parts": ({"type": "text", "content": "It rains."},), "finish_reason": "length"},
    ),
    "gen_ai.tool.definitions": ({"type": "function", "name": "weather"},),
}
"""The current conventions, with structured attributes as the SDK keeps them: tuples of dicts."""


def call_of(**fields: Any) -> ModelCall:
    found = dialects.read(span(**fields))
    assert isinstance(found, ModelCall)
    return found


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"attributes": INDEXED}, "length"),
        ({"attributes": FACTS | OLD_USAGE, "events": FIRST}, None),
        ({"attributes": FACTS | OLD_USAGE, "events": EVENTS}, "length"),
        ({"attributes": CURRENT}, "length"),
    ],
    ids=["indexed", "first events", "events", "structured"],
)
def test_each_way_tells_the_same_call(fields: dict[str, Any], reason: str | None) -> None:
    """Messages, tool calls and results, model, token usage, the end and the provider."""
    call = call_of(**fields)
    assert [(one.role, one.text, one.call_id) for one in call.messages] == [
        ("system", "Be brief.", None),
        ("user", "Rain?", None),
        ("assistant", "", None),
        ("tool", "yes", "c1"),
    ]
    (made,) = call.messages[2].calls
    assert (made.id, made.name) == ("c1", "weather")
    assert made.arguments in ('{"city":"Paris"}', {"city": "Paris"})
    assert call.answer is not None
    assert [(one.role, one.text) for one in call.answer.messages] == [("assistant", "It rains.")]
    assert msgspec.to_builtins(call.answer.usage) == {"promptTokens": 9, "completionTokens": 4}
    assert (call.model, call.answer.model, call.response_id, call.provider) == ("m", "m-1", "r1", "acme")
    assert call.answer.finish_reason == reason
    assert call.has_content


def test_a_failed_call_has_its_error_and_no_words_of_it() -> None:
    """The type of an exception without its module, and the HTTP status where an emitter has it."""
    raised = SpanEvent("exception", 0, {"exception.type": "openai.RateLimitError", "exception.message": "secret"})
    facts = {"gen_ai.operation.name": "chat", "gen_ai.input.messages": "Hi"}
    failed = call_of(attributes=facts, events=(raised,), failed=True)
    assert (failed.answer, failed.failure) == (None, Failure("RateLimitError"))
    with_status = call_of(attributes=facts | {"error.type": "503", "http.response.status_code": 503})
    assert with_status.failure == Failure("503", 503)
    cut = call_of(attributes=facts | {"gen_ai.output.messages": "So far", "error.type": "Cut"})
    assert cut.answer is not None
    assert (cut.answer.partial, cut.answer.messages[0].text) == (True, "So far")


def test_media_and_unknown_parts() -> None:
    """Embedded, linked and named media are attachments; parts of unknown kinds stay as they are."""
    parts = [
        {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "iVBORw0KGgo="},
        {"type": "uri", "modality": "audio", "uri": "https://example.com/a.mp3"},
        {"type": "file", "modality": "document", "file_id": "file-1"},
        {"type": "server_tool_call", "id": "s1", "name": "search", "server_tool_call": {"query": "rain"}},
    ]
    thought = [
        {"type": "reasoning", "content": "Hm."},
        {"type": "text", "content": "Yes."},
        {"type": "refusal", "content": "No."},
    ]
    call = call_of(
        attributes={
            "gen_ai.operation.name": "chat",
            "gen_ai.input.messages": json.dumps([{"role": "user", "parts": parts, "name": "Ann"}]),
            "gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": thought}]),
        }
    )
    (asked,) = call.messages
    assert [(one.kind, one.mime, one.data, one.url, one.name) for one in asked.attachments] == [
        ("image", "image/png", "iVBORw0KGgo=", None, None),
        ("audio", None, None, "https://example.com/a.mp3", None),
        ("file", None, None, None, "file-1"),
    ]
    assert asked.text.splitlines()[1:] == ["[audio: https://example.com/a.mp3]", "[file: file-1]", "[server_tool_call]"]
    assert asked.metadata == {"name": "Ann", "parts": [parts[3]]}
    assert call.answer is not None
    (answered,) = call.answer.messages
    assert (answered.text, answered.metadata) == ("Yes.\nNo.", {"refusal": True, "reasoning": "Hm."})


def test_spans_that_are_no_calls() -> None:
    """Agents, workflows, embeddings and pending spans make no turn; a tool's run is read in three ways."""
    for attributes in (
        {"gen_ai.operation.name": "invoke_agent", "gen_ai.output.messages": "[]"},
        {"gen_ai.operation.name": "embeddings"},
        {"openinference.span.kind": "CHAIN", "input.value": "Hi"},
        {"gen_ai.operation.name": "chat", "logfire.span_type": "pending_span", "gen_ai.input.messages": "Hi"},
        {"http.request.method": "POST"},
    ):
        assert dialects.read(span(attributes=attributes)) is None
    ways = [
        {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "w",
            "gen_ai.tool.call.id": "c",
            "gen_ai.tool.call.result": {"a": 1},
        },
        {"openinference.span.kind": "TOOL", "tool.name": "w", "tool.id": "c", "output.value": '{"a":1}'},
        {"traceloop.span.kind": "tool", "traceloop.entity.name": "w", "traceloop.entity.output": '{"output": {"a":1}}'},
    ]
    found = [dialects.read(span(attributes=attributes)) for attributes in ways]
    assert found == [ToolRun("c", "w", '{"a":1}'), ToolRun("c", "w", '{"a":1}'), ToolRun(None, "w", '{"a":1}')]


def test_an_openinference_span_of_a_framework() -> None:
    """One that keeps only its whole input and output, a completion model, and parts of other kinds."""
    whole = call_of(
        attributes={
            "openinference.span.kind": "LLM",
            "input.value": json.dumps({"messages": CHAT[:2]}),
            "output.value": json.dumps(
                {"id": "r1", "choices": [{"message": {"role": "assistant", "content": "Yes."}}]}
            ),
        }
    )
    assert [one.text for one in whole.messages] == ["Be brief.", "Rain?"]
    assert whole.answer is not None
    assert (whole.answer.messages[0].text, whole.response_id) == ("Yes.", "r1")
    plain = call_of(attributes={"openinference.span.kind": "LLM", "input.value": "Rain?", "output.value": "Yes."})
    prompted = call_of(
        attributes={
            "openinference.span.kind": "LLM",
            "llm.prompts.0.prompt.text": "Rain?",
            "llm.choices.0.completion.text": "Yes.",
        }
    )
    for call in (plain, prompted):
        assert call.answer is not None
        assert (call.messages[0].text, call.answer.messages[0].text) == ("Rain?", "Yes.")
    hidden = call_of(attributes={"openinference.span.kind": "LLM", "input.value": "__REDACTED__"})
    assert (hidden.has_content, hidden.switch) == (
        False,
        "OPENINFERENCE_HIDE_INPUTS=false and OPENINFERENCE_HIDE_OUTPUTS=false",
    )
    order = {f"llm.input_messages.{n}.message.content": str(n) for n in (10, 9, 2)}
    assert [one.text for one in call_of(attributes=order | {"openinference.span.kind": "LLM"}).messages] == [
        "2",
        "9",
        "10",
    ]
