"""The facts of a call on a span: model, token usage, finish reason, error. Pure.

Conventions have renamed most of these. Each fact is read under all of its names, the newest first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.history.turn import Answer, Failure
from converra.integrations.payload import usage as payload
from converra.integrations.payload.fields import items, number, string
from converra.spans.messages import FINISHED, own, structured
from converra.wire.json_safe import identifier
from converra.wire.models import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from converra.spans.span import Span

FIRST_TOKEN = (
    "gen_ai.response.time_to_first_chunk",
    "gen_ai.client.operation.time_to_first_chunk",  # Vercel AI SDK 7
    "gen_ai.server.time_to_first_token",
)
PROMPT = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.usage.prompt_tokens")
COMPLETION = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.usage.completion_tokens")
DETAILS = {
    "cachedTokens": (
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_read_input_tokens",
        "gen_ai.usage.details.cache_read_tokens",
    ),
    "cacheWriteTokens": (
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
        "gen_ai.usage.details.cache_write_tokens",
    ),
    "reasoningTokens": (
        "gen_ai.usage.reasoning.output_tokens",
        "gen_ai.usage.reasoning_tokens",
        "gen_ai.usage.details.reasoning_tokens",
    ),
}
"""Details of the token usage, under the names that our own capture gives them."""


def answer_facts(attributes: Mapping[str, Any]) -> Answer:
    """Read the facts of an answer that `gen_ai.*` attributes tell; its messages are still to be set."""
    prompt, completion = count(attributes, *PROMPT), count(attributes, *COMPLETION)
    reasons = items(structured(attributes.get("gen_ai.response.finish_reasons")))
    details = {name: found for name, keys in DETAILS.items() if (found := count(attributes, *keys))}
    reported = own(structured(attributes.get("gen_ai.usage.raw")))  # Logfire: as the provider sent it
    return Answer(
        model=string(attributes.get("gen_ai.response.model")),
        usage=usage(prompt, completion) or payload.usage(reported or None),
        usage_details={**(payload.usage_details(reported or None) or {}), **details} or None,
        finish_reason=finish_reason(reasons[0] if reasons else attributes.get("anthropic.message.stop_reason")),
        response_id=identifier(attributes.get("gen_ai.response.id")),
    )


def usage(prompt: int | None, completion: int | None) -> Usage | None:
    """Return the token usage; None if neither count is known."""
    return None if prompt is None and completion is None else Usage(prompt, completion)


def count(attributes: Mapping[str, Any], *keys: str) -> int | None:
    """Return the first of these attributes that is a count; emitters in JavaScript send whole numbers as floats."""
    for key in keys:
        value = attributes.get(key)
        value = int(value) if isinstance(value, float) and value.is_integer() else value
        if (found := number(value)) is not None:
            return found
    return None


def first_token_ms(attributes: Mapping[str, Any]) -> float | None:
    """Return the milliseconds until the first part of the answer, which conventions give in seconds."""
    value: Any = next((attributes[name] for name in FIRST_TOKEN if name in attributes), None)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value * 1000 if is_number and value >= 0 else None


def finish_reason(value: Any) -> str | None:
    """Return a finish reason under the name that providers give to it."""
    reason = string(value)
    return FINISHED.get(reason, reason) if reason else None


def failure(span: Span) -> Failure | None:
    """Return the error of a span that failed: its type and HTTP status, never its words."""
    kind = string(span.attributes.get("error.type"))
    if not span.failed and not kind:
        return None
    raised = (event.attributes.get("exception.type") for event in span.events if event.name == "exception")
    kind = kind or next(filter(None, map(string, raised)), None) or "Error"
    status = count(span.attributes, "http.response.status_code", "http.status_code")
    if status is None and kind.isdigit():
        status = int(kind)
    return Failure(kind.rpartition(".")[2] or kind, status)
