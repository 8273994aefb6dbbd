"""Responses, read: requests as JSON, answers as SDK objects or JSON. Pure, and nothing of the SDK is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from converra.history.turn import Answer, Dialect, Request, SourceMessage
from converra.integrations.openai.chat import error_record
from converra.integrations.openai.items import is_empty_call, known, read, said_by, strange, thoughts
from converra.integrations.payload.extras import merged, unread
from converra.integrations.payload.fields import BLOB_LENGTH, fields, fingerprint, items, string
from converra.integrations.payload.media import embeds
from converra.integrations.payload.parts import content
from converra.integrations.payload.usage import counts, snapshot, usage, usage_details
from converra.wire.json_safe import identifier

if TYPE_CHECKING:
    from collections.abc import Sequence

RESPONSES = Dialect("openai.responses", fingerprint, read)

AT_WORK = ("queued", "in_progress")
"""The states of a response that has no answer yet; its id is kept, so that the answer can be asked for."""


RESPONSE = frozenset(
    {
        *("id", "object", "created_at", "completed_at", "model", "status", "output", "output_text", "usage", "error"),
        *("incomplete_details", "conversation", "background", "access_programs"),
        # copied from the request:
        *("instructions", "metadata", "parallel_tool_calls", "temperature", "tool_choice", "tools", "top_p"),
        *("max_output_tokens", "max_tool_calls", "previous_response_id", "prompt", "prompt_cache_key", "reasoning"),
        *("prompt_cache_retention", "prompt_cache_options", "prompt_cache_diagnostics", "safety_identifier"),
        *("service_tier", "text", "top_logprobs", "truncation", "user", "store", "frequency_penalty", "image"),
        *("presence_penalty", "billing", "verbosity", "input_transformations"),
    }
)
"""Fields of a response that are read, or left out on purpose. All others are kept in metadata."""


def request(body: dict[str, Any]) -> Request:
    """Read the body of a call to `/responses`. If it continues a response or conversation, all input is new."""
    source = body.get("input")
    conversation = body.get("conversation")
    return Request(
        dialect=RESPONSES,
        messages=({"role": "user", "content": source},) if isinstance(source, str) else items(source),
        instructions=_instructions(body),
        model=string(body.get("model")),
        previous=identifier(body.get("previous_response_id")) or _conversation_id(conversation),
        tools=items(body.get("tools")),
    )


def retrieved_id(method: str, url: str) -> str | None:
    """Return the id of the response that a request retrieves (GET /responses/{id}) or cancels; None for others."""
    if "/responses/" not in url:
        return None
    parts = url.partition("?")[0].strip("/").split("/")
    if method == "post" and parts[-1] == "cancel":
        parts.pop()
    elif method != "get":
        return None
    *_, collection, response_id = ("", *parts)
    return response_id if collection == "responses" else None


def _instructions(body: dict[str, Any]) -> str | None:
    """Return the instructions. The provider keeps prompt templates: lines name the template and its variables."""
    own, template = string(body.get("instructions")), fields(body.get("prompt"))
    if not template:
        return own
    facts = [string(template.get("id")), f"version {version}" if (version := string(template.get("version"))) else None]
    values = [f"{name}: {_value(value)}" for name, value in fields(template.get("variables")).items()]
    return "\n".join(filter(None, (f"[prompt: {', '.join(filter(None, facts))}]", *values, own)))


def _value(variable: Any) -> str:
    """Return the value of a template variable: a string, or a text, an image or a file."""
    return variable if isinstance(variable, str) else content([variable]).text


def answer(response: Any) -> Answer:
    """Read a whole response, also one that is queued, incomplete or failed."""
    found = _plain_answer(response)
    if found is not None:
        return found
    own = fields(response)
    if not own.get("output") and not own.get("status"):
        return Answer(metadata={"error": error_record(own)})
    return answer_of(own, items(own.get("output")))


def _plain_answer(response: Any) -> Answer | None:
    """Read an SDK object that is one text and nothing else, at a third of the price; as for chats."""
    try:
        own = response.__dict__
        (item,) = own["output"]
        held = item.__dict__
        (part,) = held["content"]
        words = part.__dict__
        text, model, name = words["text"], own["model"], own["id"]
        if (
            held["type"] == "message"
            and held["role"] == "assistant"
            and words["type"] == "output_text"
            and own["status"] == "completed"
            and not words["annotations"]
            and not (len(text) > BLOB_LENGTH and embeds(text))
            and not words.get("logprobs")
            and not held.get("phase")
            and not item.__pydantic_extra__
            and not part.__pydantic_extra__
            and own["error"] is None
            and own["incomplete_details"] is None
            and own.get("conversation") is None
            and not (response.__pydantic_extra__ and unread(response.__pydantic_extra__, RESPONSE))
            and not (response.__pydantic_extra__ or {}).get("conversation")  # where an old SDK keeps it
            and own.get("moderation") is None
            and own.get("tool_usage") is None
            and model
            and text.__class__ is model.__class__ is name.__class__ is str
        ):
            source = (SourceMessage("assistant", text),)
            counted = snapshot(own["usage"], "input_tokens_details", "output_tokens_details")
            return Answer(source, model, finish_reason="completed", response_id=name, unread=counted, read=counts)
    except (AttributeError, KeyError, TypeError, ValueError):  # a dict, an odd shape, no item or several
        pass
    return None


def answer_of(own: dict[str, Any], output: Sequence[Any]) -> Answer:
    """Build the answer from a response's fields and its output items.

    A response in a conversation is known by the conversation's id, since that is what the next request will name.
    """
    source, metadata = _source(output)
    if own.get("status") in AT_WORK and identifier(own.get("id")):
        metadata["responseId"] = identifier(own["id"])
    if own.get("error"):
        metadata["error"] = error_record(own)
    reported = own.get("usage")
    return Answer(
        messages=tuple(source) or (SourceMessage("assistant"),),
        model=string(own.get("model")) or None,
        usage=usage(reported),
        usage_details=usage_details(reported),
        finish_reason=_finish_reason(own),
        response_id=_conversation_id(own.get("conversation")) or identifier(own.get("id")),
        metadata=merged(metadata, unread(own, RESPONSE)) or None,
    )


def _conversation_id(conversation: Any) -> str | None:
    return identifier(conversation) or identifier(fields(conversation).get("id"))


def _finish_reason(own: dict[str, Any]) -> str | None:
    reason = string(fields(own.get("incomplete_details")).get("reason")) or string(own.get("status"))
    return None if reason == "in_progress" else reason


def _source(output: Sequence[Any]) -> tuple[list[SourceMessage], dict[str, Any]]:
    """Read the items in order; the metadata keeps reasoning after the last message, and unknown kinds."""
    source: list[SourceMessage] = []
    pending: list[str] = []
    opaque: list[Any] = []
    for item in output:
        own = fields(item)
        if own.get("type") == "reasoning":
            pending.append(thoughts(own))
        elif known(own):
            for one in said_by(own):
                _add(source, one, pending)
        elif not is_empty_call(own):
            whole, shown = strange(own)
            opaque.append(whole)
            if shown is not None:
                _add(source, shown, pending)
    metadata: dict[str, Any] = {"items": opaque} if opaque else {}
    reasoning = "\n".join(filter(None, pending))
    if reasoning:
        metadata["reasoning"] = reasoning
    return source, metadata


def _add(source: list[SourceMessage], one: SourceMessage, pending: list[str]) -> None:
    """Add what an item says; a turn's text and calls are one message, and what was thought before it goes with it."""
    reasoning = "\n".join(filter(None, pending))
    pending.clear()
    last = source[-1] if source else None
    if last and last.role == one.role == "assistant" and one.calls and not reasoning:
        source[-1] = msgspec.structs.replace(last, calls=last.calls + one.calls)
        return
    if reasoning:
        one = msgspec.structs.replace(one, metadata={**(one.metadata or {}), "reasoning": reasoning})
    source.append(one)
