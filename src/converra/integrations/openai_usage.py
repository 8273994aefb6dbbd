"""Token usage as the provider reported it, of both APIs: their names differ, their meaning does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.conversation.models import Usage
from converra.integrations.openai_fields import fields, number

if TYPE_CHECKING:
    from converra.conversation.turn import Counts

_DETAILS = (
    ("prompt_tokens_details", "prompt"),
    ("input_tokens_details", "prompt"),
    ("completion_tokens_details", "completion"),
    ("output_tokens_details", "completion"),
)
_NAMES = {"cached_tokens": "cachedTokens", "reasoning_tokens": "reasoningTokens"}


def counts(reported: Any) -> Counts:
    """What was counted, and what of: see below."""
    return usage(reported), usage_details(reported)


def usage(reported: Any) -> Usage | None:
    """Prompt and completion tokens, or None when the provider reported neither."""
    if reported is None:
        return None
    own = fields(reported)
    prompt = number(own["prompt_tokens"] if "prompt_tokens" in own else own.get("input_tokens"))
    completion = number(own["completion_tokens"] if "completion_tokens" in own else own.get("output_tokens"))
    return None if prompt is None and completion is None else Usage(prompt, completion)


def usage_details(reported: Any) -> dict[str, Any] | None:
    """What the tokens were, such as `cachedTokens` and `reasoningTokens`; counts of zero are left out."""
    if reported is None:
        return None
    own, details = fields(reported), {}
    for key, side in _DETAILS:
        part = own.get(key)
        if part is not None:
            for name, value in fields(part).items():
                if number(value):
                    details[_NAMES.get(name) or side + _camel(name)] = value
    return details or None


def _camel(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))
