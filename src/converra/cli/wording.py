"""Words for what a conversation holds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converra.api.results import StoredMessage, StoredToolCall


def shown_call(call: StoredToolCall) -> str:
    """A tool call as one would write it."""
    arguments = call.arguments
    if isinstance(arguments, dict):
        shown = ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in arguments.items())
    else:
        shown = "" if arguments is None else str(arguments)
    return f"calls {call.name}({shown})"


def facts(message: StoredMessage) -> Iterator[str]:
    """Model, tokens and latency, as far as they are known."""
    metadata: dict[str, Any] = message.metadata or {}
    first = metadata.get("timeToFirstTokenMs")
    if message.model:
        yield message.model
    if message.usage:
        yield f"{message.usage.prompt_tokens} tokens in, {message.usage.completion_tokens} out"
    if message.latency_ms is not None:
        yield f"{message.latency_ms:.0f} ms" + (f", first token after {first:.0f} ms" if first is not None else "")
    if metadata.get("partial"):
        yield "cut short"
    if error := metadata.get("error"):
        yield f"failed: {error.get('type') if isinstance(error, dict) else error}"
