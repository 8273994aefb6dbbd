"""From spans to conversations: which one, in which order, when it ends, and each call once."""

from __future__ import annotations

import importlib
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

import converra
import converra.otel
from converra.capture.recorder import Recorder
from converra.config import load
from converra.history.turn import Answer, Request, SourceMessage
from converra.integrations.openai.chat import CHAT
from converra.otel import ConverraSpanExporter, ConverraSpanProcessor
from converra.process import context, lifecycle
from converra.process.guard import caught
from converra.server.run import serve
from converra.spans import provider as provider_module
from converra.spans.bridge import Bridge, LogEvent
from converra.spans.span import Span, SpanEvent
from converra.spans.watcher import SpanWatcher
from converra.testing.capture import Capture
from converra.testing.swap import in_memory, swapped
from tests.otel.recorders import Vault
from tests.otel.spans import HI, chat, said, span
from tests.patience import LONG, until

ROOT = Path(__file__).parents[2]
YES, AGAIN = said("assistant", "Yes."), said("user", "Again?")


def told(vault: Vault) -> list[tuple[str | None, list[str]]]:
    """Session and texts of each conversation."""
    return [(one["session"], [message["content"] for message in one["messages"]]) for one in vault.conversations()]


def fed(*spans: Span, logs: list[LogEvent] | None = None, **settings: Any) -> list[tuple[str | None, list[str]]]:
    vault = Vault(**settings)
    vault.bridge.feed(spans, logs or ())
    return told(vault)


def test_the_session_comes_from_the_span_or_from_one_around_it() -> None:
    """Whatever emitter names it, and whichever of them comes first; without one, history and then the trace decide."""
    agent = span(attributes={"session.id": "s1", "gen_ai.agent.name": "Ada", "user.id": "u7"})
    step = span(inside=agent)
    inner = chat(HI, inside=step)
    assert fed(inner, step, agent) == fed(agent, step, inner) == [("s1", ["Hi", "Yes."])]
    for name in ("gen_ai.conversation.id", "langfuse.session.id", "traceloop.association.properties.thread_id"):
        assert fed(chat(HI, attributes={name: "s2"})) == [("s2", ["Hi", "Yes."])]
    first, second, other = chat(HI), chat(HI, YES, AGAIN, answer="No."), chat(HI)
    assert fed(second, other, first) == [(None, ["Hi", "Yes.", "Again?", "No."]), (None, ["Hi", "Yes."])]
    root = span()
    unlike = [chat(HI, inside=root), chat(said("user", "Else"), inside=root)]
    assert fed(*unlike, root) == [(None, ["Hi", "Yes.", "Else", "Yes."])]
    vault = Vault()
    vault.bridge.feed([agent, step, inner])
    (kept,) = vault.conversations()
    assert kept["metadata"] == {"userId": "u7"}
    assert kept["messages"][-1] == {
        "role": "assistant",
        "content": "Yes.",
        "model": "gpt-4o",
        "tokens": 2,
        "usage": {"promptTokens": 3, "completionTokens": 2},
        "metadata": {"agent": "Ada"},
    }


def test_the_prompt_comes_from_a_function_an_attribute_or_the_setting() -> None:
    """In this order; a function that raises is logged, and the next one decides."""
    named = chat(HI, attributes={"gen_ai.prompt.name": "by name"})
    sought = chat(HI, resource={"converra.prompt.id": "by resource"})
    around = span(attributes={"converra.prompt.id": "by parent"})
    spans = [named, sought, around, chat(HI, inside=around), chat(HI)]

    def prompts(prompt_id: Any) -> list[str]:
        vault = Vault()
        bridge = Bridge(vault.recorder, prompt_id=prompt_id)
        bridge.feed(spans)
        return [one["prompt"] for one in vault.conversations()]

    assert prompts(None) == ["by name", "by resource", "by parent", "prompt_1"]
    assert prompts("mine") == ["by name", "by resource", "by parent", "mine"]
    assert prompts(lambda span: "f" if span is named else None) == ["f", "by resource", "by parent", "prompt_1"]
    assert prompts(lambda _span: 1 / 0) == ["by name", "by resource", "by parent", "prompt_1"]
    assert fed(chat(HI), prompt_id="") == []  # without any prompt, nothing is recorded


