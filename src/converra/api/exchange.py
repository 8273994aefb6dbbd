"""An operation with its retries, written once: a generator that says what to do next and is told what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

from converra.api import retry
from converra.errors import ConverraError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from converra.api.operations import Operation

T = TypeVar("T")


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
        delay = retry.after(attempt, outcome, idempotent=operation.idempotent, jitter=jitter(), now=now())
        if delay is None or attempt > max_retries:
            raise outcome
        yield delay
