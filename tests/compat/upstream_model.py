"""The server that tests of openai, anthropic and google-genai ask: documents for chats, responses and messages."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

from tests.integrations import anthropic_scripts, gemini_scripts, scripted
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


def _model(path: str, *, streamed: bool) -> Reply | None:
    """The answer to a POST; None where no model answers."""
    if path.endswith("/chat/completions"):
        return scripted.stream(*TEXT_CHUNKS) if streamed else scripted.document(CHAT)
    if path.endswith("/completions"):
        return scripted.stream(LEGACY) if streamed else scripted.document(LEGACY)
    if path.endswith("/messages"):
        return scripted.stream(*MESSAGE_EVENTS, named=True) if streamed else scripted.document(MESSAGE)
    return None


def answer(request: Received) -> Reply:
    """A chat, a completion, a response, a message or a content, streamed if it was asked for."""
    path, post = request.line.split()[1].partition("?")[0], request.line.startswith("POST")
    streamed = bool(json.loads(request.body or b"{}").get("stream"))
    if post and (reply := _model(path, streamed=streamed)) is not None:
        return reply
    if path.endswith("/responses") or "/responses/" in path:
        return scripted.stream(*TEXT_EVENTS, named=True) if streamed else scripted.document(RESPONSE)
    if post and path.endswith("/interactions"):
        return gemini_scripts.SCRIPTS["events" if streamed else "interaction"](request)
    if path.endswith(("enerateContent", ":countTokens")):
        return gemini_scripts.SCRIPTS["stand-in"](request)
    return scripted.document({"error": {"message": "not here"}}, 404)


@contextlib.contextmanager
def serve() -> Iterator[str]:
    """The address of such a server."""
    with scripted.serve({"upstream": answer}) as model:
        yield model.base_url("upstream")
