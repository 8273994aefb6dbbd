"""The AI SDK of Vercel, versions 3 to 6 (`ai.*`); version 7 writes the GenAI conventions. Pure.

One span for each call of a model (`ai.generateText.doGenerate`, `ai.streamText.doStream`, and those of objects). The
outer spans repeat the whole and make no turns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.history.turn import Attachment, SourceMessage
from converra.integrations.payload.extras import kept
from converra.integrations.payload.fields import items, string
from converra.spans.facts import answer_facts, count, failure, usage
from converra.spans.messages import Parts, own, structured, wordless
from converra.spans.reading import ModelCall, ToolRun
from converra.wire.json_safe import identifier

if TYPE_CHECKING:
    from collections.abc import Mapping

    from converra.history.turn import Answer
    from converra.spans.reading import Reading
    from converra.spans.span import Span

OPERATION = "ai.operationId"
CALLS = (".doGenerate", ".doStream")
TOOL = "ai.toolCall"

SWITCH = "recordInputs and recordOutputs of experimental_telemetry (not false)"

PROMPT = ("ai.usage.inputTokens", "ai.usage.promptTokens")
COMPLETION = ("ai.usage.outputTokens", "ai.usage.completionTokens")
DETAILS = {
    "cachedTokens": ("ai.usage.cachedInputTokens", "ai.usage.inputTokenDetails.cacheReadTokens"),
    "cacheWriteTokens": ("ai.usage.inputTokenDetails.cacheWriteTokens",),
    "reasoningTokens": ("ai.usage.reasoningTokens", "ai.usage.outputTokenDetails.reasoningTokens"),
}


def read(span: Span) -> Reading | None:
    """Read a span of one call of a model, or of one run of a tool."""
    attributes = span.attributes
    operation = attributes.get(OPERATION)
    if not isinstance(operation, str):
        return None
    if operation == TOOL:
        return _tool_run(attributes)
    return _model_call(span, attributes) if operation.endswith(CALLS) else None


def _tool_run(attributes: Mapping[str, Any]) -> ToolRun:
    result = attributes.get("ai.toolCall.result")
    return ToolRun(
        identifier(attributes.get("ai.toolCall.id")),
        string(attributes.get("ai.toolCall.name")),
        _text_of(structured(result)) if isinstance(result, str) else None,
    )


def _text_of(result: Any) -> str:
    """Return a tool's result as the model gets it: a text, or JSON."""
    found = Parts("tool")
    found.result(None, None, result)
    return found.results[0].text


def _model_call(span: Span, attributes: Mapping[str, Any]) -> ModelCall:
    prompt = structured(attributes.get("ai.prompt.messages"))
    failed = failure(span)
    answer = _answer(attributes)
    has_content = prompt is not None or bool(answer.messages)
    first_ms = attributes.get("ai.response.msToFirstChunk")
    return ModelCall(
        messages=tuple([source for one in items(prompt) for source in message(one)]),
        answer=None if failed is not None and not answer.messages else wordless(answer),
        failure=failed,
        model=string(attributes.get("gen_ai.request.model")) or string(attributes.get("ai.model.id")),
        tools=[structured(tool) for tool in items(attributes.get("ai.prompt.tools"))],
        provider=_provider(attributes),
        first_token_ms=first_ms if isinstance(first_ms, int | float) and first_ms >= 0 else None,
        has_content=has_content,
        switch=SWITCH,
    )


def _provider(attributes: Mapping[str, Any]) -> str | None:
    """Return the provider without the API's name, as in `openai.chat`."""
    name = string(attributes.get("ai.model.provider")) or string(attributes.get("gen_ai.system"))
    return name.partition(".")[0] if name else None


def _answer(attributes: Mapping[str, Any]) -> Answer:
    answer = answer_facts(attributes)
    answer.model = answer.model or string(attributes.get("ai.response.model"))
    answer.response_id = answer.response_id or identifier(attributes.get("ai.response.id"))
    reason = string(attributes.get("ai.response.finishReason")) or answer.finish_reason
    answer.finish_reason = reason.replace("-", "_") if reason else None
    answer.usage = usage(count(attributes, *PROMPT), count(attributes, *COMPLETION)) or answer.usage
    details = {name: found for name, keys in DETAILS.items() if (found := count(attributes, *keys))}
    answer.usage_details = details or answer.usage_details
    said = Parts("assistant")
    for name in ("ai.response.text", "ai.response.object"):
        if text := string(attributes.get(name)):
            said.text(text)
    for part in items(structured(attributes.get("ai.response.toolCalls"))):
        _call(own(part), said)
    for part in items(structured(attributes.get("ai.response.files"))):
        said.attach(_file(own(part)))
    said.reasoning += filter(None, [string(attributes.get("ai.response.reasoning"))])
    sources = said.sources()
    has_content = any(one.text or one.calls or one.attachments or one.metadata for one in sources)
    answer.messages = sources if has_content else ()
    beside = structured(attributes.get("ai.response.providerMetadata"))
    answer.metadata = {"providerMetadata": kept(beside)} if beside else None
    return answer


def message(value: Any) -> tuple[SourceMessage, ...]:
    """Read one message of a prompt, in the form that the SDK hands to its providers."""
    given = own(value)
    role, content = string(given.get("role")) or "user", given.get("content")
    if isinstance(content, str):
        return (SourceMessage(role, content),)
    found = Parts(role)
    for part in map(own, items(content)):
        _read(part, found)
    return found.sources()


def _read(part: dict[str, Any], found: Parts) -> None:
    kind = string(part.get("type")) or "part"
    match kind:
        case "text":
            found.text(string(part.get("text")) or "")
        case "reasoning":
            found.reasoning += filter(None, [string(part.get("text"))])
        case "tool-call":
            _call(part, found)
        case "tool-result":
            result = part.get("output", part.get("result"))
            found.result(part.get("toolCallId"), part.get("toolName"), _output(result))
        case "file" | "image":
            found.attach(_file(part))
        case _:
            found.other(kind, part)


def _call(part: dict[str, Any], found: Parts) -> None:
    found.call(part.get("toolCallId"), part.get("toolName"), part.get("input", part.get("args")))


def _output(output: Any) -> Any:
    """Return the result in the envelope that versions 5 and later put around it: `{type: "json", value}`."""
    given = own(output)
    if "value" in given and string(given.get("type")):
        return given["value"]
    return given.get("reason", "execution denied") if given.get("type") == "execution-denied" else output


def _file(part: dict[str, Any]) -> Attachment:
    """Read a picture or a file: base64, or an address."""
    mime = string(part.get("mediaType")) or string(part.get("mimeType"))
    kind = (mime or "").partition("/")[0]
    data = string(part.get("data")) or string(part.get("image")) or string(part.get("base64"))
    is_url = bool(data and data.startswith(("http://", "https://")))
    return Attachment(
        kind if kind in ("image", "audio", "video") else "image" if part.get("type") == "image" else "file",
        mime,
        None if is_url else data,
        data if is_url else None,
        string(part.get("filename")),
    )
