"""Measurement of cost: blocks of every case in turn, so that the load of the machine affects all cases alike.

One round is one block per case, in shuffled order; a block is long enough for the clock (tens of milliseconds). What
counts is the median over the rounds, and the difference to the plain case: absolute numbers grow with the load of the
machine, ratios within one run hold. Garbage collection stays on. A second, identical plain case shows the noise.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from random import Random
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

ROUNDS = 40
BLOCK_SECONDS = 0.02


Scope = Callable[[], AbstractContextManager[object]]
"""Context of each conversation: none, or a recorded one."""


def long_history() -> list[Any]:
    """Return 60 messages of 500 characters in turn, as most chat APIs take them."""
    roles = ("user", "assistant")
    return [{"role": roles[n % 2], "content": f"{n:03} " + "x" * 496} for n in range(60)]


class Shape(NamedTuple):
    """One way to call a model: `talk` runs one conversation or several, each inside a scope.

    `calls` is how many model calls one `talk()` makes; costs are per model call.
    """

    name: str
    talk: Callable[[Scope], object]
    calls: int


class Case(NamedTuple):
    """Shape to measure, with a scope, in the environment that `around` sets up for each block.

    `settle` is what has to follow a block for its work to be done (a flush): it counts for the process, not the caller.
    """

    name: str
    shape: Shape
    scope: Scope = nullcontext
    around: Scope = nullcontext
    settle: Callable[[], object] = lambda: None


class Cost(NamedTuple):
    """Microseconds of CPU per call: of the calling thread, and of the whole process with the settling."""

    caller: float
    process: float

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.caller - other.caller, self.process - other.process)


def measure(cases: Sequence[Case], *, rounds: int = ROUNDS, block_seconds: float = BLOCK_SECONDS) -> dict[str, Cost]:
    """Return the median cost of each case, by name."""
    order = list(cases)
    shuffle = Random(1).shuffle  # noqa: S311 - an order, not a secret
    talks = {case.name: _talks_per_block(case, block_seconds) for case in cases}
    blocks: dict[str, list[Cost]] = {case.name: [] for case in cases}
    for _ in range(rounds):
        shuffle(order)
        for case in order:
            blocks[case.name].append(_block(case, talks[case.name]))
    return {name: Cost(*map(median, zip(*costs, strict=True))) for name, costs in blocks.items()}


def _talks_per_block(case: Case, seconds: float) -> int:
    count = 1
    with case.around():
        _talk(case, 1)  # the first warms caches up
        while (taken := _talk(case, count)) < seconds / 4:
            count *= 2
        case.settle()
    return max(1, round(count * seconds / taken))


def _talk(case: Case, count: int) -> float:
    talk, scope = case.shape.talk, case.scope
    began = time.perf_counter()
    for _ in range(count):
        talk(scope)
    return time.perf_counter() - began


def _block(case: Case, count: int) -> Cost:
    with case.around():
        _talk(case, 1)
        case.settle()
        process_began, caller_began = time.process_time_ns(), time.thread_time_ns()
        _talk(case, count)
        caller = time.thread_time_ns() - caller_began
        case.settle()
        process = time.process_time_ns() - process_began
    calls = count * case.shape.calls
    return Cost(caller / calls / 1000, process / calls / 1000)
