"""Chat Completions, read: requests as JSON, answers as SDK objects or JSON. Pure, and nothing of the SDK is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.conversation.turn import Answer, Attachment, Call, Dialect, Request, Said
from converra.integrations.openai_digest import look
from converra.integrations.openai_fields import fields, items, plain, string
from converra.integrations.openai_logprobs import summary, token_logprobs
from converra.integrations.openai_parts import Content, content
from converra.integrations.openai_usage import usage, usage_details

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROLES = {"developer": "system", "function": "tool"}
"""Roles whose API name is another; all others are kept as they are."""

REASONING_FIELDS = ("reasoning_content", "reasoning")
"""Where compatible providers put what a model thought, beside its text."""

KEPT_FIELDS = ("annotations",)
"""Fields of an answer that are kept opaque in its metadata."""


def request(body: dict[str, Any]) -> Request:
    """What a call to `/chat/completions` sends."""
    return Request(
        dialect=CHAT,
        messages=items(body.get("messages")),
        model=string(body.get("model")),
        tools=items(body.get("tools")) or items(body.get("functions")),
    )


def read(message: Any) -> tuple[Said, ...]:
    """One message of a request."""
    own = fields(message)
    role = string(own.get("role"))
    if role == "assistant":
        return (assistant(own),)
    if role is None:
        return ()
    found = content(own.get("content"))
    if role in ("tool", "function"):
        call_id, name = string(own.get("tool_call_id")), string(own.get("name"))
        return (Said("tool", found.text, (), call_id, name, found.attachments),)
    metadata = {"name": own["name"]} if string(own.get("name")) else None
    return (Said(ROLES.get(role, role), found.text, (), None, None, found.attachments, metadata),)


def echo(said: Said) -> dict[str, Any]:
    """An answer as most apps resend it, as far as it is looked at."""
    if not said.calls:
        return {"role": "assistant", "content": said.text}
    calls = [{"id": c.id, "function": {"name": c.name, "arguments": c.arguments}} for c in said.calls]
    return {"role": "assistant", "content": said.text or None, "tool_calls": calls}


CHAT = Dialect("openai.chat", look, read, echo)


def assistant(own: dict[str, Any]) -> Said:
    """An assistant message, of an answer or sent again; most have text or calls, and nothing else."""
    text: Any = own.get("content")
    calls = tuple(_calls(own)) if own.get("tool_calls") or own.get("function_call") else ()
    if not (
        own.get("refusal")
        or own.get("annotations")
        or own.get("reasoning_content")
        or own.get("reasoning")
        or own.get("audio")
    ) and (text is None or isinstance(text, str)):
        return Said("assistant", text or "", calls)
    return _assistant(own, calls)


def _assistant(own: dict[str, Any], calls: tuple[Call, ...]) -> Said:
    found = content(own.get("content"), "")
    text, attachments = found.text, found.attachments
    metadata = dict(_extras(own, found))
    refusal = string(own.get("refusal"))
    if refusal:
        text = f"{text}\n{refusal}" if text else refusal
    audio = fields(own.get("audio"))
    if audio:
        text = text or string(audio.get("transcript")) or ""
        if string(audio.get("data")):
            attachments = (*attachments, Attachment("audio", None, audio["data"]))
    return Said("assistant", text, calls, None, None, attachments, metadata or None)


def _extras(own: dict[str, Any], found: Content) -> Iterator[tuple[str, Any]]:
    if found.refusal or string(own.get("refusal")):
        yield "refusal", True
    audio = fields(own.get("audio"))
    if audio:
        yield "audio", {key: audio[key] for key in ("id", "expires_at") if audio.get(key) is not None} or True
    thoughts = [*found.reasoning, *(text for name in REASONING_FIELDS if (text := string(own.get(name))))]
    if thoughts:
        yield "reasoning", "\n".join(dict.fromkeys(thoughts))
    for name in KEPT_FIELDS:
        if own.get(name):
            yield name, plain(own[name])


def _calls(own: dict[str, Any]) -> Iterator[Call]:
    for tool_call in items(own.get("tool_calls")):
        yield call(fields(tool_call))
    function = fields(own.get("function_call"))
    if function:
        yield Call(None, string(function.get("name")), _arguments(function.get("arguments")))


def call(own: dict[str, Any]) -> Call:
    """A tool call: of a function, or of a custom tool with plain text for input."""
    called = fields(own.get("function")) or fields(own.get("custom"))
    arguments = called["arguments"] if "arguments" in called else called.get("input")
    return Call(string(own.get("id")), string(called.get("name")), _arguments(arguments))


def _arguments(value: Any) -> Any:
    return value if value is None or isinstance(value, str) else plain(value)


def answer(completion: Any) -> Answer:
    """A whole answer. One that carries an error inside a success status, or no choices, says so in its metadata."""
    own = fields(completion)
    choices = _choices(own)
    first = choices[0] if choices else {}
    reported = own.get("usage")
    said: tuple[Said, ...] = (assistant(fields(first["message"])),) if first else ()
    if not said and reported:  # without words, but not for free
        said = (Said("assistant"),)
    return Answer(
        said=said,
        model=string(own.get("model")) or None,
        usage=usage(reported),
        usage_details=usage_details(reported),
        finish_reason=string(first.get("finish_reason")),
        alternatives=tuple([alternative(c, assistant(fields(c["message"]))) for c in choices[1:]]),
        response_id=string(own.get("id")),
        metadata=confidence(token_logprobs(first.get("logprobs"))) if first else {"error": error_record(completion)},
    )


def confidence(numbers: Sequence[float]) -> dict[str, Any] | None:
    """The metadata that log probabilities make, if they were asked for."""
    return {"logprobs": summary(numbers)} if numbers else None


def _choices(own: dict[str, Any]) -> list[dict[str, Any]]:
    """The choices with a message, the one with the lowest index first."""
    found = [choice for item in items(own.get("choices")) if "message" in (choice := fields(item))]
    if len(found) > 1:
        found.sort(key=_index)
    return found


def _index(choice: dict[str, Any]) -> int:
    index = choice.get("index")
    return index if isinstance(index, int) else 0


def alternative(choice: dict[str, Any], said: Said) -> dict[str, Any]:
    """A second choice (n > 1), as `metadata.alternatives` lists it."""
    record: dict[str, Any] = {"index": choice.get("index"), "content": said.text}
    if said.calls:
        record["toolCalls"] = [called._asdict() for called in said.calls]
    record["finishReason"] = string(choice.get("finish_reason"))
    return {key: value for key, value in record.items() if value is not None}


def error_record(body: Any) -> dict[str, Any]:
    """`metadata.error` of a success status without an answer: the error's type or code, never its words."""
    error = fields(fields(body).get("error"))
    kind = next((kind for name in ("type", "code") if (kind := string(error.get(name)))), None)
    return {"type": kind or "NoAnswer"}
