"""What headers say about the limit on requests: the table of `converra.api.rate`."""

from __future__ import annotations

import pytest

from converra.api import rate, retry
from converra.errors import RateLimitError, error_class

NOW = 1_700_000_000.0

SAID: dict[str, tuple[dict[str, str], float | None, int | None]] = {
    "nothing": ({}, None, None),
    "some are left": ({"x-ratelimit-remaining": "3", "x-ratelimit-reset": "20"}, 20, 3),
    "none is left": ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "20"}, 20, 0),
    "without the x": ({"ratelimit-remaining": "0", "ratelimit-reset": " 7 "}, 7, 0),
    "a date": ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1700000012"}, 12, 0),
    "a date that is over": ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1600000000"}, 0, 0),
    "in one field": ({"ratelimit": "limit=60, remaining=0, reset=30"}, 30, 0),
    "in one field, later": ({"ratelimit": '"default";r=59;t=31'}, 31, 59),
    "no reset": ({"x-ratelimit-remaining": "0"}, None, 0),
    "no numbers": ({"x-ratelimit-remaining": "none", "x-ratelimit-reset": "6m0s", "ratelimit": "soon"}, None, None),
}


@pytest.mark.parametrize(("headers", "resets", "left"), SAID.values(), ids=SAID)
def test_what_headers_say(headers: dict[str, str], resets: float | None, left: int | None) -> None:
    """When the limit is renewed, and how many requests are allowed until then; odd values say nothing."""
    assert (rate.resets_in(headers, NOW), rate.left(headers)) == (resets, left)


def test_a_refused_request_waits_as_the_limit_says() -> None:
    """Where there is no Retry-After; it wins where there is one, and both are capped."""

    def wait(status: int, headers: dict[str, str]) -> float | None:
        return retry.retry_after(error_class(status)("no", status_code=status, headers=headers), NOW)

    assert wait(429, {"x-ratelimit-reset": "20"}) == 20
    assert wait(429, {"x-ratelimit-reset": "20", "retry-after": "5"}) == 5
    assert wait(429, {"x-ratelimit-reset": "9000"}) == retry.MAX_RETRY_AFTER
    assert wait(503, {"x-ratelimit-reset": "20"}) is None
    assert error_class(429) is RateLimitError
