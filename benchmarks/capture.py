"""What a captured call costs: each shape captured, plain, and plain again as the control."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import converra
from benchmarks.interleaved import Case, Cost, Shape, measure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PLAIN, AGAIN, CAPTURED = "plain", "plain again", "captured"


class Overhead(NamedTuple):
    """A shape's plain cost, what the control adds to it (the noise), and what capture adds."""

    plain: Cost
    noise: Cost
    capture: Cost


def overheads(shapes: Sequence[Shape]) -> Iterator[tuple[str, Overhead]]:
    """Measure the shapes one after the other, so that each can be printed when it is done."""
    for shape in shapes:
        costs = measure([Case(PLAIN, shape), Case(AGAIN, shape), Case(CAPTURED, shape, captured, flush)])
        yield shape.name, Overhead(costs[PLAIN], costs[AGAIN] - costs[PLAIN], costs[CAPTURED] - costs[PLAIN])


@contextmanager
def captured() -> Iterator[None]:
    """A block's calls are one conversation: patched for it, and put back after it."""
    converra.instrument()
    try:
        with converra.conversation("prompt_benchmark"):
            yield
    finally:
        converra.uninstrument()


def flush() -> None:
    """What the background has still to do belongs to the block that caused it."""
    if not converra.flush(timeout=30):
        raise RuntimeError(f"the local server did not take what was captured: {converra.stats()}")
