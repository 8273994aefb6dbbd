"""Facts about an answer's tokens as the provider reported them: usage, and log probabilities.

Providers differ in names and in ways of counting. Here, prompt tokens always include the cached ones, as OpenAI counts;
a gateway that passes on Anthropic's counts does not include them. Log probabilities are summed up, since with their
alternatives they take thirty times the space of the text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from converra.integrations.payload.extras import kept
from converra.integrations.payload.fields import copied, fields, items, number
from converra.wire.models import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from converra.history.turn import Counts

_DETAILS = {
    "prompt_tokens_details": "prompt",
    "input_tokens_details": "prompt",
    "completion_tokens_details": "completion",
    "output_tokens_details": "completion",
}

_NAMES = {
    "cached_tokens": "cachedTokens",
    "cache_write_tokens": "cacheWriteTokens",
    "reasoning_tokens": "reasoningTokens",
}
_READ = ("prompt_cache_hit_tokens", "cache_read_input_tokens", "cached_tokens", "num_cached_tokens")
"""Fields of cached tokens beside the details: DeepSeek, Anthropic and others."""

_WRITTEN = ("cache_creation_input_tokens", "cache_write_input_tokens")
_MISSED = "prompt_cache_miss_tokens"
_PROMPT = ("prompt_tokens", "input_tokens")
_COMPLETION = ("completion_tokens", "output_tokens")
_PLAIN = frozenset({*_DETAILS, *_PROMPT, *_COMPLETION, "total_tokens"})
"""Fields of OpenAI's own usage: nothing stands beside the details."""
_COUNTED = frozenset({*_PLAIN, *_READ, *_WRITTEN, _MISSED, "reasoning_tokens"})


def snapshot(
    reported: Any, prompt: str = "prompt_tokens_details", completion: str = "completion_tokens_details"
) -> Any:
    """Copy the counts as they are now, to be read later: an app may change the object that it was given.

    Nearly all are objects of the SDK, with details in two fields; this is on the caller's thread.
    """
    try:
        held = reported.__dict__.copy()
        extra = reported.__pydantic_extra__
        if (part := held[prompt]) is not None:
            held[prompt] = part.__dict__.copy()
            extra = extra or part.__pydantic_extra__
        if (part := held[completion]) is not None:
            held[completion] = part.__dict__.copy()
            extra = extra or part.__pydantic_extra__
    except (AttributeError, KeyError, TypeError):  # none, a dict, or an odd shape
        return any_snapshot(reported)
    return any_snapshot(reported) if extra else held


def any_snapshot(reported: Any) -> dict[str, Any] | None:
    """Copy counts of any shape, and their details; None if there are none."""
    if reported.__class__ is dict and None not in reported.values():
        try:
            return msgspec.to_builtins(reported) or None  # in C
        except (TypeError, RecursionError):  # an object is among them
            pass
    return copied(fields(reported)) or None


def counts(reported: Any) -> Counts:
    """Return `usage` and `usage_details`; most report one number of each kind, and no details or zeros."""
    found = _plain_usage(reported)
    return (usage(reported), usage_details(reported)) if found is None else (found, None)


def _plain_usage(reported: Any) -> Usage | None:
    """Read counts without details, at a fifth of the price; None for any others."""
    if reported.__class__ is not dict or not reported.keys() <= _PLAIN:
        return None
    for name in _DETAILS:
        part = reported.get(name)
        if part is not None and (part.__class__ is not dict or any(part.values())):
            return None
    own, other = _PROMPT
    prompt = reported[own] if own in reported else reported.get(other)
    own, other = _COMPLETION
    completion = reported[own] if own in reported else reported.get(other)
    if prompt.__class__ is completion.__class__ is int and prompt >= 0 and completion >= 0:
        return Usage(prompt, completion)
    return None


def usage(reported: Any) -> Usage | None:
    """Return prompt and completion tokens, or None if the provider reported neither."""
    if reported is None:
        return None
    own = fields(reported)
    prompt, completion = _first(own, _PROMPT), _first(own, _COMPLETION)
    prompt = _with_cached(own, prompt, completion or 0)
    return None if prompt is None and completion is None else Usage(prompt, completion)


def _with_cached(own: dict[str, Any], prompt: int | None, completion: int) -> int | None:
    """Add the tokens read from or written to a cache, if they are counted beside the prompt's."""
    hit, missed = number(own.get("prompt_cache_hit_tokens")), number(own.get(_MISSED))
    if hit is not None and missed is not None:
        return max(prompt or 0, hit + missed)
    cached = (_cached(own) or 0) + (_first(own, _WRITTEN) or 0)
    if prompt is None or not cached:
        return prompt
    total = number(own.get("total_tokens"))
    if total is None and "prompt_tokens" not in own and "cache_read_input_tokens" in own:
        return prompt + cached  # Anthropic's own counts
    return prompt + cached if cached > prompt or total == prompt + completion + cached else prompt


def _cached(own: dict[str, Any]) -> int | None:
    """Return the tokens that were read from a cache, under any of their names."""
    for key in ("prompt_tokens_details", "input_tokens_details"):
        part = own.get(key)
        if part is not None and (count := number(fields(part).get("cached_tokens"))):
            return count
    return _first(own, _READ)


def _first(own: dict[str, Any], names: Iterable[str]) -> int | None:
    for name in names:  # a worker does this for every answer: a generator costs three times as much
        count = own.get(name)
        if type(count) is int and count >= 0:
            return count
    return None


def usage_details(reported: Any) -> dict[str, Any] | None:
    """Return details such as `cachedTokens` and `reasoningTokens`; counts of zero are left out.

    Other facts that a provider reports with them, such as a price, keep their names.
    """
    if reported is None:
        return None
    own = fields(reported)
    details = dict(_details(own))
    if own.keys() - _PLAIN:
        for name, value in _beside(own):
            details.setdefault(name, value)
    return details or None


def _details(own: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, side in _DETAILS.items():
        part = own.get(key)
        if part is not None:
            for name, value in fields(part).items():
                if number(value):
                    yield _NAMES.get(name) or side + _camel(name), value


def _beside(own: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    named = (("cachedTokens", _READ), ("cacheWriteTokens", _WRITTEN), ("reasoningTokens", ("reasoning_tokens",)))
    for name, keys in named:
        count = _first(own, keys)
        if count:
            yield name, count
    for name, value in own.items():
        if name not in _COUNTED and value:
            yield name, kept(value)


def _camel(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


def token_logprobs(choice_logprobs: Any) -> list[float]:
    """Return the numbers in a chat choice's `logprobs`, of its text and refusal; of one chunk or of all."""
    own = fields(choice_logprobs)
    return _numbers([*items(own.get("content")), *items(own.get("refusal"))])


def logprobs(tokens: Sequence[Any]) -> dict[str, Any] | None:
    """`metadata.logprobs` of tokens that have a `logprob` each, if any were asked for."""
    return logprobs_summary(_numbers(tokens)) if tokens else None


def logprobs_summary(numbers: Sequence[float]) -> dict[str, Any] | None:
    """Return the number of tokens, their mean log probability, and the lowest."""
    if not numbers:
        return None
    return {"tokens": len(numbers), "mean": round(sum(numbers) / len(numbers), 4), "lowest": round(min(numbers), 4)}


def _numbers(tokens: Iterable[Any]) -> list[float]:
    found = (fields(token).get("logprob") for token in tokens)
    return [number for number in found if isinstance(number, int | float) and not isinstance(number, bool)]
