"""Headers of an answer that describe the rate limit.

=============================================  =====================================================
`X-RateLimit-Remaining`, `X-RateLimit-Reset`   what many services send
`RateLimit-Remaining`, `RateLimit-Reset`       drafts 1 to 7 of the IETF's RateLimit header fields
`RateLimit: limit=60, remaining=0, reset=30`   the same in one field
`RateLimit: "default";r=0;t=30`                later drafts
=============================================  =====================================================

A reset is a number of seconds from now, or the second of the epoch at which it comes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_LEFT = re.compile(r"\b(?:remaining|r)=(\d{1,9})\b")
_LIMIT = re.compile(r"\b(?:limit|q)=(\d{1,9})\b")
_RESET = re.compile(r"\b(?:reset|t)=(\d{1,9})\b")
_WINDOW = re.compile(r"\bw=(\d{1,9})\b")
_NUMBER = re.compile(r"\d{1,13}(\.\d{1,9})?")
_EPOCH = 1_000_000_000
"""From this many seconds on a reset is a date."""


def resets_in(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds until requests are allowed again; None if the headers do not tell. `now` is seconds since the epoch."""
    seconds = _said(headers, "reset", _RESET)
    if seconds is None:
        return None
    return max(0.0, seconds - now if seconds >= _EPOCH else seconds)


def left(headers: Mapping[str, str]) -> int | None:
    """Return the number of requests that are still allowed until the reset; None if the headers do not tell."""
    count = _said(headers, "remaining", _LEFT)
    return None if count is None else int(count)


def limit(headers: Mapping[str, str]) -> int | None:
    """Return the number of requests that are allowed in a window; None if the headers do not tell, or it is no minute.

    Only the form with `w=60` and the plain numbers, whose window is a minute with this API, are read.
    """
    window = _WINDOW.search(headers.get("ratelimit-policy", headers.get("ratelimit", "")))
    if window is not None and window[1] != "60":
        return None
    count = _said(headers, "limit", _LIMIT)
    return None if count is None else int(count)


def _said(headers: Mapping[str, str], what: str, in_one: re.Pattern[str]) -> float | None:
    for name in (f"ratelimit-{what}", f"x-ratelimit-{what}"):
        value = headers.get(name, "").strip()
        if _NUMBER.fullmatch(value):
            return float(value)
    found = in_one.search(headers.get("ratelimit", ""))
    return float(found[1]) if found else None
