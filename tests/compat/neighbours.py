"""Beside other instrumentations of the same client, whoever comes first: they get their spans, we our turns."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import openai
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from converra.integrations import patching
from converra.integrations.openai import INTEGRATION
from tests.integrations import scripted
from tests.integrations.openai_shapes import CHAT, RESPONSES, SCRIPTS, client_for
from tests.integrations.recording import RecordingCapture

if TYPE_CHECKING:
    from collections.abc import Iterator

logfire = pytest.importorskip("logfire")
OpenInference = pytest.importorskip("openinference.instrumentation.openai").OpenAIInstrumentor
OpenTelemetry = pytest.importorskip("opentelemetry.instrumentation.openai_v2").OpenAIInstrumentor
OpenLLMetry = pytest.importorskip("opentelemetry.instrumentation.openai").OpenAIInstrumentor

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs


@contextlib.contextmanager
def openinference(provider: TracerProvider) -> Iterator[None]:
    OpenInference().instrument(tracer_provider=provider)
    yield
    OpenInference().uninstrument()


@contextlib.contextmanager
def opentelemetry(provider: TracerProvider) -> Iterator[None]:
    OpenTelemetry().instrument(tracer_provider=provider)
    yield
    OpenTelemetry().uninstrument()


@contextlib.contextmanager
def openllmetry(provider: TracerProvider) -> Iterator[None]:
    OpenLLMetry().instrument(tracer_provider=provider)
    yield
    OpenLLMetry().uninstrument()


@contextlib.contextmanager
def logfire_on_classes(provider: TracerProvider) -> Iterator[None]:
    logfire.configure(
        send_to_logfire=False,
        console=False,
        additional_span_processors=[provider._active_span_processor],
    )
    with logfire.instrument_openai():
        yield


@contextlib.contextmanager
def ours(capture: RecordingCapture) -> Iterator[None]:
    patching.switch_on(INTEGRATION, capture)
    yield
    patching.switch_off(INTEGRATION)


NEIGHBOURS = [openinference, opentelemetry, openllmetry, logfire_on_classes]


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> TracerProvider:
    made = TracerProvider()
    made.add_span_processor(SimpleSpanProcessor(exporter))
    return made


def talk() -> list[str]:
    """A chat, streamed and not, and a response; all that the app sees of their texts."""
    with scripted.serve(SCRIPTS) as model:
        with client_for(model, "text") as client:
            texts = [client.chat.completions.create(**CHAT).choices[0].message.content]
        with client_for(model, "stream") as client:
            chunks = client.chat.completions.create(**CHAT, stream=True)
            texts.append("".join(chunk.choices[0].delta.content or "" for chunk in chunks))
        with client_for(model, "r-text") as client:
            texts.append(client.responses.create(**RESPONSES).output_text)
        return texts


HELLO = ["Hello there!"] * 3


def said(capture: RecordingCapture) -> list[str]:
    return [call.facts()["answer"]["said"][0]["text"] for call in capture.calls]


@pytest.mark.parametrize("neighbour", NEIGHBOURS)
@pytest.mark.parametrize("first", [True, False])
def test_side_by_side(neighbour: Any, first: bool, provider: TracerProvider, exporter: InMemorySpanExporter) -> None:
    """Whoever comes first, each of us sees every call, once."""
    capture = RecordingCapture()
    with contextlib.ExitStack() as stack:
        for enter in (neighbour(provider), ours(capture)) if first else (ours(capture), neighbour(provider)):
            stack.enter_context(enter)
        assert talk() == HELLO
    assert said(capture) == HELLO
    assert len(exporter.get_finished_spans()) >= 2  # not all of them know all of our three calls


@pytest.mark.parametrize("neighbour", NEIGHBOURS)
def test_the_neighbour_leaves_first(neighbour: Any, provider: TracerProvider) -> None:
    """A neighbour that puts back what it had saved may take us along; instrumenting again brings us back, once."""
    capture = RecordingCapture()
    with neighbour(provider):
        patching.switch_on(INTEGRATION, capture)
    patching.switch_on(INTEGRATION, capture)
    assert talk() == HELLO
    assert said(capture) == HELLO
    patching.switch_off(INTEGRATION)
    assert talk() == HELLO
    assert len(capture.calls) == 3


@pytest.mark.parametrize("neighbour", NEIGHBOURS)
def test_we_leave_first(neighbour: Any, provider: TracerProvider, exporter: InMemorySpanExporter) -> None:
    """Taken out from below a neighbour, we leave it its spans."""
    capture = RecordingCapture()
    with ours(capture), neighbour(provider):
        patching.switch_off(INTEGRATION)
        assert talk() == HELLO
    assert capture.calls == []
    assert len(exporter.get_finished_spans()) >= 2  # not all of them know all of our three calls


def test_a_client_that_logfire_has_wrapped(provider: TracerProvider) -> None:
    """`logfire.instrument_openai(client)` before us hides that one client, as the docs say; after us, it does not."""
    capture = RecordingCapture()
    with scripted.serve(SCRIPTS) as model, ours(capture), client_for(model, "text") as client:
        with logfire.instrument_openai(client):
            client.chat.completions.create(**CHAT)
        assert type(client) is openai.OpenAI
    assert said(capture) == ["Hello there!"]
