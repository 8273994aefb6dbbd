"""The current GenAI conventions: `gen_ai.*` attributes, or the same on one event. Pure.

Messages are JSON text, or structured; on the span, on its event `gen_ai.client.inference.operation.details`, or on a
log record of that name. Emitters: OpenTelemetry's own instrumentations, OpenLLMetry, Logfire, pydantic-ai, and others.
"""

from __future__ import annotations

from collections import ChainMap
from typing import TYPE_CHECKING, Any

import msgspec

from converra.history.turn import Answer, Attachment, SourceMessage
from converra.integrations.openai import chat
from converra.integrations.payload.fields import items, string
from converra.integrations.payload.media import data_mime
from converra.spans.facts import answer_facts, failure, finish_reason, first_token_ms
from converra.spans.messages import Parts, as_text, choices, own, structured, wordless
from converra.spans.reading import ModelCall, ToolRun
from converra.wire.json_safe import identifier

if TYPE_CHECKING:
    from collections.abc import Mapping

    from converra.spans.reading import Reading
    from converra.spans.span import Span

DETAILS = "gen_ai.client.inference.operation.details"
"""The event that has the content where the span has not."""

CALLS = frozenset({"chat", "text_completion", "generate_content", "completion", "responses"})
"""Operations that are calls of a model; all others (agents, workflows, embeddings) make no turn."""

INPUT, OUTPUT, SYSTEM = "gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions"
TOOLS = "gen_ai.tool.definitions"

SWITCH = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=SPAN_ONLY"
SWITCHES = {
    "opentelemetry.instrumentation.openai": "TRACELOOP_TRACE_CONTENT=true",
    "opentelemetry.instrumentation.anthropic": "TRACELOOP_TRACE_CONTENT=true",
    "pydantic-ai": "InstrumentationSettings(include_content=True)",
    "com.anthropic.sdk": "ANTHROPIC_OPEN_TELEMETRY_TRACES_CONTENT_MODE=content",
}
"""Variables or settings that turn content on, by the beginning of the scope; `SWITCH` for all others."""


def read(span: Span) -> Reading | None:
    """Read a span whose operation is a call of a model or the execution of a tool."""
    attributes = span.attributes
    operation = attributes.get("gen_ai.operation.name")
    if operation == "execute_tool":
        return tool_run(attributes)
    if operation is None:
        if OUTPUT not in attributes and INPUT not in attributes:
            return None
    elif string(operation) not in CALLS:
        return None
    if "logfire.span_type" in attributes:
        return _of_logfire(span)
    return model_call(span, with_details(span))


def _of_logfire(span: Span) -> Reading | None:
    """Read a span of Logfire: of a stream, the log that it makes at the end, which alone has the answer."""
    attributes = span.attributes
    kind = attributes["logfire.span_type"]
    call = model_call(span, attributes)
    if kind == "pending_span" or (kind == "span" and call.failure is None and not call.response_id and not _said(call)):
        return None
    duration = attributes.get("duration")
    if kind == "log" and isinstance(duration, int | float):
        call.seconds = float(duration)
    return call


def _said(call: ModelCall) -> bool:
    return call.answer is not None and any(source.text or source.calls for source in call.answer.messages)


def with_details(span: Span) -> Mapping[str, Any]:
    """Return the attributes of a span, completed by those of its event with the content."""
    found = [event.attributes for event in span.events if event.name == DETAILS]
    return ChainMap(dict(span.attributes), *map(dict, found)) if found else span.attributes


def tool_run(attributes: Mapping[str, Any]) -> ToolRun:
    """Read the execution of a tool."""
    result = attributes.get("gen_ai.tool.call.result", attributes.get("tool_response"))
    return ToolRun(
        identifier(attributes.get("gen_ai.tool.call.id")),
        string(attributes.get("gen_ai.tool.name")),
        None if result is None else as_text(result),
    )


def model_call(span: Span, attributes: Mapping[str, Any]) -> ModelCall:
    """Read a call of a model from its attributes."""
    failed = failure(span)
    asked, answered = structured(attributes.get(INPUT)), structured(attributes.get(OUTPUT))
    instructions = structured(attributes.get(SYSTEM))
    answer = answer_facts(attributes)
    _fill(answer, answered, attributes)
    has_content = asked is not None or bool(answer.messages) or instructions is not None
    if failed is not None and not answer.messages:
        answer_or_none = None
    else:
        answer_or_none = wordless(answer)
        answer.partial = failed is not None
    return ModelCall(
        messages=(*system(instructions), *requested(asked)),
        answer=answer_or_none,
        failure=failed,
        model=string(attributes.get("gen_ai.request.model")),
        tools=items(structured(attributes.get(TOOLS))),
        provider=string(attributes.get("gen_ai.provider.name")) or string(attributes.get("gen_ai.system")),
        first_token_ms=first_token_ms(attributes),
        has_content=has_content,
        switch=next((switch for scope, switch in SWITCHES.items() if span.scope.startswith(scope)), SWITCH),
    )


