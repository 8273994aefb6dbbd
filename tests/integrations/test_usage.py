"""Token counts: the quick way of reading the usual ones agrees with the way that reads any."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from converra.integrations.payload import usage
from converra.wire.models import Usage

NUMBERS: list[Any] = [0, 1, 7, 2**40, None, -1, True, 1.5, "7", [1], {}]
DETAILS: list[Any] = [
    None,
    {},
    {"cached_tokens": 0},
    {"cached_tokens": 3},
    {"audio_tokens": None},
    {"text": "x"},
    5,
    [],
]
NAMES = ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "total_tokens")
DETAIL_NAMES = ("prompt_tokens_details", "completion_tokens_details", "input_tokens_details", "output_tokens_details")
BESIDE: list[tuple[str, Any]] = [("cost", 0.1), ("cache_read_input_tokens", 4), ("reasoning_tokens", 2)]


def _reported(random: Random) -> dict[str, Any]:
    found = {name: random.choice(NUMBERS[:4] if random.random() < 0.8 else NUMBERS) for name in NAMES}
    found |= {name: random.choice(DETAILS) for name in DETAIL_NAMES}
    found |= dict(random.sample(BESIDE, random.choice([0, 0, 0, 1, 2])))
    return {name: found[name] for name in random.sample(list(found), random.randint(0, len(found)))}


def test_both_ways_agree() -> None:
    """Of thousands of odd reports, each is read as the slow way reads it, and many by the quick one."""
    random = Random(7)
    quick = 0
    for reported in (_reported(random) for _ in range(4_000)):
        assert usage.counts(reported) == (usage.usage(reported), usage.usage_details(reported)), reported
        quick += usage._plain_usage(reported) is not None
    assert quick > 100


@pytest.mark.parametrize("names", [("prompt_tokens", "completion_tokens"), ("input_tokens", "output_tokens")])
def test_zero_details_are_left_out(names: tuple[str, str]) -> None:
    """What OpenAI reports for most calls: two numbers, and details that are all zero."""
    prompt, completion = names
    details = {f"{prompt}_details": {"cached_tokens": 0}, f"{completion}_details": {"reasoning_tokens": 0}}
    assert usage.counts({prompt: 20, completion: 7, "total_tokens": 27, **details}) == (Usage(20, 7), None)


@pytest.mark.parametrize("reported", [None, "none", 7, [1], object()])
def test_no_counts(reported: Any) -> None:
    """Whatever holds no counts has none."""
    assert usage.counts(reported) == (None, None)
