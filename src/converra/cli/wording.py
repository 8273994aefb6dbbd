"""Words for what a conversation holds."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from converra.server.viewer import figures

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
    if message.model:
        yield message.model
    if message.usage:
        yield tokens(message.usage.prompt_tokens or 0, message.usage.completion_tokens or 0)
    if latency := _duration(message.latency_ms):
        first = _duration(metadata.get("timeToFirstTokenMs"))
        yield f"{latency}, first token after {first}" if first else latency
    if metadata.get("partial"):
        yield "cut short"
    if error := metadata.get("error"):
        yield f"failed: {_failure(error)}"


def _failure(error: Any) -> str:
    if not isinstance(error, dict):
        return str(error)
    status = error.get("status")
    return f"{error.get('type')}{f' ({status})' if status is not None else ''}"


def tokens(sent: int, received: int) -> str:
    """Token usage, with thousands separated."""
    return f"{sent:,} tokens in, {received:,} out"


def _duration(ms: Any) -> str | None:
    """A duration, if it is one: metadata holds whatever an app has sent."""
    known = isinstance(ms, int | float) and not isinstance(ms, bool) and math.isfinite(ms)
    return figures.duration(ms) if known else None


def plural(count: int, noun: str) -> str:
    """A count with its noun: `1 turn`, `2 turns`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
