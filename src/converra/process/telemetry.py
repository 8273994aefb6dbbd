"""OpenTelemetry: span ids that are recorded, and counters that are exported. Uses the API package, never the SDK.

Everything here looks in `sys.modules` first. Importing opentelemetry costs tens of milliseconds, and while no other
code has imported it, there are no spans, and no instrumentations that could trace our requests.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from converra.process.guard import report

if TYPE_CHECKING:
    from collections.abc import Iterator

TRACES = "opentelemetry.trace"
"""Name of the module without which there can be no span."""

CONTEXT = "opentelemetry.context"
"""Name of the module without which nothing can trace our requests."""

METRICS = "opentelemetry.metrics"
"""Name of the module without which nothing is counted."""

NO_SPAN = (0, 0)

_counters: dict[str, Any] = {}


def current_span_ids() -> tuple[int, int]:
    """Return the trace id and the span id of the current span; (0, 0) if there is none, or it cannot be read."""
    trace, otel = sys.modules.get(TRACES), sys.modules.get(CONTEXT)
    if trace is None or otel is None:
        return NO_SPAN
    try:
        current = otel.get_current()
        # Without a context there is no span, and nothing else of OpenTelemetry is called.
        span = trace.get_current_span(current).get_span_context() if current else None
    except Exception as error:  # noqa: BLE001 - a guard without a frame of its own: the turn is recorded all the same
        report("reading the current span", error)
        return NO_SPAN
    return (span.trace_id, span.span_id) if span is not None and span.is_valid else NO_SPAN


def count(name: str, number: int) -> None:
    """Add to the counter `converra.<name>` of the app's meter provider, if it has set one."""
    metrics = sys.modules.get(METRICS)
    if metrics is None or not number:
        return
    if name not in _counters:
        _counters[name] = metrics.get_meter("converra").create_counter(f"converra.{name}")
    _counters[name].add(number)


@contextmanager
def suppressed() -> Iterator[None]:
    """Keep instrumentations of HTTP clients from tracing our own requests, in the current thread or task."""
    context = sys.modules.get(CONTEXT)
    if context is None:
        yield
        return
    values = context.get_current()
    for key in ("_SUPPRESS_INSTRUMENTATION_KEY", "_SUPPRESS_HTTP_INSTRUMENTATION_KEY"):
        name = getattr(context, key, None)
        if name is not None:
            values = context.set_value(name, True, values)  # noqa: FBT003 - the API takes the value by position
    token = context.attach(values)
    try:
        yield
    finally:
        context.detach(token)
