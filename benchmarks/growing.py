"""Cost of call n of a chat that resends its whole history: it should not grow with the chat for the caller.

Whole chats are talked, plain, in a block, and found by their history, in shuffled order. The CPU time of the calling
thread is taken for each call; the median is over the calls around a length, in all chats.
"""

from __future__ import annotations

import time
from contextlib import contextmanager, nullcontext
from random import Random
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import converra
from benchmarks.capture import conversation, flush
from benchmarks.capture_openai import MODEL, SYSTEM, client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.interleaved import Scope

LENGTHS = (10, 50, 100, 200, 400)
CHATS = 12
AROUND = 8
"""Calls before and after each length that count for it."""


class Row(NamedTuple):
    """Microseconds of the caller's CPU for a call that resends a number of messages, and the part that capture adds."""

    resent: int
    plain: float
    in_block: float
    by_history: float


def measure(lengths: tuple[int, ...] = LENGTHS, chats: int = CHATS) -> list[Row]:
    """Measure one row for each length."""
    calls = max(lengths) // 2 + AROUND
    ways = {"plain": _plain, "block": _in_block, "history": _by_history}
    taken: dict[str, list[list[int]]] = {way: [] for way in ways}
    order = [way for way in ways for _ in range(chats)]
    Random(1).shuffle(order)  # noqa: S311 - an order, not a secret
    for way in order:
        taken[way].append(ways[way](calls))
    costs = {way: [_cost(of, length) for length in lengths] for way, of in taken.items()}
    return [
        Row(length, plain, block - plain, history - plain)
        for length, plain, block, history in zip(lengths, *costs.values(), strict=True)
    ]


def _cost(chats: list[list[int]], resent: int) -> float:
    middle = resent // 2
    return median(cost for chat in chats for cost in chat[max(0, middle - AROUND) : middle + AROUND]) / 1000


def _plain(calls: int) -> list[int]:
    return _chat(calls, nullcontext)


def _in_block(calls: int) -> list[int]:
    with _captured(None):
        return _chat(calls, conversation)


def _by_history(calls: int) -> list[int]:
    with _captured("prompt_benchmark"):
        return _chat(calls, nullcontext)


@contextmanager
def _captured(prompt_id: str | None) -> Iterator[None]:
    converra.instrument(prompt_id=prompt_id)
    _chat(1, nullcontext if prompt_id else conversation)  # the first call starts the sending
    flush()
    try:
        yield
    finally:
        flush()
        converra.uninstrument()


def _chat(calls: int, scope: Scope) -> list[int]:
    """Run one chat; return the nanoseconds of each call."""
    history: list[Any] = [SYSTEM]
    taken = []
    with scope():
        for number in range(calls):
            history.append({"role": "user", "content": f"Question {number}? {'x' * 200}"})
            began = time.thread_time_ns()
            client.chat.completions.create(model=MODEL, messages=history)
            taken.append(time.thread_time_ns() - began)
            history.append({"role": "assistant", "content": "It arrives on Thursday."})
    return taken
