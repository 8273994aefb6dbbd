"""Token usage as the provider reported it, of both APIs: their names differ, their meaning does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.conversation.models import Usage
from converra.integrations.openai_fields import fields, number

if TYPE_CHECKING:
    from collections.abc import Iterator

_DETAILS = (
    ("prompt_tokens_details", "prompt"),
    ("input_tokens_details", "prompt"),
    ("completion_tokens_details", "completion"),
    ("output_tokens_details", "completion"),
)
_NAMES = {"cached_tokens": "cachedTokens", "reasoning_tokens": "reasoningTokens"}


def usage(reported: Any) -> Usage | None:
    """Prompt and completion tokens, or None when the provider reported neither."""
    own = fields(reported)
    prompt = _first(own, "prompt_tokens", "input_tokens")
    completion = _first(own, "completion_tokens", "output_tokens")
    return None if prompt is None and completion is None else Usage(prompt, completion)


def usage_details(reported: Any) -> dict[str, Any] | None:
    """What the tokens were, such as `cachedTokens` and `reasoningTokens`; counts of zero are left out."""
    return dict(_details(fields(reported))) or None


def _first(own: dict[str, Any], *names: str) -> int | None:
    return next((count for name in names if (count := number(own.get(name))) is not None), None)


def _details(own: dict[str, Any]) -> Iterator[tuple[str, int]]:
    for key, side in _DETAILS:
        for name, value in fields(own.get(key)).items():
            count = number(value)
            if count:
                yield _NAMES.get(name) or side + _camel(name), count


def _camel(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))