def test_one_call_makes_one_turn() -> None:
    """A span that comes twice, and two spans of one call: the inner one counts, or the one with content."""
    outer = chat(HI)
    inner = chat(HI, inside=outer, answer="Inner.")
    between = span(inside=outer)
    bare = chat(inside=between)
    assert fed(inner, inner, outer) == fed(outer, inner) == [(None, ["Hi", "Inner."])]
    assert fed(bare, between, outer) == fed(outer, between, bare) == [(None, ["Hi", "Yes."])]
    vault = Vault()
    for one in (inner, outer, inner):
        vault.bridge.feed([one])
        vault.bridge.release()
    assert told(vault) == [(None, ["Hi", "Inner."])]
    tool = span(attributes={"gen_ai.operation.name": "execute_tool", "gen_ai.tool.call.id": "c"}, inside=outer)
    of_tool = chat(said("user", "Sub"), inside=tool)
    assert fed(of_tool, tool, outer) == [(None, ["Hi", "Yes.", "Sub", "Yes."])]  # a tool's call is another one


def test_a_span_without_content_is_recorded_without_words(caplog: pytest.LogCaptureFixture) -> None:
    """The variable that turns content on is named once. The conversation ends with its trace: nothing continues it."""
    root = span(scope="app", ended=10**18)
    capture = Capture()
    with swapped(in_memory(capture, prompt_id="p")), caplog.at_level(logging.WARNING, "converra"):
        bridge = Bridge.of(converra._default.recorder())
        bridge.feed([chat(inside=root, scope="emitter"), chat(inside=root, scope="emitter"), root, chat(HI)])
        kept = capture.conversations
        assert [(one.status, one.answers) for one in kept] == [
            ("completed", ["(content not captured)"] * 2),
            ("active", ["Yes."]),
        ]
    (line,) = [line for line in caplog.messages if "without words" in line]
    assert line.startswith("converra: the spans of emitter have no content")
    assert line.endswith("set OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=SPAN_ONLY.")


def test_content_may_come_in_an_event_or_a_log_record() -> None:
    """On the span, or on its own, before the span or after it."""
    whole, bare = chat(HI), chat()
    content = {name: whole.attributes[name] for name in ("gen_ai.input.messages", "gen_ai.output.messages")}
    event = SpanEvent("gen_ai.client.inference.operation.details", 0, content)
    log = LogEvent(bare.trace_id, bare.span_id, event)
    wanted = [(None, ["Hi", "Yes."])]
    assert fed(bare.with_events([event])) == fed(bare, logs=[log]) == wanted
    vault = Vault()
    vault.bridge.feed([bare])
    vault.bridge._run()
    vault.bridge.feed([], [log])
    assert told(vault) == wanted


def test_a_tool_gives_its_result_and_its_duration() -> None:
    """Once: the request that resends the result brings nothing new; an unknown call is left out."""
    calls = [{"type": "tool_call", "id": "c1", "name": "weather", "arguments": {"city": "Paris"}}]
    asked = json.dumps([{"role": "assistant", "parts": calls, "finish_reason": "tool_call"}])
    root = span(attributes={"gen_ai.conversation.id": "s"})
    attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "weather"}
    ran = {**attributes, "gen_ai.tool.call.id": "c1", "gen_ai.tool.call.result": "rain"}
    lost = {**attributes, "gen_ai.tool.call.id": "c2", "gen_ai.tool.call.result": "snow"}
    result = {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "rain"}]}
    spans = [
        chat(HI, inside=root, attributes={"gen_ai.output.messages": asked}),
        span(attributes=ran, inside=root),
        span(attributes=lost, inside=root),
        chat(HI, {"role": "assistant", "parts": calls}, result, inside=root, answer="It rains."),
    ]
    capture = Capture()
    with swapped(in_memory(capture, prompt_id="p")):
        Bridge.of(converra._default.recorder()).feed([*spans, root])
        (kept,) = capture.conversations
    assert kept.said == [("user", "Hi"), ("tool", ""), ("tool", "rain"), ("assistant", "It rains.")]
    assert [message.latency_ms is not None for message in kept.messages] == [False, True, True, True]


def test_late_spans_and_those_without_an_end() -> None:
    """A late turn is appended with its own time; a parent that never ends keeps nothing back."""
    vault = Vault()
    vault.bridge.feed([chat(HI, YES, AGAIN, answer="No.", at=9)])
    vault.bridge.release()
    vault.bridge.feed([chat(said("user", "Late"), at=1, inside=span())])
    assert [texts for _, texts in told(vault)] == [["Hi", "Yes.", "Again?", "No."], ["Late", "Yes."]]
    provider = TracerProvider()
    provider.add_span_processor(SpanWatcher(lambda: vault.bridge))  # type: ignore[arg-type]
    tracer = provider.get_tracer("app")
    endless = tracer.start_span("endless", attributes={"session.id": "s9"})
    with trace.use_span(endless):
        tracer.start_span("chat", attributes=dict(chat(HI).attributes)).end()
    assert told(vault)[-1] == ("s9", ["Hi", "Yes."])


