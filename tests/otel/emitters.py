"""Real emitters of GenAI spans, each beside our own capture: the conversations of both, and the spans.

`python -m tests.otel.emitters NAME alone|after` runs the programs of one emitter and prints what came of them as JSON.
Most emitters cannot be taken out again, so each has processes of its own.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.otel import programs
from tests.otel.recorders import KEEPER, Vault

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.trace import TracerProvider

SETTINGS = {
    "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "SPAN_ONLY",
    "OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental",
    "TRACELOOP_TRACE_CONTENT": "true",
    "LOGFIRE_SEND_TO_LOGFIRE": "false",
    "ANTHROPIC_OPEN_TELEMETRY_TRACES_CONTENT_MODE": "content",
}
"""Content on, and nothing sent anywhere."""


class Emitter(NamedTuple):
    """An emitter: how it is switched on, for good, and the programs that it sees."""

    package: str
    switch_on: Callable[[TracerProvider], None]
    programs: tuple[programs.Program, ...] = programs.OF_OPENAI


def _instrumentor(module: str, name: str) -> Callable[[TracerProvider], None]:
    """Return a function that switches an instrumentor of the usual kind on."""

    def switch_on(provider: TracerProvider) -> None:
        getattr(import_module(module), name)().instrument(tracer_provider=provider)

    return switch_on


def logfire(provider: TracerProvider) -> None:
    library: Any = import_module("logfire")
    library.configure(
        send_to_logfire=False, console=False, additional_span_processors=[provider._active_span_processor]
    )
    library.instrument_openai()


def pydantic_ai(provider: TracerProvider) -> None:
    from pydantic_ai import Agent
    from pydantic_ai.models.instrumented import InstrumentationSettings

    Agent.instrument_all(InstrumentationSettings(tracer_provider=provider))


def anthropic(provider: TracerProvider) -> None:
    """Set the global provider: from then on the SDK itself makes spans."""
    from opentelemetry import trace

    trace.set_tracer_provider(provider)


EMITTERS = {
    "genai-openai": Emitter(
        "opentelemetry-instrumentation-genai-openai",
        _instrumentor("opentelemetry.instrumentation.genai.openai", "OpenAIInstrumentor"),
    ),
    "genai-anthropic": Emitter(
        "opentelemetry-instrumentation-genai-anthropic",
        _instrumentor("opentelemetry.instrumentation.genai.anthropic", "AnthropicInstrumentor"),
        (programs.claude,),
    ),
    "openllmetry": Emitter(
        "opentelemetry-instrumentation-openai",
        _instrumentor("opentelemetry.instrumentation.openai", "OpenAIInstrumentor"),
    ),
    "openinference": Emitter(
        "openinference-instrumentation-openai",
        _instrumentor("openinference.instrumentation.openai", "OpenAIInstrumentor"),
    ),
    "logfire": Emitter("logfire", logfire),
    "anthropic": Emitter("anthropic", anthropic, (programs.claude,)),
    "pydantic-ai": Emitter("pydantic-ai-slim", pydantic_ai, (programs.agent,)),
}


class Stage:
    """One process: a tracer provider whose spans go to the recorder of the program that runs."""

    def __init__(self, emitter: Emitter) -> None:
        from opentelemetry.sdk.trace import TracerProvider

        from converra.spans.watcher import SpanWatcher

        self.emitter: Emitter = emitter
        self._vault: Vault | None = None
        self._provider = TracerProvider()
        for processor in (SpanWatcher(lambda: self._vault.bridge if self._vault else None), KEEPER):
            self._provider.add_span_processor(processor)  # type: ignore[arg-type]  # it need not be a subclass

    def emit(self) -> None:
        """Switch the emitter on."""
        self.emitter.switch_on(self._provider)

    def run(self, program: programs.Program, *, captures: bool, stays: bool = False) -> list[Any]:
        """Run a program; return its conversations.

        Args:
            program: The program.
            captures: Our own capture is on.
            stays: Our patches stay where they are, below those of the emitter.

        """
        from converra.server.run import serve

        KEEPER.ended.clear()
        with serve() as server:
            self._vault = vault = Vault()
            if captures:
                vault.recorder.instrument()
            program(server)
            found = vault.conversations()
            self._vault = None
            if not stays:
                vault.recorder.uninstrument()
            vault.recorder.shutdown()
            return found


def alone(emitter: Emitter) -> dict[str, Any]:
    """Run each program with our capture alone, with the emitter alone, and with both, the emitter switched on first."""
    stage, names = Stage(emitter), [program.__name__ for program in emitter.programs]
    captured = [stage.run(program, captures=True) for program in emitter.programs]
    stage.emit()
    bridged = [(stage.run(program, captures=False), KEEPER.plain()) for program in emitter.programs]
    both = [stage.run(program, captures=True) for program in emitter.programs]
    return {
        name: {"captured": ours, "bridged": theirs, "spans": spans, "emitter_first": together}
        for name, ours, (theirs, spans), together in zip(names, captured, bridged, both, strict=True)
    }


def after_ours(emitter: Emitter) -> dict[str, Any]:
    """Run each program with both, the emitter switched on last."""
    stage, first = Stage(emitter), Vault()
    first.recorder.instrument()
    stage.emit()
    return {program.__name__: stage.run(program, captures=True, stays=True) for program in emitter.programs}


def main(name: str, order: str) -> None:
    """Print what came of an emitter's programs as JSON."""
    os.environ.update(SETTINGS)
    emitter = EMITTERS[name]
    found = alone(emitter) if order == "alone" else after_ours(emitter)
    facts = {"emitter": name, "package": emitter.package, "version": version(emitter.package), "programs": found}
    sys.stdout.write(json.dumps(facts))


if __name__ == "__main__":
    main(*sys.argv[1:])
