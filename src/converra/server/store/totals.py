"""Totals of a conversation's messages, stored beside it so that a list need not read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MOST = 2**53


class Totals(NamedTuple):
    """Tokens as they were reported, latency of the model's calls, and how much went wrong."""

    messages: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    latency_ms: float | None = None
    calls: int = 0
    errors: int = 0
    models: tuple[str, ...] = ()


def total(messages: Sequence[Mapping[str, Any]]) -> Totals:
    """The sum over some messages."""
    usages = [mapping(message.get("usage")) for message in messages]
    waits = [message["latencyMs"] for message in messages if "latencyMs" in message and not answered(message)]
    return Totals(
        messages=len(messages),
        tokens_in=round(bounded(sum(usage.get("promptTokens", 0) for usage in usages))),
        tokens_out=round(bounded(sum(map(_received, messages, usages)))),
        latency_ms=bounded(sum(waits)) if waits else None,
        calls=sum("arguments" in call for message in messages for call in calls(message)),
        errors=sum(map(failed, messages)),
        models=tuple(dict.fromkeys(message["model"] for message in messages if "model" in message)),
    )


def together(one: Totals, other: Totals) -> Totals:
    """The sum of two: what an append makes of a conversation."""
    waits = [each.latency_ms for each in (one, other) if each.latency_ms is not None]
    return Totals(
        messages=one.messages + other.messages,
        tokens_in=round(bounded(one.tokens_in + other.tokens_in)),
        tokens_out=round(bounded(one.tokens_out + other.tokens_out)),
        latency_ms=bounded(sum(waits)) if waits else None,
        calls=one.calls + other.calls,
        errors=one.errors + other.errors,
        models=tuple(dict.fromkeys((*one.models, *other.models))),
    )


def calls(message: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The tool calls that a message names, made or answered."""
    found: Sequence[Mapping[str, Any]] = message.get("toolCalls", ())
    return found


def answered(message: Mapping[str, Any]) -> str | None:
    """The id of the call that a tool result answers."""
    named = calls(message)
    if message["role"] != "tool" or len(named) != 1 or "arguments" in named[0]:
        return None
    return str(named[0].get("id")) if "id" in named[0] else None


def failed(message: Mapping[str, Any]) -> bool:
    """Return True if a turn ended in an error or a tool returned one."""
    metadata = mapping(message.get("metadata"))
    return bool(metadata.get("error")) or metadata.get("status") == "error"


def bounded(number: float) -> float:
    """A number that somebody sent, as far as a sum can hold it: JSON knows 1e999 and minus one token."""
    return min(max(number, 0), _MOST)


def _received(message: Mapping[str, Any], usage: Mapping[str, Any]) -> float:
    """Completion tokens, from whichever field has them."""
    count: float = usage.get("completionTokens", message.get("tokens", 0))
    return count


def mapping(value: Any) -> Mapping[str, Any]:
    """An object of the JSON, or an empty one where something else stands."""
    return value if isinstance(value, dict) else {}