def test_turns_wait_for_their_session_only_so_long() -> None:
    """Children in an earlier batch than their parents get the session; other turns keep their order meanwhile."""
    with serve() as server:
        recorder = Recorder(load({"api_key": "k", "base_url": server.base_url, "prompt_id": "p"}, {}))
        bridge = Bridge(recorder, hold=0.01, patience=LONG)
        agent = span(attributes={"session.id": "s1"})
        bridge.feed([chat(HI, inside=agent)])
        bridge.feed([chat(HI, attributes={"session.id": "s2"})])
        until(lambda: recorder.stats().captured == 2)  # that of the second is known
        bridge.feed([agent])
        until(lambda: recorder.stats().captured == 4)
        assert recorder.shutdown(LONG)
        assert sorted(str(one.metadata["sessionId"]) for one in server.store.conversations()[0]) == ["s1", "s2"]


def test_a_block_takes_the_turns_of_its_spans() -> None:
    """Also those that are recorded after the block was left, which completes then; over a real server."""
    with serve() as server:
        settings = load({"api_key": "k", "base_url": server.base_url, "flush_interval": 3600}, {})
        provider = TracerProvider()
        with swapped(lambda _asked: Recorder(settings)):
            converra.uninstrument()
            provider.add_span_processor(ConverraSpanProcessor())
            provider.add_span_processor(BatchSpanProcessor(ConverraSpanExporter()))
            tracer = provider.get_tracer("app")
            with converra.conversation("prompt_block") as conversation:
                tracer.start_span("chat", attributes=dict(chat(HI).attributes)).end()
                longer = tracer.start_span("chat", attributes=dict(chat(HI, YES, AGAIN).attributes))
            longer.end()
            assert provider.force_flush(int(LONG * 1000))
            assert not converra.stats().pending
        provider.shutdown()
        tracer.start_span("chat", attributes=dict(chat(HI).attributes)).end()  # after the end, nothing is taken in
        (found,), count = server.store.conversations()
        assert (count, found.id, found.status, found.prompt_id) == (1, conversation.id, "completed", "prompt_block")
        assert [one["content"] for one in server.store.messages(found)] == ["Hi", "Yes.", "Again?", "Yes."]


ALONE = """
from opentelemetry.sdk.trace import TracerProvider

from converra.otel import ConverraSpanProcessor
from tests.otel.spans import HI, chat

provider = TracerProvider()
provider.add_span_processor(ConverraSpanProcessor())
provider.get_tracer("app").start_span("chat", attributes=dict(chat(HI).attributes)).end()
"""


def test_a_processor_alone_delivers_at_the_end_of_the_process() -> None:
    """Without `instrument()`: the settings come from the environment, and what is held is recorded then."""
    with serve() as server:
        settings = {"API_KEY": "k", "BASE_URL": server.base_url, "PROMPT_ID": "prompt_env", "FLUSH_INTERVAL": "3600"}
        environment = os.environ | {f"CONVERRA_{name}": value for name, value in settings.items()}
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
        subprocess.run([sys.executable, "-c", ALONE], env=environment, check=True, timeout=LONG)
        (found,), _ = server.store.conversations()
        assert (found.prompt_id, found.status) == ("prompt_env", "completed")
        assert [one["content"] for one in server.store.messages(found)] == ["Hi", "Yes."]


def test_a_process_that_freezes_delivers_when_a_block_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """In AWS Lambda nothing is left for later: the end of a block, and a flush, record what is held."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "f")
    with serve() as server:
        recorder = Recorder(load({"api_key": "k", "base_url": server.base_url, "prompt_id": "p"}, {}))
        provider = TracerProvider()
        provider.add_span_processor(SpanWatcher(lambda: Bridge.of(recorder)))  # type: ignore[arg-type]
        tracer, attributes = provider.get_tracer("app"), dict(chat(HI).attributes)
        with recorder.conversation("p"):
            tracer.start_span("chat", attributes=attributes).end()
        assert [one.status for one in server.store.conversations()[0]] == ["completed"]
        tracer.start_span("chat", attributes=attributes).end()
        lifecycle.flush_all()
        assert len(server.store.conversations()[0]) == 2
        assert recorder.shutdown(LONG)


def test_a_missing_sdk_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the extra to install, by the import and by the report."""
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ImportError, match=r'pip install "converra\[otel\]"'):
        importlib.reload(converra.otel)
    monkeypatch.setattr(provider_module, "find_spec", lambda _name: None)
    watching = provider_module.Watching()
    (row,) = watching.start(lambda: None, Vault().recorder.capture)
    watching.stop()
    assert (row.state, row.why) == (
        "skipped",
        'the SDK of OpenTelemetry is not installed: pip install "converra[otel]"',
    )


