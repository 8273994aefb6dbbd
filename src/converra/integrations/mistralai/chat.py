"""Mistral's chats and agents' completions, read: those of OpenAI with a prefill, and with agents. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.history.turn import Run
from converra.integrations.openai.chat import request as body
from converra.integrations.payload.fields import fields, items, string
from converra.integrations.payload.prefill import PrefilledCall

if TYPE_CHECKING:
    from converra.history.turn import Request
    from converra.integrations import CapturedCall

__all__ = ["agent_request", "body", "is_whole", "prefilled", "request"]

DONE = b"data: [DONE]"
"""Last event of a stream."""


def request(own: dict[str, Any], _path: str) -> Request:
    """Read the body of a chat. A prefill is no message of its own: the answer begins with it."""
    found = body(own)
    if prefill(own):
        found.messages = found.messages[:-1]
    return found


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
