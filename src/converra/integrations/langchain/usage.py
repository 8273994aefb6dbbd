"""Token usage as LangChain reports it: normalised on the message, or as the provider's own beside it.

`usage_metadata` counts cached tokens among the input tokens for every provider, so nothing is added or taken here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.integrations.payload import usage as openai_usage
from converra.integrations.payload.fields import fields, number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converra.wire.models import Usage

_NAMES = {("input", "cache_read"): "cachedTokens", ("output", "reasoning"): "reasoningTokens"}
_SIDES = {"input": "prompt", "output": "completion"}


def usage(message: dict[str, Any], reported: Any) -> tuple[Usage | None, dict[str, Any] | None]:
    """The usage and its details: those of the message, else those that stand in the result's `reported`."""
    own, provider = fields(message.get("usage_metadata")), fields(reported)
    counts = next((found for key in ("token_usage", "usage") if (found := fields(provider.get(key)))), {})
    details = openai_usage.usage_details(counts) or {}
    if own:
        return openai_usage.usage(own), {**details, **dict(_details(own))} or None
    return openai_usage.usage(counts), details or None


def from_cache(message: dict[str, Any]) -> bool:
    """Whether LangChain's own cache gave the answer: the tokens that it repeats were counted before."""
    return fields(message.get("usage_metadata")).get("total_cost") == 0


def _details(own: dict[str, Any]) -> Iterator[tuple[str, int]]:
    for side, name in _SIDES.items():
        for key, value in fields(own.get(f"{side}_token_details")).items():
            count = number(value)
            if count:
                yield _NAMES.get((side, key)) or name + _camel(key), count


def _camel(name: str) -> str:
    words = "".join(word.capitalize() for word in name.split("_"))
    return words if words.endswith("Tokens") else f"{words}Tokens"