class Beside:
    """A recorder that captures calls directly, and an emitter of spans of the same calls."""

    def __init__(self) -> None:
        self.vault = Vault()
        provider = TracerProvider()
        provider.add_span_processor(SpanWatcher(lambda: self.vault.bridge))  # type: ignore[arg-type]
        self.tracer = provider.get_tracer("emitter")
        self.attributes: dict[str, Any] = dict(chat(HI).attributes)

    def emit(self, response_id: str | None = None, **options: Any) -> None:
        """Make the span of a call, as it begins and ends."""
        attributes = self.attributes | ({"gen_ai.response.id": response_id} if response_id else {})
        self.tracer.start_span("chat", attributes=attributes, **options).end()

    def begin(self) -> Any:
        """Begin a call as an integration does."""
        request = Request(CHAT, [{"role": "user", "content": "Hi"}], model="gpt-4o")
        return self.vault.recorder.capture.begin(request)

    def turns(self) -> int:
        """The number of conversations: each call opens one."""
        return len(self.vault.conversations())


def answer() -> Answer:
    return Answer((SourceMessage("assistant", "Yes."),), "gpt-4o", response_id="chatcmpl-1")


def test_a_captured_call_is_recorded_once() -> None:
    """By the span that it starts in, that starts in it, that is made afterwards, or by the id of the answer."""
    failures, (around, inside, after, by_id, claimed) = caught(), (Beside() for _ in range(5))
    with around.tracer.start_as_current_span("chat", attributes=around.attributes):
        around.begin().end(answer())
    call = inside.begin()
    with inside.tracer.start_as_current_span("chat", attributes=inside.attributes):
        inside.emit()  # another emitter, inside of the first
    call.end(answer())
    began = time.time_ns()
    after.begin().end(answer())
    after.emit(start_time=began)
    by_id.begin().end(answer())
    by_id.emit("chatcmpl-1")
    layer = SimpleNamespace(covers=lambda _model: True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(context, "layers", (layer,))
        assert claimed.begin() is None  # an outer layer records it
    claimed.emit()
    assert [beside.turns() for beside in (around, inside, after, by_id, claimed)] == [1, 1, 1, 1, 0]
    assert caught() == failures


def test_a_call_beside_a_captured_one_is_recorded_as_well() -> None:
    """One with another id of its answer, one that was never sent, and a later one in the same context."""
    meanwhile, unsent, later = Beside(), Beside(), Beside()
    call = meanwhile.begin()
    meanwhile.emit("chatcmpl-2")
    call.end(answer())
    unsent.begin().unsent()
    unsent.emit()
    later.begin().end(answer())
    later.emit()
    assert [beside.turns() for beside in (meanwhile, unsent, later)] == [2, 1, 2]


def test_spans_that_are_dropped_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each GenAI span counts as a message that was captured and dropped."""
    monkeypatch.setattr("converra.spans.bridge.MAX_WAITING", 0)
    recorder = Recorder(load({"api_key": "k", "prompt_id": "p"}, {}))
    bridge = Bridge.of(recorder)
    for attributes in ({"gen_ai.operation.name": "chat"}, {}):
        bridge.put(SimpleNamespace(attributes=attributes, context=SimpleNamespace(span_id=1)))
    stats = recorder.delivery.stats()
    assert (stats.captured, stats.dropped, stats.pending) == (1, 1, 0)


def test_waiting_spans_are_bounded_by_bytes() -> None:
    """Past `max_pending_bytes` of text a span is dropped, and a receiver refuses more until those are recorded."""
    recorder = Recorder(load({"api_key": "k", "prompt_id": "p", "max_pending_bytes": 1_000}, {}))
    bridge = Bridge(recorder, hold=LONG)
    words = '[{"role": "user", "content": "%s"}]' % ("x" * 600)
    told = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.input.messages": words}
    bridge.feed([Span("1" * 32, "1" * 16, name="chat", attributes=told)])
    until(lambda: (len(bridge._inbox), len(bridge._held)), (0, 2))  # with the end of its trace
    assert [bridge.is_full] == [False]
    bridge.feed([Span("2" * 32, "2" * 16, name="chat", attributes=told)])
    assert [bridge.is_full] == [True]
    bridge.put(SimpleNamespace(attributes=told, events=(), context=SimpleNamespace(span_id=3)))
    assert recorder.delivery.stats().dropped == 1
    bridge.release()
    assert not bridge.is_full
