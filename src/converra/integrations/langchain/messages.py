"""LangChain messages, read: all classes, their chunks, and the bare strings of completion models. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.history.turn import Attachment, Dialect, SourceMessage, SourceToolCall
from converra.integrations.langchain.content import content
from converra.integrations.openai.chat import MESSAGE
from converra.integrations.payload.extras import merged, unread
from converra.integrations.payload.fields import copied, digest, fields, items, string
from converra.integrations.payload.media import beside, embeds, encodings, placeholder, taken_out
from converra.integrations.payload.tool_calls import meant, unnamed
from converra.wire.json_safe import identifier

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from converra.integrations.langchain.content import Content

ROLES = {
    **dict.fromkeys(("human", "HumanMessageChunk"), "user"),
    **dict.fromkeys(("ai", "AIMessageChunk"), "assistant"),
    **dict.fromkeys(("system", "SystemMessageChunk", "developer"), "system"),
    **dict.fromkeys(("tool", "ToolMessageChunk", "function", "FunctionMessageChunk"), "tool"),
}
"""Role by a message's `type`; of a ChatMessage, by the role that it was given."""

CHAT = frozenset({"chat", "ChatMessageChunk"})
SILENT = frozenset({"remove"})
"""Orders to a graph's state, not words."""


READ_BESIDE = frozenset(
    {
        *MESSAGE,
        *(
            "tool_outputs",
            "token_usage",
            "usage",
            "usage_metadata",
            "model",
            "model_name",
            "model_id",
            "model_provider",
        ),
        *("finish_reason", "stop_reason", "stopReason", "stop_sequence", "done_reason", "done", "logprobs", "id"),
        *("object", "created", "created_at", "status", "incomplete_details", "error", "user", "metadata", "message"),
        *("service_tier", "system_fingerprint", "headers", "request_id", "ResponseMetadata", "output_version"),
    }
)
"""Fields beside a message's content, or of its response, that are read or left out on purpose."""


def fingerprint(messages: Sequence[Any]) -> list[int]:
    """Return one integer per message, by its content: many apps change its id each time they resend it."""
    return [hash(m) if m.__class__ is str else _look(m) for m in messages]


def _look(message: Any) -> int:
    try:
        own = message.__dict__
        source = own["content"]
        source = source if source.__class__ is str else digest(source)
        calls = own.get("tool_calls")
        if calls:
            return hash((own["type"], source, *[(call["name"], call["id"] or digest(call["args"])) for call in calls]))
        if not source:  # a refusal, an audio answer, a call that does not parse
            source = digest([own["additional_kwargs"], own.get("invalid_tool_calls")])
        return hash((own["type"], source, own.get("tool_call_id")))
    except (AttributeError, KeyError, TypeError):
        return digest(message)


def read(message: Any) -> tuple[SourceMessage, ...]:
    """Read one message; an assistant's may include results of tools that the provider has run."""
    if isinstance(message, str):
        return (SourceMessage("user", message),)
    own = fields(message)
    kind = string(own.get("type")) or ""
    role = ROLES.get(kind) or (_chat_role(own) if kind in CHAT else kind)
    if kind in SILENT or not role:
        return ()
    return answered(own) if role == "assistant" else _sent(role, own)


def _sent(role: str, own: dict[str, Any]) -> tuple[SourceMessage, ...]:
    """Read a message of the system, the user or a tool."""
    text: Any = own.get("content")
    name = string(own.get("name"))
    metadata = {"name": name} if name else None
    if text.__class__ is str and role != "tool":
        return (SourceMessage(role, text, metadata=metadata),)
    found = content(text)
    if role == "tool":
        return (_result(own, found),)
    if found.hosted and not found.lines:
        return tuple(found.hosted)
    return (*found.hosted, SourceMessage(role, found.text("\n"), (), None, None, tuple(found.attachments), metadata))


MESSAGES = Dialect("langchain", fingerprint, read)


def identity(message: Any) -> str | None:
    """Return the id of a user's message; None for one of another role, or without an id."""
    return string(getattr(message, "id", None)) if getattr(message, "type", None) == "human" else None


