"""OpenTelemetry by hand: GenAI spans of this process become turns (extra `otel`).

`converra.instrument(otel=True)` adds the processor by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from converra import _default
from converra.capture.spec import checked_id
from converra.process.guard import guard
from converra.spans.span import Span
from converra.spans.watcher import SpanWatcher

try:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
except ImportError as missing:
    raise ImportError(
        'converra.otel needs the SDK of OpenTelemetry: pip install "converra[otel]"', name=missing.name
    ) from missing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["ConverraSpanExporter", "ConverraSpanProcessor", "Span"]

EXPORT_PATIENCE = 6.0
"""Seconds for which an exported call waits for the spans around it: batches are exported every 5 s by default."""


class ConverraSpanProcessor(SpanWatcher, SpanProcessor):
    """Records the GenAI spans of a tracer provider as turns: `provider.add_span_processor(ConverraSpanProcessor())`.

    It needs no `converra.instrument()`; without it, the settings come from the environment. A call that is captured
    directly as well is recorded once. Turns belong to the `converra.conversation()` that was active when the span
    started; else to the session that the span or one around it names; else to the conversation whose history they
    continue; else to that of their trace.

    Args:
        prompt_id: The prompt of spans: a string, for spans that name none in `converra.prompt.id` or
            `gen_ai.prompt.name`; or a function of the span, which is asked first and may return None. Default: the
            setting `prompt_id`.

    Raises:
        InvalidArgumentError: The prompt id, or a setting in the environment, can never work.

    Example::

        provider = TracerProvider()
        provider.add_span_processor(ConverraSpanProcessor("prompt_support"))

    """

    def __init__(self, prompt_id: str | Callable[[Span], str | None] | None = None) -> None:
        super().__init__(_default.bridge, _checked(prompt_id))


class ConverraSpanExporter(SpanExporter):
    """Records exported GenAI spans as turns, for apps that have a `BatchSpanProcessor` around each exporter.

    The processor is better where you can choose: it sees spans start, so it knows the `converra.conversation()` around
    them, and recognises calls that are captured directly without their ids.

    Args:
        prompt_id: As for `ConverraSpanProcessor`.

    Raises:
        InvalidArgumentError: The prompt id, or a setting in the environment, can never work.

    Example::

        provider.add_span_processor(BatchSpanProcessor(ConverraSpanExporter()))

    """

    def __init__(self, prompt_id: str | Callable[[Span], str | None] | None = None) -> None:
        self._prompt_id = _checked(prompt_id)
        self._is_on = True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Take in spans that have ended; a worker reads them. Returns SUCCESS: nothing is gained by a second try."""
        with guard("taking in exported spans"):
            bridge = _default.bridge() if self._is_on else None
            if bridge is not None:
                for span in spans:
                    bridge.put(span, self._prompt_id, EXPORT_PATIENCE)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Deliver what was taken in, within the setting `shutdown_timeout`, and take in nothing more."""
        if self._is_on:
            self._is_on = False
            with guard("shutting the span exporter down"):
                _default.flush(_default.recorder().config.shutdown_timeout)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Deliver what was taken in; return True only if all of it was delivered within `timeout_millis`."""
        return _default.flush(timeout_millis / 1000)


def _checked(
    prompt_id: str | Callable[[Span], str | None] | None,
) -> str | Callable[[Span], str | None] | None:
    """Check the prompt id, and the settings in the environment, which are used later."""
    _default.check_environment()
    return prompt_id if prompt_id is None or callable(prompt_id) else checked_id("prompt_id", prompt_id)
