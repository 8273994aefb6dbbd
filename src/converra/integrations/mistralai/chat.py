"""Mistral's chats and agents' completions, read: those of OpenAI with a prefill, and with agents. Pure.

A request is seen as the bytes that are sent, and nothing changes those any more. So all of its messages but the last
one, which may be a prefill, are parsed on a worker thread.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import msgspec

from converra.history.turn import DeferredMessages, Run
from converra.integrations.openai.chat import request as body
from converra.integrations.payload.fields import fields, items, parsed, string
from converra.integrations.payload.prefill import PrefilledCall

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converra.history.turn import Request
    from converra.integrations import CapturedCall

__all__ = ["agent_request", "body", "document", "is_whole", "prefilled", "request"]

DONE = b"data: [DONE]"
"""Last event of a stream."""

SENT = "$sent"
"""Key of the length of a body, in bytes, whose messages are not parsed yet; no field of the API."""


NO_TOOLS = msgspec.Raw(b"null")
TOOL_LISTS = 16
"""Lists of declared tools that are kept parsed: an app sends the same ones with each request."""


class _Body(msgspec.Struct, gc=False):
    """The fields of a body that are read at once; its messages and tools are left as bytes."""

    messages: list[msgspec.Raw]
    model: str | None = None
    agent_id: str | None = None
    tools: msgspec.Raw = NO_TOOLS


_decode = msgspec.json.Decoder(_Body).decode


def document(sent: bytes) -> dict[str, Any]:
    """Return the fields of a body that are read; of its messages, only the last is parsed at once."""
    try:
        found = _decode(sent)
    except (msgspec.DecodeError, UnicodeError, RecursionError):  # odd, or no JSON
        return fields(parsed(sent))
    *others, last = found.messages or [NO_TOOLS]
    messages = [*others, parsed(bytes(last))] if found.messages else []
    tools = _tools(bytes(found.tools))
    return {"messages": messages, "model": found.model, "agent_id": found.agent_id, "tools": tools, SENT: len(sent)}


@lru_cache(maxsize=TOOL_LISTS)
def _tools(sent: bytes) -> Any:
    return parsed(sent)


def request(own: dict[str, Any], _path: str) -> Request:
    """Read the body of a chat. A prefill is no message of its own: the answer begins with it."""
    found = body(own)
    messages = found.messages[:-1] if prefill(own) else found.messages
    found.messages = DeferredMessages(partial(_parsed, messages), own[SENT]) if SENT in own else messages
    return found


def _parsed(messages: Sequence[Any]) -> list[Any]:
    """Parse the messages that are still bytes."""
    return [parsed(bytes(one)) if one.__class__ is msgspec.Raw else one for one in messages]


def agent_request(own: dict[str, Any], path: str) -> Request:
    """Read the body of an agent's completion, which names the agent in place of a model."""
    found = request(own, path)
    found.run = Run(string(own.get("agent_id")))
    return found


def prefill(own: dict[str, Any]) -> str:
    """Return the beginning of the answer that a body gives (`prefix`); an empty string if it gives none."""
    messages = items(own.get("messages"))
    last = fields(messages[-1]) if messages else {}
    return string(last.get("content")) or "" if last.get("prefix") is True and last.get("role") == "assistant" else ""


def prefilled(call: CapturedCall, own: dict[str, Any]) -> CapturedCall:
    """Return the call of a body, whose answers begin with the body's prefill if it has one."""
    beginning = prefill(own)
    return PrefilledCall(call, beginning, repeated=True) if beginning else call


def is_whole(stream: bytes) -> bool:
    """Return True for the bytes of a stream with its last event."""
    return stream.rstrip().endswith(DONE)
