"""Cost of OpenTelemetry's spans on the thread that starts and ends them: with our processor, and without one."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, NamedTuple

from opentelemetry.sdk.trace import TracerProvider

import converra
from converra.otel import ConverraSpanProcessor

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.trace import Span, Tracer

ROUNDS, SPANS = 40, 100

ATTRIBUTES = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.input.messages": '[{"role":"user","parts":[{"type":"text","content":"Hi"}]}]',
    "gen_ai.output.messages": '[{"role":"assistant","parts":[{"type":"text","content":"Hello!"}]}]',
}


class SpanCost(NamedTuple):
    """Microseconds per span, the fastest of all rounds."""

    start: float
    end: float


def measure() -> tuple[SpanCost, SpanCost]:
    """Return the cost of a span without a processor, and with ours; each round is of both, one after the other."""
    plain, watched = TracerProvider(), TracerProvider()
    watched.add_span_processor(ConverraSpanProcessor("prompt_benchmark"))
    tracers = [provider.get_tracer("benchmark") for provider in (plain, watched)]
    best = [SpanCost(float("inf"), float("inf"))] * len(tracers)
    for _ in range(ROUNDS):
        for n, tracer in enumerate(tracers):
            found = _round(tracer)
            best[n] = SpanCost(min(best[n].start, found.start), min(best[n].end, found.end))
        converra.flush(timeout=30)
    return best[0], best[1]


def _round(tracer: Tracer) -> SpanCost:
    gc.collect()
    spans: list[Span] = []
    start = _seconds(lambda: spans.extend(tracer.start_span("chat", attributes=ATTRIBUTES) for _ in range(SPANS)))
    end = _seconds(lambda: [span.end() for span in spans])
    return SpanCost(start / SPANS * 1e6, end / SPANS * 1e6)


def _seconds(work: Callable[[], object]) -> float:
    began = time.thread_time()
    work()
    return time.thread_time() - began
