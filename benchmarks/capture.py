"""Cost of a captured call: each shape captured, plain, and plain again as the control."""

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
    """Plain cost of a shape, the difference of the control (the noise), and the part that capture adds."""

    plain: Cost
    noise: Cost
    capture: Cost


def overheads(shapes: Sequence[Shape]) -> Iterator[tuple[str, Overhead]]:
    """Measure the shapes one by one, so that each can be printed when it is done."""
    for shape in shapes:
        costs = measure(
            [Case(PLAIN, shape), Case(AGAIN, shape), Case(CAPTURED, shape, conversation, instrumented, flush)]
        )
        yield shape.name, Overhead(costs[PLAIN], costs[AGAIN] - costs[PLAIN], costs[CAPTURED] - costs[PLAIN])


@contextmanager
def instrumented() -> Iterator[None]:
    """Patch for a block, and restore after it."""
    converra.instrument()
    try:
        yield
    finally:
        converra.uninstrument()


def conversation() -> AbstractContextManager[object]:
    """Record each conversation of a shape."""
    return converra.conversation("prompt_benchmark")


def flush() -> None:
    """Wait for background work: it belongs to the block that caused it."""
    if not converra.flush(timeout=30):
        raise RuntimeError(f"the local server did not take what was captured: {converra.stats()}")
