"""Log probabilities of an answer's tokens, summed up: with their alternatives they are thirty times the text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.integrations.payload.fields import fields, items

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def token_logprobs(choice_logprobs: Any) -> list[float]:
    """The numbers of a chat choice's `logprobs`, of its text and of its refusal; of one chunk or of all."""
    own = fields(choice_logprobs)
    return _numbers([*items(own.get("content")), *items(own.get("refusal"))])


def logprobs(tokens: Sequence[Any]) -> dict[str, Any] | None:
    """`metadata.logprobs` of tokens that have a `logprob` each, if any were asked for."""
    return summary(_numbers(tokens)) if tokens else None


def summary(numbers: Sequence[float]) -> dict[str, Any] | None:
    """How many tokens, how probable they were in the mean, and the least probable of them."""
    if not numbers:
        return None
    return {"tokens": len(numbers), "mean": round(sum(numbers) / len(numbers), 4), "lowest": round(min(numbers), 4)}


def _numbers(tokens: Iterable[Any]) -> list[float]:
    found = (fields(token).get("logprob") for token in tokens)
    return [number for number in found if isinstance(number, int | float) and not isinstance(number, bool)]
