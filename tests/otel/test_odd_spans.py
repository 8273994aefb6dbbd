"""Spans with any attributes: readers of dialects never raise, whatever they find."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from converra.spans.dialects import read
from converra.spans.messages import SPANS
from converra.spans.names import names
from converra.spans.reading import ModelCall, ToolRun
from converra.spans.span import Span, SpanEvent

WORDS = (
    *("role", "parts", "content", "type", "text", "tool_calls", "function", "name", "arguments", "id", "messages"),
    *("choices", "message", "output", "candidates", "toolUse", "toolResult", "toolUseId", "input", "tool-call", "user"),
    *("assistant", "tool", "system", "tool-result", "toolCallId", "toolName", "value", "json", "contents", "config"),
    *("function_call", "function_response", "response", "system_instruction", "tools", "usage", "finish_reason"),
)
"""Names and values that mean something in one dialect or another."""

NAMES = (
    *("gen_ai.operation.name", "gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions"),
    *("gen_ai.usage.input_tokens", "gen_ai.response.finish_reasons", "gen_ai.tool.call.result", "error.type"),
    *("ai.operationId", "ai.prompt.messages", "ai.prompt.tools", "ai.response.toolCalls", "ai.response.text"),
    *("ai.response.files", "ai.response.msToFirstChunk", "ai.usage.inputTokens", "ai.toolCall.result"),
    *("langfuse.observation.type", "langfuse.observation.input", "langfuse.observation.output"),
    *("langfuse.observation.usage_details", "langfuse.observation.metadata.finish_reason"),
    *("mlflow.spanType", "mlflow.spanInputs", "mlflow.spanOutputs", "mlflow.chat.tokenUsage", "mlflow.chat.tools"),
    *("gcp.vertex.agent.llm_request", "gcp.vertex.agent.llm_response", "gcp.vertex.agent.tool_response"),
    *("gen_ai.server.time_to_first_token", "session.id", "content", "message"),
)
KINDS = (
    *("chat", "execute_tool", "generate_content", "ai.toolCall", "ai.streamText.doStream", "generation", "tool"),
    *("CHAT_MODEL", '"CHAT_MODEL"', '"TOOL"'),
)
EVENTS = (
    *("gen_ai.client.inference.operation.details", "gen_ai.user.message", "gen_ai.choice", "gen_ai.tool.message"),
    *("gen_ai.assistant.message", "exception"),
)

plain = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(WORDS) | st.text(max_size=6)
nested = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
    max_leaves=8,
)


def _encoded(value: Any) -> str:
    return json.dumps(value)


attributes = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(KINDS) | nested | nested.map(_encoded), max_size=6)
events = st.lists(st.builds(SpanEvent, st.sampled_from(EVENTS), st.integers(0, 9), attributes), max_size=4)
spans = st.builds(
    Span,
    trace_id=st.just("1" * 32),
    span_id=st.just("1" * 16),
    attributes=attributes,
    events=events.map(tuple),
    failed=st.booleans(),
    scope=st.sampled_from(("", "strands.telemetry.tracer", "gcp.vertex.agent", "pydantic-ai")),
)


@given(spans)
def test_any_span_is_read(span: Span) -> None:
    """Odd attributes give a call with odd parts, or none; messages can be compared and have text."""
    names(span)
    found = read(span)
    if isinstance(found, ModelCall):
        messages = [*found.messages, *(found.answer.messages if found.answer else ())]
        assert len(SPANS.fingerprint(messages)) == len(messages)
        assert all({type(message.text), type(message.role)} == {str} for message in messages)
    elif isinstance(found, ToolRun):
        assert found.result is None or isinstance(found.result, str)