def system(instructions: Any) -> tuple[SourceMessage, ...]:
    """Read system instructions: a text, or a list of parts."""
    if isinstance(instructions, str):
        return (SourceMessage("system", instructions),) if instructions else ()
    parts = items(instructions) or ([instructions] if own(instructions) else [])
    return message({"role": "system", "parts": parts}) if parts else ()


def requested(messages: Any) -> tuple[SourceMessage, ...]:
    """Read the messages of a request: a list, or a text where the prompt was one."""
    if isinstance(messages, str):
        return (SourceMessage("user", messages),) if messages else ()
    return tuple([source for one in items(messages) for source in message(one)])


def _fill(answer: Answer, output: Any, attributes: Mapping[str, Any]) -> None:
    """Put the output's messages into the answer: one for each choice, or the pieces of one answer."""
    if isinstance(output, str):
        answer.messages = (SourceMessage("assistant", output),) if output else ()
        return
    given = [own(one) for one in items(output)]
    reasons = [one.get("finish_reason") for one in given]
    if len(given) > 1 and not _are_choices(reasons, attributes):
        parts = [part for one in given for part in items(one.get("parts"))]
        if parts:
            given = [{"role": "assistant", "parts": parts}]
    read_choices = [message({**one, "role": one.get("role") or "assistant"}) for one in given]
    answer.messages = read_choices[0] if read_choices else ()
    answer.alternatives = choices(read_choices[1:], reasons)
    answer.finish_reason = next(filter(None, map(finish_reason, reasons)), None) or answer.finish_reason


def _are_choices(reasons: list[Any], attributes: Mapping[str, Any]) -> bool:
    """Report whether several output messages are choices (n > 1), not pieces of one answer."""
    if attributes.get("gen_ai.request.choice.count") not in (None, 1):
        return True
    ends = items(structured(attributes.get("gen_ai.response.finish_reasons")))
    return all(map(string, reasons)) and len(ends) in (0, len(reasons))


def message(value: Any) -> tuple[SourceMessage, ...]:
    """Read one message of a request or an answer, into several where it holds results of tools."""
    given = own(value)
    role = string(given.get("role"))
    if "parts" not in given:
        return chat.read(given) if role else ()
    found = Parts(role or "user")
    for part in items(given["parts"]):
        _read(part, found)
    sources = found.sources()
    name = string(given.get("name"))
    if name and sources and sources[-1].role == "user":
        named = {"name": name, **(sources[-1].metadata or {})}
        return (*sources[:-1], msgspec.structs.replace(sources[-1], metadata=named))
    return sources


def _read(part: Any, found: Parts) -> None:
    """Read one part; of an unknown kind it stays opaque."""
    given = own(part)
    if isinstance(part, str):
        found.text(part)
        return
    kind = string(given.get("type")) or ("text" if "content" in given else "part")
    content = given.get("content")
    match kind:
        case "text" if isinstance(content, str):
            found.text(content)
        case "text" if isinstance(given.get("text"), str):
            found.text(given["text"])
        case "reasoning" | "thinking":
            found.reasoning += filter(None, [string(content) or string(given.get("text"))])
        case "refusal":
            found.refusal(string(content) or string(given.get("refusal")) or "")
        case "tool_call":
            found.call(given.get("id"), given.get("name"), given.get("arguments"))
        case "tool_call_response":
            result = given.get("response", given.get("result"))
            found.result(given.get("id"), given.get("name"), result)
        case "blob" | "file" | "uri":
            found.attach(_media(kind, given))
        case _:
            found.other(kind, given)


def _media(kind: str, part: dict[str, Any]) -> Attachment:
    """Read a part that is not text: embedded, linked, or named by a file's id."""
    mime = string(part.get("mime_type"))
    modality = string(part.get("modality")) or (mime or "").partition("/")[0]
    medium = modality if modality in ("image", "audio", "video") else "file"
    data = part.get("content", part.get("data")) if kind == "blob" else None
    address = string(part.get("uri")) if kind == "uri" else None
    if address is not None and address.startswith("data:"):
        data, address, mime = address, None, mime or data_mime(address)
    return Attachment(
        medium,
        mime,
        data if isinstance(data, str | bytes) else None,
        address,
        string(part.get("file_id")) or string(part.get("filename")),
    )