KEPT_MESSAGES = MESSAGES._replace(identity=identity)
"""Messages of a graph with a checkpointer. LangGraph gives each an id when it enters the thread, and keeps it there.

Without a checkpointer, a history that is resent gets new ids with each run.
"""


def _chat_role(own: dict[str, Any]) -> str:
    role = string(own.get("role")) or "user"
    return ROLES.get(role, role)


def _result(own: dict[str, Any], found: Content) -> SourceMessage:
    metadata = {"status": "error"} if own.get("status") == "error" else None
    inner = [one for one in found.hosted if one.role == "tool"]  # a result in the form that the provider wants
    text = found.text("\n") or "\n".join(one.text for one in inner)
    attachments = (*found.attachments, *(attachment for one in inner for attachment in one.attachments))
    return SourceMessage(
        "tool", text, (), identifier(own.get("tool_call_id")), string(own.get("name")), attachments, metadata
    )


def answered(own: dict[str, Any]) -> tuple[SourceMessage, ...]:
    """Read an assistant message, last, and the provider's tool results before it; some stand beside the content."""
    more = fields(own.get("additional_kwargs"))
    found = content(own.get("content"), *items(more.get("tool_outputs")), opaque=True)
    return (*found.tools_used(), _assistant(own, more, found))


def _assistant(own: dict[str, Any], more: dict[str, Any], found: Content) -> SourceMessage:
    words: str = found.text("")
    if not (embeds(words) or found.is_more or own.get("name")) and _is_empty(more):  # most are a text, or calls
        made = tuple(_calls(own, more)) if own.get("tool_calls") or own.get("invalid_tool_calls") else ()
        return SourceMessage("assistant", words, meant(made), metadata=unnamed(made) or None if made else None)
    media = tuple(beside(more, READ_BESIDE))
    words, embedded = taken_out(words) if embeds(words) else (words, [])
    text = "\n".join(filter(None, (words, *map(placeholder, media))))
    attachments = (*found.attachments, *embedded, *media)
    refusal = string(more.get("refusal"))
    if refusal:
        text = f"{text}\n{refusal}" if text else refusal
    audio = fields(more.get("audio"))
    text = text or string(audio.get("transcript")) or ""
    if string(audio.get("data")):
        attachments = (*attachments, Attachment("audio", None, audio["data"]))
    made = tuple(_calls(own, more))
    extras = unread(more, READ_BESIDE, encodings(media))
    metadata = merged({**dict(_extras(own, more, found)), **unnamed(made)}, extras) or None
    return SourceMessage("assistant", text, meant(made), None, None, attachments, metadata)


def _is_empty(more: dict[str, Any]) -> bool:
    for value in more.values():  # noqa: SIM110 - `all` over a generator costs twice as much, for every answer
        if value is not None:
            return False
    return True


def _extras(own: dict[str, Any], more: dict[str, Any], found: Content) -> Iterator[tuple[str, Any]]:
    if found.refusal or string(more.get("refusal")):
        yield "refusal", True
    audio = fields(more.get("audio"))
    if audio:
        yield "audio", {key: audio[key] for key in ("id", "expires_at") if audio.get(key) is not None} or True
    thoughts = [*found.reasoning, *_thoughts(more)]
    if thoughts:
        yield "reasoning", "\n".join(dict.fromkeys(thoughts))
    if found.annotations:
        yield "annotations", found.annotations
    if found.opaque:
        yield "items", found.opaque
    if string(own.get("name")):
        yield "name", own["name"]


def _thoughts(more: dict[str, Any]) -> Iterator[str]:
    """Yield the reasoning that compatible providers put beside the content."""
    if string(more.get("reasoning_content")):
        yield more["reasoning_content"]
    for part in items(fields(more.get("reasoning")).get("summary")):
        if string(fields(part).get("text")):
            yield fields(part)["text"]


def _calls(own: dict[str, Any], more: dict[str, Any]) -> Iterator[SourceToolCall]:
    calls = [*items(own.get("tool_calls")), *items(own.get("invalid_tool_calls"))]
    for call in map(fields, calls):
        yield SourceToolCall(identifier(call.get("id")), string(call.get("name")), copied(call.get("args")))
    function = fields(more.get("function_call"))
    if function and not calls:
        yield SourceToolCall(None, string(function.get("name")), copied(function.get("arguments")))
