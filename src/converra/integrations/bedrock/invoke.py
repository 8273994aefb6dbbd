"""InvokeModel, whose bodies are in the format of the model's own API: which format it is, and who reads it. Pure.

The body decides, not the id of the model: that of an inference profile or of an imported model does not name it.
"""

from __future__ import annotations

from typing import Any

from converra.integrations.anthropic import messages
from converra.integrations.anthropic.events import MessageEvents
from converra.integrations.anthropic.prefill import prefilled
from converra.integrations.bedrock import converse
from converra.integrations.bedrock.events import ConverseEvents
from converra.integrations.openai import chat
from converra.integrations.openai.chat_chunks import ChatChunks
from converra.integrations.payload.fields import fields, items
from converra.integrations.stainless.request import Endpoint

ANTHROPIC = Endpoint("anthropic", messages.request, messages.answer, MessageEvents, wrap=prefilled)
NOVA = Endpoint("bedrock", converse.request, converse.answer, ConverseEvents)
CHAT = Endpoint("openai", chat.request, chat.answer, ChatChunks)

UNREAD = (
    frozenset({"prompt", "max_gen_len"}),  # Llama
    frozenset({"prompt", "max_tokens"}),  # Mistral
    frozenset({"prompt", "max_tokens_to_sample"}),  # the old completions of Claude
    frozenset({"inputText", "textGenerationConfig"}),  # Titan
    frozenset({"message", "chat_history"}),  # Command R
)
"""Fields of bodies that ask for text in a format that is not read."""


def endpoint_of(body: dict[str, Any]) -> Endpoint | None:
    """Return the readers of a body; None if it is no chat, or one of a format that is not read."""
    sent = items(body.get("messages"))
    if "anthropic_version" in body:
        return ANTHROPIC
    if not sent:
        return None
    first = next(iter(items(fields(sent[0]).get("content"))), None)
    return NOVA if first is not None and "type" not in fields(first) else CHAT


def is_unread_chat(body: dict[str, Any]) -> bool:
    """Return True if a body asks for text, and no readers exist for it."""
    return any(names <= body.keys() for names in UNREAD)
