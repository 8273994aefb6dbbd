"""The Messages API, read: requests as JSON with SDK objects in it, answers as SDK objects or JSON. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from converra.history.arguments import parse
from converra.history.turn import Answer, Dialect, Request, SourceMessage, SourceToolCall
from converra.integrations.anthropic.blocks import asked, parts, said
from converra.integrations.payload.extras import kept, merged, unread
from converra.integrations.payload.fields import BLOB_LENGTH, copied, digest, fields, items, number, plain, string
from converra.integrations.payload.media import embeds
from converra.integrations.payload.usage import any_snapshot
from converra.wire.json_safe import identifier
from converra.wire.models import Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converra.history.turn import Counts

MESSAGE = frozenset(
    {"id", "type", "role", "model", "content", "stop_reason", "usage", "error", "request_id", "parsed_output"}
)
"""Fields of an answer that are read, or left out on purpose. All others are kept in metadata."""

THINKING = ("thinking", "redacted_thinking")
PLAIN = ("text", *THINKING)
"""Blocks of a prefill."""
SCALARS = (int, float, bool, type(None))


def request(body: dict[str, Any]) -> Request:
    """Read the body of a call to `/v1/messages`. A prefill is left out: the answer begins with it."""
    messages, model, system = items(body.get("messages")), body.get("model"), body.get("system")
    if messages and prefill(messages):
        messages = messages[:-1]
    return Request(
        MESSAGES,
        messages,
        system if system.__class__ is str else parts(system).text or None,
        model if model.__class__ is str else string(model),
        None,
        items(body.get("tools")),
    )


def prefill(messages: Sequence[Any]) -> str:
    """Return the text at the end of a request that the answer continues, empty if there is none.

    The end of a paused turn (`pause_turn`), which is resent as it is, is none: hosted tools are in it.
    """
    last = fields(messages[-1])
    if last.get("role") != "assistant":
        return ""
    content = last.get("content")
    if isinstance(content, str):
        return content
    blocks = [fields(block) for block in items(content)]
    if any(block.get("type") not in PLAIN for block in blocks):
        return ""
    return "".join(string(block.get("text")) or "" for block in blocks)


def read(message: Any) -> tuple[SourceMessage, ...]:
    """Read one message of a request; most have a role and a text, and nothing else."""
    own = message if message.__class__ is dict else fields(message)
    role, content = string(own.get("role")), own.get("content")
    if role is None:
        return ()
    if content.__class__ is str and not (role == "assistant" and embeds(content)):
        return (SourceMessage(role, content),)
    if role != "assistant":
        return tuple(asked(role, content))
    try:
        text, calls = _plain(content)
        if text is not None and not embeds(text):
            return (SourceMessage("assistant", text, calls),)
    except (AttributeError, KeyError, TypeError):  # not the SDK's blocks alone, or an odd shape
        pass
    return said(content if items(content) else [{"type": "text", "text": content}]).messages


def fingerprint(messages: Sequence[Any]) -> list[int]:
    """Digests of all messages, in order.

    Thinking and `cache_control` have no part in them: apps drop the former, and move the latter with every call.
    """
    try:
        return [
            hash((m["role"], content)) if (content := m["content"]).__class__ is str else _digest(m["role"], content)
            for m in messages
        ]
    except (TypeError, KeyError, AttributeError):  # an SDK object, an odd shape, or no message at all
        return [_careful(m if m.__class__ is dict else fields(m)) for m in messages]


def _careful(own: dict[str, Any]) -> int:
    """Return the same digest as `fingerprint`, for a list in which some message is odd."""
    role, content = string(own.get("role")), own.get("content")
    if content.__class__ is str:
        return hash((role, content))
    try:
        return _digest(role, items(content))
    except (TypeError, KeyError, AttributeError):
        return hash((role, _deep(content)))


def _digest(role: Any, content: Sequence[Any]) -> int:
    """Hash blocks by what tells them from others; a text alone is hashed as if it were the content."""
    marks: list[Any] = []
    for block in content:
        own = block if block.__class__ is dict else block.__dict__
        kind = own["type"]
        if kind == "text":
            marks.append(own["text"])
        elif kind == "tool_use":
            marks.append((own["id"], own["name"]))
        elif kind == "tool_result":
            result = own.get("content")
            marks.append(("result", own["tool_use_id"], result if result.__class__ is str else _deep(result)))
        elif kind not in THINKING:
            marks.append(_deep(own))
    return hash((role, *marks))


def _deep(value: Any) -> int:
    """Hash any block by its content: an SDK object like the dict that it came from."""
    own = copied(value)
    if isinstance(own, dict):
        own.pop("cache_control", None)
    elif isinstance(own, list):
        for block in own:
            if isinstance(block, dict):
                block.pop("cache_control", None)
    return digest(own)


def echo(source: SourceMessage) -> dict[str, Any]:
    """Build an answer as most apps resend it, as far as fingerprints read it."""
    if not source.calls:
        return {"role": "assistant", "content": source.text}
    text = [{"type": "text", "text": source.text}] if source.text else []
    calls = [{"type": "tool_use", "id": call.id, "name": call.name} for call in source.calls]
    return {"role": "assistant", "content": [*text, *calls]}


MESSAGES = Dialect("anthropic.messages", fingerprint, read, echo)


def answer(message: Any) -> Answer:
    """Read a whole answer.

    Most are SDK objects with texts and calls alone: they have a way of their own, at a third of the price.
    """
    try:
        own = message.__dict__
        text, calls = _plain(own["content"])
        model, name, reason = own["model"], own["id"], own["stop_reason"]
        if (
            text is not None
            and not message.__pydantic_extra__
            and own["stop_sequence"] is None
            and own.get("stop_details") is None
            and own.get("container") is None
            and own.get("context_management") is None
            and own.get("diagnostics") is None
            and reason != "refusal"
            and not (len(text) > BLOB_LENGTH and embeds(text))
            and model
            and model.__class__ is name.__class__ is reason.__class__ is str
        ):
            source = (SourceMessage("assistant", text, calls),)
            counted = any_snapshot(own["usage"])
            return Answer(source, model, finish_reason=reason, response_id=name, unread=counted, read=counts)
    except (AttributeError, KeyError, TypeError, ValueError):  # a dict, or an odd shape
        pass
    return answer_of(fields(message))


def _plain(content: Any) -> tuple[str | None, tuple[SourceToolCall, ...]]:
    """Read texts and calls in which nothing else is; None for a text if any block has more."""
    text = ""
    calls: tuple[SourceToolCall, ...] = ()
    for block in content:
        held = block.__dict__
        if block.__pydantic_extra__:
            return None, ()
        if held["type"] == "text" and not held.get("citations"):
            text += held["text"]
        elif held["type"] == "tool_use" and _is_direct(held):
            name, call_id, given = held["name"], held["id"], held["input"]
            if not (name and name.__class__ is call_id.__class__ is str and given.__class__ is dict):
                return None, ()
            calls = (*calls, SourceToolCall(call_id, name, given.copy() if _is_flat(given) else plain(given)))
        else:
            return None, ()
    return (text if content else None), calls


def _is_direct(held: dict[str, Any]) -> bool:
    """Return True for a call that the model made itself, with no field beside those that are read."""
    caller = held.get("caller")
    return (caller is None or caller.__dict__.get("type") == "direct") and held.get("toolset_name") is None


def _is_flat(given: dict[str, Any]) -> bool:
    """Return True for an input of short texts and numbers, of which a shallow copy is enough."""
    return all(
        (value.__class__ is str and len(value) <= BLOB_LENGTH) or value.__class__ in SCALARS for value in given.values()
    )


def answer_of(own: dict[str, Any]) -> Answer:
    """Build the answer from the fields of a message: an object's, a document's, or those of a stream so far."""
    if own.get("error") and not own.get("content"):
        return Answer(metadata={"error": error_record(own)})
    messages, metadata = said(own.get("content"))
    reason = string(own.get("stop_reason"))
    if reason == "refusal":
        messages = (*messages[:-1], _refused(messages[-1], fields(own.get("stop_details"))))
    if own.get("error"):
        metadata["error"] = error_record(own)
    return Answer(
        messages,
        string(own.get("model")) or None,
        finish_reason=reason,
        response_id=identifier(own.get("id")),
        metadata=merged(metadata, unread(own, MESSAGE)) or None,
        unread=any_snapshot(own.get("usage")),
        read=counts,
    )


def _refused(source: SourceMessage, details: dict[str, Any]) -> SourceMessage:
    """Mark a refusal; without words of the model, the provider's explanation stands for it."""
    text = source.text or string(details.get("explanation")) or ""
    return msgspec.structs.replace(source, text=text, metadata={**(source.metadata or {}), "refusal": True})


