"""The legacy Completions, read as chats of one question and one answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.history.turn import Request
from converra.integrations.openai import chat
from converra.integrations.openai.chat_chunks import ChatChunks
from converra.integrations.payload.fields import fields, items, string

if TYPE_CHECKING:
    from converra.history.turn import Answer


def request(body: dict[str, Any]) -> Request:
    """What a call to `/completions` sends: a prompt, or several; prompts of token numbers have no words."""
    prompt = body.get("prompt")
    prompts = [prompt] if isinstance(prompt, str) else [text for text in items(prompt) if isinstance(text, str)]
    messages = [{"role": "user", "content": text} for text in prompts]
    return Request(dialect=chat.CHAT, messages=messages, model=string(body.get("model")))


def answer(completion: Any) -> Answer:
    """A whole answer; its choices hold a text where a chat's hold a message."""
    return chat.answer(_as_chat(completion, "message"))


class CompletionChunks(ChatChunks):
    """What has arrived of one stream so far."""

    def feed(self, chunk: Any) -> None:
        """Read one chunk."""
        super().feed(_as_chat(chunk, "delta"))


def _as_chat(completion: Any, name: str) -> dict[str, Any]:
    own = dict(fields(completion))
    choices = (fields(choice) for choice in items(own.get("choices")))
    own["choices"] = [{**choice, name: {"content": choice.get("text")}} for choice in choices]
    return own
