"""Older ways: `gen_ai.prompt.0.role` and so on, and the two events of the first conventions. Pure.

Emitters: OpenLLMetry before its 0.50, in Python, JavaScript and Go, and the libraries that followed it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.history.turn import SourceMessage
from converra.integrations.openai import chat
from converra.integrations.payload.fields import items, string
from converra.spans.dialects import genai
from converra.spans.facts import answer_facts, failure, finish_reason, first_token_ms
from converra.spans.flat import grown
from converra.spans.messages import as_text, choices, own, structured, wordless
from converra.spans.reading import ModelCall, ToolRun

if TYPE_CHECKING:
    from converra.spans.reading import Reading
    from converra.spans.span import Span

PREFIXES = ("gen_ai.prompt.", "gen_ai.completion.", "llm.prompts.", "llm.completions.", "llm.request.functions.")
PROMPT, COMPLETION = "gen_ai.content.prompt", "gen_ai.content.completion"
"""The events of the first conventions; their attributes are `gen_ai.prompt` and `gen_ai.completion`."""

KINDS = frozenset({"chat", "completion"})
"""Values of `llm.request.type` that are calls of a model."""

SWITCH = "TRACELOOP_TRACE_CONTENT=true"


def read(span: Span) -> Reading | None:
    """Read a span with indexed messages, with the events of the first conventions, or with `llm.request.type`."""
    attributes = span.attributes
    if attributes.get("traceloop.span.kind") == "tool":
        return _tool_run(span)
    tree = grown(attributes, *PREFIXES)
    asked, answered = _branch(tree, "prompt", "prompts"), _branch(tree, "completion", "completions")
    events = {event.name: event.attributes for event in span.events if event.name in (PROMPT, COMPLETION)}
    if not (asked or answered or events or string(attributes.get("llm.request.type")) in KINDS):
        return None
    if attributes.get("gen_ai.operation.name") not in (None, *genai.CALLS):
        return None
    messages = [source for one in asked for source in _message(one, "user")]
    output = [_message(one, "assistant") for one in answered]
    messages += _listed(events.get(PROMPT, {}).get("gen_ai.prompt"), "user")
    output += [(source,) for source in _listed(events.get(COMPLETION, {}).get("gen_ai.completion"), "assistant")]
    return _call(span, tree, messages, [sources for sources in output if sources], answered)


def _call(
    span: Span,
    tree: dict[str, Any],
    messages: list[SourceMessage],
    output: list[tuple[SourceMessage, ...]],
    answered: list[Any],
) -> ModelCall:
    attributes = span.attributes
    answer = answer_facts(attributes)
    reasons = [own(one).get("finish_reason") for one in answered]
    answer.messages = output[0] if output else ()
    answer.alternatives = choices(output[1:], reasons)
    answer.finish_reason = next(filter(None, map(finish_reason, reasons)), None) or answer.finish_reason
    failed = failure(span)
    answer.partial = failed is not None
    functions = items(own(own(tree.get("llm")).get("request")).get("functions"))
    return ModelCall(
        messages=messages,
        answer=None if failed is not None and not answer.messages else wordless(answer),
        failure=failed,
        model=string(attributes.get("gen_ai.request.model")) or string(attributes.get("llm.request.model")),
        tools=functions,
        provider=string(attributes.get("gen_ai.system")) or string(attributes.get("llm.vendor")),
        first_token_ms=first_token_ms(attributes),
        has_content=bool(messages or output),
        switch=SWITCH,
    )


def _branch(tree: dict[str, Any], *names: str) -> list[Any]:
    found: list[Any] = []
    for root in ("gen_ai", "llm"):
        level = own(tree.get(root))
        for name in names:
            found += items(level.get(name))
    return found


def _message(value: Any, role: str) -> tuple[SourceMessage, ...]:
    """Read one message, grown from its flattened attributes."""
    given = own(value)
    role = string(given.get("role")) or role
    content = structured(given.get("content"))
    calls = [one for one in map(own, items(given.get("tool_calls"))) if one]
    if not isinstance(content, list | tuple) or not all(isinstance(part, dict) for part in content):
        content = given.get("content")
    message: dict[str, Any] = {"role": role, "content": content}
    if given.get("tool_call_id") is not None:
        message["tool_call_id"] = given["tool_call_id"]
    if calls:
        functions = [{"name": one.get("name"), "arguments": one.get("arguments")} for one in calls]
        message["tool_calls"] = [
            {"id": one.get("id"), "type": "function", "function": function}
            for one, function in zip(calls, functions, strict=True)
        ]
    return chat.read(message)


def _listed(value: Any, role: str) -> list[SourceMessage]:
    """Read the messages of an event: a JSON list in OpenAI's shape, or a text."""
    found = structured(value)
    if isinstance(found, str):
        return [SourceMessage(role, found)] if found else []
    listed = items(found) or ([found] if isinstance(found, dict) else [])
    return [
        source for one in map(own, listed) for source in chat.read({"role": role, **own(one.get("message")), **one})
    ]


def _tool_run(span: Span) -> ToolRun:
    """Read the run of a function that is decorated as a tool; it does not know the id of its call."""
    result = structured(span.attributes.get("traceloop.entity.output"))
    return ToolRun(
        None,
        string(span.attributes.get("traceloop.entity.name")),
        None if result is None else as_text(own(result).get("output", result)),
    )
