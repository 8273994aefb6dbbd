"""OpenInference: `openinference.span.kind`, and messages in flattened attributes (`llm.input_messages.0.…`). Pure.

Emitters: the instrumentations of Arize, for many providers and frameworks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.history.turn import Answer, Attachment, SourceMessage
from converra.integrations.openai import chat
from converra.integrations.payload.fields import items, string
from converra.integrations.payload.media import data_mime
from converra.spans.facts import count, failure, finish_reason, usage
from converra.spans.flat import grown
from converra.spans.messages import Parts, as_text, choices, own, structured, wordless
from converra.spans.reading import ModelCall, ToolRun
from converra.wire.json_safe import identifier

if TYPE_CHECKING:
    from collections.abc import Mapping

    from converra.spans.reading import Reading
    from converra.spans.span import Span

KIND = "openinference.span.kind"
INPUT, OUTPUT = "input.value", "output.value"
FIRST_TOKEN = "First Token Stream Event"  # noqa: S105 - the name of an event
WITHHELD = "__REDACTED__"
SWITCH = "OPENINFERENCE_HIDE_INPUTS=false and OPENINFERENCE_HIDE_OUTPUTS=false"

DETAILS = {
    "cachedTokens": ("llm.token_count.prompt_details.cache_read",),
    "cacheWriteTokens": ("llm.token_count.prompt_details.cache_write",),
    "reasoningTokens": ("llm.token_count.completion_details.reasoning",),
    "promptAudioTokens": ("llm.token_count.prompt_details.audio",),
    "completionAudioTokens": ("llm.token_count.completion_details.audio",),
}


def read(span: Span) -> Reading | None:
    """Read a span of the kinds LLM and TOOL."""
    match span.attributes.get(KIND):
        case "LLM":
            return _model_call(span)
        case "TOOL":
            return _tool_run(span.attributes)
        case _:
            return None


def _tool_run(attributes: Mapping[str, Any]) -> ToolRun:
    result = attributes.get(OUTPUT)
    call_id = attributes.get("tool_call.id", attributes.get("tool.id"))
    return ToolRun(
        identifier(call_id),
        string(attributes.get("tool.name")),
        None if result in (None, WITHHELD) else as_text(result),
    )


def _model_call(span: Span) -> ModelCall:
    attributes = span.attributes
    tree = own(grown(attributes, "llm.").get("llm"))
    whole = own(structured(attributes.get(OUTPUT)))
    asked = [source for one in items(tree.get("input_messages")) for source in _message(own(one).get("message"))]
    asked = asked or _prompts(tree) or _given(attributes.get(INPUT))
    answer = _facts(attributes, whole)
    answered = [_message(own(one).get("message"), "assistant") for one in items(tree.get("output_messages"))]
    answered = list(filter(None, answered)) or _completions(tree) or _returned(attributes.get(OUTPUT))
    reasons = [own(one).get("finish_reason") for one in items(whole.get("choices"))]
    answer.messages = answered[0] if answered else ()
    answer.alternatives = choices(answered[1:], reasons)
    failed = failure(span)
    answer.partial = failed is not None
    return ModelCall(
        messages=asked,
        answer=None if failed is not None and not answer.messages else wordless(answer),
        failure=failed,
        model=string(own(structured(attributes.get("llm.invocation_parameters"))).get("model")),
        tools=[structured(own(own(one).get("tool")).get("json_schema")) for one in items(tree.get("tools"))],
        provider=string(attributes.get("llm.provider")) or string(attributes.get("llm.system")),
        first_token_ms=next(((e.at - span.started) / 1e6 for e in span.events if e.name == FIRST_TOKEN), None),
        has_content=bool(asked or answered),
        switch=SWITCH,
    )


def _facts(attributes: Mapping[str, Any], whole: dict[str, Any]) -> Answer:
    """Read the facts of an answer; its id and its end stand only in the whole answer, where that is kept."""
    first = own(next(iter(items(whole.get("choices"))), None))
    reason = string(attributes.get("llm.finish_reason")) or first.get("finish_reason") or whole.get("stop_reason")
    return Answer(
        model=string(attributes.get("llm.model_name")),
        usage=usage(
            count(attributes, "llm.token_count.prompt"),
            count(attributes, "llm.token_count.completion"),
        ),
        usage_details={name: found for name, keys in DETAILS.items() if (found := count(attributes, *keys))} or None,
        finish_reason=finish_reason(reason),
        response_id=identifier(whole.get("id")),
    )


def _message(value: Any, role: str = "user") -> tuple[SourceMessage, ...]:
    """Read one message, grown from its flattened attributes."""
    given = own(value)
    if not given:
        return ()
    role = string(given.get("role")) or role
    text, call_id = given.get("content"), identifier(given.get("tool_call_id"))
    found = Parts(role)
    if found.role == "tool" and call_id is not None:
        found.result(call_id, given.get("name"), text if text is not None else _text_of(given))
        return found.sources()
    if isinstance(text, str) and text:
        found.text(text)
    elif text is not None and not isinstance(text, str):
        return chat.read({"role": role, "content": text})
    for part in items(given.get("contents")):
        _read(own(own(part).get("message_content")), found)
    for one in items(given.get("tool_calls")):
        call = own(own(one).get("tool_call"))
        function = own(call.get("function"))
        found.call(call.get("id"), function.get("name"), function.get("arguments"))
    if given.get("function_call_name"):
        found.call(None, given["function_call_name"], given.get("function_call_arguments_json"))
    return found.sources()


def _text_of(message: dict[str, Any]) -> str:
    parts = (own(own(part).get("message_content")) for part in items(message.get("contents")))
    return "\n".join(text for part in parts if (text := string(part.get("text"))))


def _read(part: dict[str, Any], found: Parts) -> None:
    """Read one part of a message."""
    kind = string(part.get("type")) or "part"
    text = string(part.get("text"))
    match kind:
        case "text" if text is not None:
            found.text(text)
        case "reasoning" | "thinking" if text is not None:
            found.reasoning.append(text)
        case "image" | "audio" | "file":
            found.attach(_media(kind, own(own(part.get(kind)).get(kind)) or own(part.get(kind))))
        case _:
            found.other(kind, part)


def _media(kind: str, value: dict[str, Any]) -> Attachment:
    url = string(value.get("url")) or ""
    mime = string(value.get("mime_type"))
    if url.startswith("data:"):
        return Attachment(kind, mime or data_mime(url), url)
    return Attachment(kind, mime, None, url or None, string(value.get("name")))


# -- models without messages, and frameworks that only keep the whole input and output ---------------------------------


def _prompts(tree: dict[str, Any]) -> list[SourceMessage]:
    texts = (own(own(one).get("prompt")).get("text") for one in items(tree.get("prompts")))
    return [SourceMessage("user", text) for text in texts if isinstance(text, str)]


def _completions(tree: dict[str, Any]) -> list[tuple[SourceMessage, ...]]:
    texts = (own(own(one).get("completion")).get("text") for one in items(tree.get("choices")))
    return [(SourceMessage("assistant", text),) for text in texts if isinstance(text, str)]


def _given(value: Any) -> list[SourceMessage]:
    """Read a whole input: a request in OpenAI's shape, or a text."""
    found = structured(value)
    if isinstance(found, dict):
        return [source for one in items(found.get("messages")) for source in chat.read(own(one))]
    return [SourceMessage("user", found)] if isinstance(found, str) and found and found != WITHHELD else []


def _returned(value: Any) -> list[tuple[SourceMessage, ...]]:
    """Read a whole output: an answer in OpenAI's shape, or a text."""
    found = structured(value)
    if isinstance(found, dict):
        made = (own(own(one).get("message")) for one in items(found.get("choices")))
        return [(chat.assistant(message),) for message in made if message]
    return [(SourceMessage("assistant", found),)] if isinstance(found, str) and found and found != WITHHELD else []
