"""Ollama's `generate`, read: one prompt, and an answer that may be continued by the tokens that it came with. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.history.turn import Answer, Request
from converra.integrations.ollama.chat import CHAT, FACTS, Chunks, answer_of, spoken
from converra.integrations.payload.fields import fields, items, string

if TYPE_CHECKING:
    from collections.abc import Sequence

KNOWN = FACTS | {"response", "thinking", "context", "image", "completed", "total"}


def request(body: dict[str, Any]) -> Request:
    """Read the body of a call. Its `context` names the answer that it continues; without a prompt, it asks nothing."""
    prompt, images = string(body.get("prompt")), body.get("images")
    message = {"role": "user", "content": prompt or "", **({"images": images} if images else {})}
    system, model = string(body.get("system")), string(body.get("model"))
    return Request(CHAT, [message] if prompt or images else (), system, model, tokens_id(items(body.get("context"))))


def tokens_id(context: Sequence[Any]) -> str | None:
    """Return a name for the tokens of all that was said so far; None if there are none."""
    return f"context-{len(context)}-{hash(tuple(context)):x}" if context else None


def answer(response: Any) -> Answer:
    """Read a whole answer."""
    own = fields(response)
    return _answer(own, {"content": own.get("response"), "thinking": own.get("thinking")})


def _answer(own: dict[str, Any], message: dict[str, Any]) -> Answer:
    data = string(own.get("image"))
    source = spoken({**message, "images": [data] if data else ()})
    found = answer_of(own, source, KNOWN)
    found.response_id = tokens_id(items(own.get("context")))
    return found


class GenerateChunks(Chunks):
    """The chunks of a streamed answer."""

    def feed(self, chunk: Any) -> None:
        """Read one chunk."""
        own = fields(chunk)
        self.take(own, own.get("response"), {"thinking": own.get("thinking")})

    def answer(self) -> Answer:
        """Read the answer as far as it has arrived."""
        return _answer(self.facts(), self.message())
