"""The server that generated tests of openai and anthropic ask: strict documents for chats, responses and messages."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

from tests.integrations import anthropic_scripts, scripted
from tests.integrations.chat_scripts import LEGACY, TEXT_CHUNKS, completion
from tests.integrations.responses_scripts import TEXT_EVENTS, message, response

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integrations.scripted import Received, Reply

MESSAGE = anthropic_scripts.message(anthropic_scripts.text("Hello there!"))
MESSAGE_EVENTS = anthropic_scripts.events(MESSAGE)

CHAT = completion({"content": "Hello there!", "refusal": None})
RESPONSE = response(message("Hello there!"))
RESPONSE["usage"] = {**RESPONSE["usage"], "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 0}}


def answer(request: Received) -> Reply:
    """A chat, a completion, a response or a message, streamed if it was asked for."""
    path = request.line.split()[1].partition("?")[0]
    body = json.loads(request.body or b"{}")
    if path.endswith("/chat/completions") and request.line.startswith("POST"):
        return scripted.stream(*TEXT_CHUNKS) if body.get("stream") else scripted.document(CHAT)
    if path.endswith("/completions") and request.line.startswith("POST"):
        return scripted.stream(LEGACY) if body.get("stream") else scripted.document(LEGACY)
    if path.endswith("/messages") and request.line.startswith("POST"):
        return scripted.stream(*MESSAGE_EVENTS, named=True) if body.get("stream") else scripted.document(MESSAGE)
    if path.endswith("/responses") or "/responses/" in path:
        return scripted.stream(*TEXT_EVENTS, named=True) if body.get("stream") else scripted.document(RESPONSE)
    return scripted.document({"error": {"message": "not here"}}, 404)


@contextlib.contextmanager
def serve() -> Iterator[str]:
    """The address of such a server."""
    with scripted.serve({"upstream": answer}) as model:
        yield model.base_url("upstream")
