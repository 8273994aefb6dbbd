"""What a captured call costs: each shape captured, plain, and plain again as the control."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import converra
from benchmarks.interleaved import Case, Cost, Shape, measure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

PLAIN, AGAIN, CAPTURED = "plain", "plain again", "captured"


class Overhead(NamedTuple):
    """A shape's plain cost, what the control adds to it (the noise), and what capture adds."""

    plain: Cost
    noise: Cost
    capture: Cost


def overheads(shapes: Sequence[Shape]) -> Iterator[tuple[str, Overhead]]:
    """Measure the shapes one after the other, so that each can be printed when it is done."""
    for shape in shapes:
        costs = measure(
            [Case(PLAIN, shape), Case(AGAIN, shape), Case(CAPTURED, shape, conversation, instrumented, flush)]
        )
        yield shape.name, Overhead(costs[PLAIN], costs[AGAIN] - costs[PLAIN], costs[CAPTURED] - costs[PLAIN])


@contextmanager
def instrumented() -> Iterator[None]:
    """Patched for a block, and put back after it."""
    converra.instrument()
    try:
        yield
    finally:
        converra.uninstrument()


def conversation() -> AbstractContextManager[object]:
    """Each conversation of a shape is one of ours."""
    return converra.conversation("prompt_benchmark")


def flush() -> None:
    """What the background has still to do belongs to the block that caused it."""
    if not converra.flush(timeout=30):
        raise RuntimeError(f"the local server did not take what was captured: {converra.stats()}")
