"""One recorder of model calls in a process of its own: `python -m benchmarks.contenders NAME URL`, for `peers`.

It reads orders from its input, each a line of JSON, and answers each with one:

======================  ==============================================================================================
order                   answer
======================  ==============================================================================================
["ready"]               true, once everything is imported and switched on
["count", ROW, SECS]    how many runs of a row take these seconds
["block", ROW, COUNT]   microseconds of CPU per call of COUNT runs: the caller's, and the process's with delivery
======================  ==============================================================================================

`python -m benchmarks.contenders NAME URL CALLS` makes CALLS calls as fast as it can, and ends.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

FLUSH_SECONDS = 60


class Contender(NamedTuple):
    """A recorder that is switched on. `flush` waits until what it recorded has arrived."""

    scope: Callable[[], AbstractContextManager[object]] = nullcontext
    flush: Callable[[], object] = lambda: None
    langchain: Callable[[], Any] | None = None
    """Makes the callback handler that LangChain needs for it."""


def plain(_url: str) -> Contender:
    """Record nothing."""
    return Contender()


def converra(url: str) -> Contender:
    """Switch Converra on."""
    os.environ |= {"CONVERRA_BASE_URL": f"{url}/api/v1", "CONVERRA_API_KEY": "benchmark"}
    import converra as recorder

    recorder.instrument()

    def flush() -> None:
        if not recorder.flush(FLUSH_SECONDS):
            raise RuntimeError(f"not delivered: {recorder.stats()}")

    return Contender(lambda: recorder.conversation("prompt_benchmark"), flush)


def _loaded(name: str) -> Any:
    """Return a module of a peer. Only the environment of this benchmark has them."""
    return import_module(name)


def _provider(url: str) -> Any:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import SpanLimits, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(span_limits=SpanLimits(max_span_attributes=10_000))  # else long requests lose messages
    exporter = OTLPSpanExporter(endpoint=f"{url}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=100_000))
    return provider


def openinference(url: str) -> Contender:
    """Switch on OpenInference's instrumentations of openai and LangChain."""
    provider = _provider(url)
    _loaded("openinference.instrumentation.openai").OpenAIInstrumentor().instrument(tracer_provider=provider)
    _loaded("openinference.instrumentation.langchain").LangChainInstrumentor().instrument(tracer_provider=provider)
    return Contender(flush=provider.force_flush)


def opentelemetry(url: str) -> Contender:
    """Switch on OpenTelemetry's own instrumentation of openai, with contents in spans."""
    os.environ |= {
        "OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental",
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "SPAN_ONLY",
    }
    provider = _provider(url)
    _loaded("opentelemetry.instrumentation.genai.openai").OpenAIInstrumentor().instrument(tracer_provider=provider)
    return Contender(flush=provider.force_flush)


def langfuse(url: str) -> Contender:
    """Switch Langfuse on, which patches openai as it is imported."""
    _loaded("langfuse.openai")
    client = _loaded("langfuse").Langfuse(public_key="pk-benchmark", secret_key="sk-benchmark", base_url=url)  # noqa: S106 - no secret
    return Contender(flush=client.flush, langchain=_loaded("langfuse.langchain").CallbackHandler)


def sentry(url: str) -> Contender:
    """Switch Sentry on; each conversation is a transaction."""
    sentry_sdk = _loaded("sentry_sdk")
    sentry_sdk.init(
        dsn=url.replace("http://", "http://benchmark@") + "/1",
        traces_sample_rate=1.0,
        send_default_pii=True,
        integrations=[  # by itself, the second switches the first off
            _loaded("sentry_sdk.integrations.openai").OpenAIIntegration(),
            _loaded("sentry_sdk.integrations.langchain").LangchainIntegration(),
        ],
    )
    return Contender(
        lambda: sentry_sdk.start_transaction(op="gen_ai.invoke_agent", name="benchmark"),
        lambda: sentry_sdk.flush(FLUSH_SECONDS),
    )


def floor(_url: str) -> Contender:
    """Switch on the least that a recorder can do."""
    from benchmarks import floor as least

    least.switch_on()
    return Contender(langchain=least.Handler)


CONTENDERS: dict[str, Callable[[str], Contender]] = {
    "plain": plain,
    "converra": converra,
    "floor": floor,
    "OpenInference": openinference,
    "OpenTelemetry": opentelemetry,
    "Langfuse": langfuse,
    "Sentry": sentry,
}


class Process:
    """The rows, with a contender switched on."""

    def __init__(self, contender: Contender) -> None:
        from benchmarks import capture_langchain, capture_openai

        self._contender = contender
        shapes = capture_openai
        self._rows: dict[str, tuple[Callable[[Any], object], int]] = {
            "small call, 20 in a conversation": (shapes.short, 20),
            "small call, a conversation each": (shapes.single, 20),
            "60 messages, 20 tools": (shapes.large, 10),
            "stream of 300 chunks": (shapes.streamed, 5),
            "64 tasks, one conversation": (shapes.concurrent, shapes.TASKS),
            "64 tasks, a conversation each": (shapes.separate, shapes.TASKS),
            "Responses": (shapes.responses, 20),
            "agent turn of 5 steps": (shapes.agent, 1),
            "LangChain call": (capture_langchain.invoked, 20),
        }
        if contender.langchain is not None:
            capture_langchain.model.callbacks = [contender.langchain()]

    def ready(self) -> bool:
        """Run every row once, so that what is made at first use is made."""
        for row in self._rows:
            self.block(row, 1)
        return True

    def count(self, row: str, seconds: float) -> int:
        """Return how many runs of a row take so long."""
        count, took = 1, self._run(row, 1)
        while took < seconds / 4:
            count *= 2
            took = self._run(row, count)
        self._contender.flush()
        return max(1, round(count * seconds / took))

    def block(self, row: str, count: int) -> tuple[float, float]:
        """Return the CPU of one call: the caller's and the process's."""
        self._run(row, 1)
        self._contender.flush()
        process, caller = time.process_time_ns(), time.thread_time_ns()
        self._run(row, count)
        caller = time.thread_time_ns() - caller
        self._contender.flush()
        calls = count * self._rows[row][1] * 1000
        return caller / calls, (time.process_time_ns() - process) / calls

    def _run(self, row: str, count: int) -> float:
        began = time.perf_counter()
        for _ in range(count):
            self._rows[row][0](self._contender.scope)
        return time.perf_counter() - began


def as_fast_as_possible(contender: Contender, calls: int) -> None:
    """Make calls, 20 in a conversation, and end the process as it ends by itself."""
    from benchmarks import capture_openai

    print("ready", flush=True)
    for _ in range(calls // 20):
        capture_openai.short(contender.scope)


def main() -> None:
    """Carry out orders until the end of the input."""
    import benchmarks.capture_langchain  # noqa: F401 - first: the client's frame is left, and then patched

    contender = CONTENDERS[sys.argv[1]](sys.argv[2])
    if len(sys.argv) > 3:  # noqa: PLR2004 - a third argument
        as_fast_as_possible(contender, int(sys.argv[3]))
        return
    process = Process(contender)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(getattr(process, name)(*arguments)), flush=True)


if __name__ == "__main__":
    main()
