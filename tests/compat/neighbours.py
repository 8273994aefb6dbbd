"""Beside other instrumentations of the same client, whoever comes first: they get their spans, we our turns."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
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
from tests.patience import LONG

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
    return [call.facts()["answer"]["messages"][0]["text"] for call in capture.calls]


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


# -- those that cannot be taken out again, each in a process of its own ------------------------------------------------

ROOT = Path(__file__).parents[2]

OTHERS = {
    "Datadog": "import ddtrace; ddtrace.patch(openai=True)",
    "Sentry": "import sentry_sdk; sentry_sdk.init(dsn='http://key@127.0.0.1:9/1', traces_sample_rate=1.0)",
    "Langfuse": "import langfuse.openai",
    "LangSmith": "from langsmith.wrappers import wrap_openai as wrapped",
}
NOWHERE = {
    "DD_AGENT_HOST": "127.0.0.1",
    "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
    "LANGFUSE_PUBLIC_KEY": "pk",
    "LANGFUSE_SECRET_KEY": "sk",
    "LANGFUSE_HOST": "http://127.0.0.1:9",
    "LANGSMITH_TRACING": "true",
    "LANGSMITH_API_KEY": "k",
    "LANGSMITH_ENDPOINT": "http://127.0.0.1:9",
}
"""Settings under which they run, and reach nobody."""

PROGRAM = """
import asyncio, json, os
import openai
from converra.integrations import patching
from converra.integrations.openai import INTEGRATION
from tests.integrations import scripted
from tests.integrations.openai_shapes import CHAT, RESPONSES, SCRIPTS, async_client_for, client_for
from tests.integrations.recording import RecordingCapture

capture, wrapped = RecordingCapture(), lambda client: client
{steps}

def text(chunks):
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

async def streamed(client):
    return text([chunk async for chunk in await client.chat.completions.create(**CHAT, stream=True)])

with scripted.serve(SCRIPTS) as model:
    def client(name):
        return wrapped(client_for(model, name))
    texts = [
        client("text").chat.completions.create(**CHAT).choices[0].message.content,
        client("text").chat.completions.with_raw_response.create(**CHAT).parse().choices[0].message.content,
        text(client("stream").chat.completions.create(**CHAT, stream=True)),
        client("r-text").responses.create(**RESPONSES).output_text,
        asyncio.run(streamed(wrapped(async_client_for(model, "stream")))),
    ]
print(json.dumps([texts, [call.facts()["answer"]["messages"][0]["text"] for call in capture.calls]]), flush=True)
os._exit(0)  # before they try to deliver
"""


@pytest.mark.parametrize("theirs", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("first", [True, False])
def test_in_one_process_with(theirs: str, first: bool) -> None:
    """Whoever comes first, the app sees what it should, and we record each call once."""
    ours = "patching.switch_on(INTEGRATION, capture)"
    program = PROGRAM.replace("{steps}", "\n".join([theirs, ours] if first else [ours, theirs]))
    environment = os.environ | NOWHERE | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=LONG
    )
    hello = ["Hello there!"] * 5
    assert json.loads(done.stdout.splitlines()[-1]) == [hello, hello]