def error_record(own: dict[str, Any]) -> dict[str, Any]:
    """`metadata.error` of an error within a success status: its type, never its words."""
    return {"type": string(fields(own.get("error")).get("type")) or "NoAnswer"}


# -- usage -----------------------------------------------------------------------------------------------------------

_CACHED, _WRITTEN = "cache_read_input_tokens", "cache_creation_input_tokens"
_COUNTED = frozenset({"input_tokens", "output_tokens", _CACHED, _WRITTEN, "server_tool_use", "output_tokens_details"})


def counts(reported: dict[str, Any] | None) -> Counts:
    """Return the usage and its details. Unlike here, the provider's `input_tokens` leave the cached ones out."""
    if reported is None:
        return None, None
    given, completion = number(reported.get("input_tokens")), number(reported.get("output_tokens"))
    cached, written = number(reported.get(_CACHED)) or 0, number(reported.get(_WRITTEN)) or 0
    prompt = None if given is None and not (cached or written) else (given or 0) + cached + written
    usage = None if prompt is None and completion is None else Usage(prompt, completion)
    reasoning = number(fields(reported.get("output_tokens_details")).get("thinking_tokens"))
    details: dict[str, Any] = {
        "cachedTokens": cached,
        "cacheWriteTokens": written,
        "reasoningTokens": reasoning,
        "serverToolUse": _positive(reported.get("server_tool_use")),
        **{name: kept(_positive(value)) for name, value in reported.items() if name not in _COUNTED},
    }
    return usage, {name: value for name, value in details.items() if value} or None


def _positive(value: Any) -> Any:
    """Leave out counts of zero."""
    return {name: count for name, count in value.items() if count} if isinstance(value, dict) else value


def whole_input(fragments: str) -> Any:
    """Return the input of a call from the JSON in which a stream brings it; as it is if it is not whole."""
    found = parse(fragments)
    return found if isinstance(found, dict) else fragments
