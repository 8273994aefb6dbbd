"""Rules of retrying: which requests are safe to repeat, and when.

A request may be sent again when nothing of it can have been stored, or when storing it twice changes nothing: reads,
and a create, whose idempotency key makes the second one return the first. An append has no key, so the table:

=================================  ================  ===========  ======
outcome                            stored?           read/create  append
=================================  ================  ===========  ======
no connection (refused, no host)   no                again        again
408 request timeout                no [1]_           again        again
425 too early                      no                again        again
429 too many requests              no                again        again
connection lost, no answer in time unknown           again        raise
5xx                                unknown           again        raise
2xx that cannot be read            yes, or unknown   again        raise
any other status                   no                raise        raise
=================================  ================  ===========  ======

.. [1] By RFC 9110 a 408 says that the server did not get the whole request, so it cannot have acted on it.

After "raise" for an append, the caller should read the conversation back before sending it again.
"""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeVar, cast

from converra.api import rate
from converra.errors import APIConnectionError, APIStatusError, ConverraError, UnreadableResponseError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from converra.api.operations import Operation

T = TypeVar("T")

FIRST_DELAY = 0.5
"""Longest wait before the first retry, in seconds; it doubles with each."""

MAX_DELAY = 8.0
"""Longest wait that we choose, in seconds."""

MAX_RETRY_AFTER = 60.0
"""Longest wait that a server may ask for, in seconds."""

_NOTHING_STORED = frozenset({408, 425, 429})
_TOO_MANY = 429
_SERVER_ERROR = 500
_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")


def exchange(
    operation: Operation[T], *, max_retries: int, jitter: Callable[[], float], now: Callable[[], float]
) -> Generator[Operation[T] | float, T | ConverraError | None, T]:
    """Yield the operation to have it sent, or seconds to have them pass; return the answer.

    What drives it sends back the answer or the error. `jitter` gives numbers from 0 to 1, `now` seconds since the
    epoch.
    """
    attempt = 0
    while True:
        attempt += 1
        outcome = yield operation
        if not isinstance(outcome, ConverraError):
            return cast("T", outcome)
        delay = after(attempt, outcome, idempotent=operation.idempotent, jitter=jitter(), now=now())
        if delay is None or attempt > max_retries:
            raise outcome
        yield delay


def nothing_stored(error: ConverraError) -> bool:
    """Return True if an outcome says that the request had no effect."""
    if isinstance(error, APIConnectionError):
        return not error.sent
    if isinstance(error, APIStatusError):
        return not _ambiguous(error)
    return True


def transient(error: ConverraError) -> bool:
    """Return True if the same request may succeed later."""
    if isinstance(error, APIStatusError):
        return error.status_code in _NOTHING_STORED or _ambiguous(error)
    return isinstance(error, APIConnectionError)


def _ambiguous(error: APIStatusError) -> bool:
    return error.status_code >= _SERVER_ERROR or isinstance(error, UnreadableResponseError)


def after(attempt: int, error: ConverraError, *, idempotent: bool, jitter: float, now: float) -> float | None:
    """Return the seconds to wait before a retry; None if the request must not be sent again.

    `attempt` counts from 1, `jitter` is a random number from 0 to 1, `now` is seconds since the epoch. `Retry-After`
    is honoured up to MAX_RETRY_AFTER; without one the wait is anything up to a doubling bound ("full jitter").
    """
    if not transient(error) or not (idempotent or nothing_stored(error)):
        return None
    asked = retry_after(error, now)
    return backoff(attempt, jitter) if asked is None else asked


def backoff(attempt: int, jitter: float) -> float:
    """Compute a capped exponential backoff with full jitter, in seconds."""
    return jitter * min(MAX_DELAY, FIRST_DELAY * 2.0 ** min(attempt - 1, 16))


def retry_after(error: ConverraError, now: float) -> float | None:
    """Return the wait that the server asked for, in seconds, capped; None if it asked for none that can be read.

    By `Retry-After`, or else, where there were too many requests, by what it says about their limit.
    """
    if not isinstance(error, APIStatusError):
        return None
    value = error.headers.get("retry-after", "").strip()
    seconds = float(value) if _SECONDS.fullmatch(value) else _until(value, now)
    if seconds is None and error.status_code == _TOO_MANY:
        seconds = rate.resets_in(error.headers, now)
    return None if seconds is None else min(max(seconds, 0.0), MAX_RETRY_AFTER)


def _until(date: str, now: float) -> float | None:
    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now
