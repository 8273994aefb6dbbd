"""LangChain behaves as without us: the same events to the user's handlers, the same streams, no warning."""

from __future__ import annotations

import asyncio
import copy
import functools
import gc
import itertools
import logging
import weakref
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.callbacks.manager import AsyncCallbackManager, CallbackManager
from langchain_core.language_models import FakeListLLM, FakeStreamingListLLM, GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import LLMResult
from langchain_core.tracers import context as tracers

import converra
from converra.integrations import patching
from converra.integrations.langchain import INTEGRATION, runs
from converra.integrations.langchain.handler import RunHandler
from converra.integrations.langchain.runs import RUNS
from converra.langchain import ConverraCallbackHandler
from converra.process import guard
from tests.integrations.langchain_app import App, running, settle
from tests.integrations.langchain_shapes import SHAPES
from tests.integrations.recording import RecordingCapture

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.integrations.langchain_shapes import Shape

EVENTS = [name for name in dir(BaseCallbackHandler) if name.startswith("on_")]


@pytest.fixture
def app() -> Iterator[App]:
    """An app in which LangChain is captured."""
    with running(prompt_id="prompt") as running_app:
        yield running_app


@pytest.fixture
def logs(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Nothing is logged, neither by LangChain nor by us."""
    caplog.set_level(logging.INFO, "langchain_core")
    yield caplog
    assert [record.message for record in caplog.records] == []


class Witness(BaseCallbackHandler):
    """Notes every event, with its place in the tree of runs; `inline` ones are called in the run's task."""

    def __init__(self, *, inline: bool = False, ordered: bool = True) -> None:
        self.seen: list[Any] = []
        self.run_inline = inline
        self._ordered = ordered
        self._names: dict[int | None, object] = {None: None}
        for name in EVENTS:
            setattr(self, name, functools.partial(self._note, name))

    def _note(
        self, event: str, *args: Any, run_id: UUID | None = None, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        words = [_words(arg) for arg in args]
        place = [self._name(known, words) for known in (run_id, parent_run_id)]
        named = sorted(key for key, value in kwargs.items() if value is not None)
        self.seen.append((event, place, words, named))

    def _name(self, run_id: UUID | None, words: list[Any]) -> object:
        """A number; where runs begin in no certain order, the words that they begin with."""
        name = len(self._names) if self._ordered else str(words)
        return self._names.setdefault(None if run_id is None else run_id.int, name)


def _words(arg: Any) -> Any:
    """What of an argument does not differ from run to run."""
    if isinstance(arg, LLMResult):
        return [generation.text for generations in arg.generations for generation in generations]
    if isinstance(arg, list):
        return [_words(item) for item in arg]
    return arg if isinstance(arg, str) else str(getattr(arg, "content", type(arg)))


def _witnessed(shape: Shape, *, instrumented: bool) -> list[Any]:
    with running(instrumented=instrumented, prompt_id="prompt") as app:
        ordered = shape.name not in UNORDERED
        witnesses = Witness(ordered=ordered), Witness(inline=True, ordered=ordered)
        app.run(shape.run, {"callbacks": list(witnesses)})
        return [witness.seen if ordered else sorted(witness.seen, key=str) for witness in witnesses]


UNORDERED = frozenset({"parallel", "agenerate", "structured"})
"""Shapes that run two branches at the same time; `structured` parses in one and keeps the raw answer in another."""


@pytest.mark.filterwarnings("ignore:Unexpected type for token usage")
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_other_handlers_see_the_same(shape: Shape) -> None:
    """Every event, in the same order and with the same arguments, reaches the user's own handlers."""
    assert _witnessed(shape, instrumented=True) == _witnessed(shape, instrumented=False)


class AsyncWitness(AsyncCallbackHandler):
    """Notes the events of string models."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def on_llm_start(self, *args: Any, **kwargs: Any) -> None:
        self.seen.append("start")

    async def on_llm_end(self, *args: Any, **kwargs: Any) -> None:
        self.seen.append("end")


def test_completion_models_in_coroutines(app: App, logs: Any) -> None:
    """The start of a completion model in an event loop reaches all handlers: none of them is passed over."""

    async def main(app: App) -> list[list[str]]:
        witnesses: list[Any] = [Witness(), Witness(), AsyncWitness()]
        model = FakeListLLM(responses=["One", "Two"])
        await model.agenerate(["1", "2"], callbacks=witnesses)
        return [[event if isinstance(event, str) else event[0] for event in witness.seen] for witness in witnesses]

    with converra.conversation("prompt"):
        plain, other, asynchronous = app.run(main)
    assert sorted(plain) == sorted(other) == ["on_llm_end", "on_llm_end", "on_llm_start", "on_llm_start"]
    assert sorted(asynchronous) == ["end", "end", "start", "start"]
    assert [message[:2] for message in app.messages()] == [
        ("user", "1"),
        ("assistant", "One"),
        ("user", "2"),
        ("assistant", "Two"),
    ]


def _started(*, ours: bool) -> tuple[list[Any], list[Any]]:
    """What an inline handler, and what is recorded, of an async completion beside it."""

    async def main(app: App) -> None:
        ours_too = [ConverraCallbackHandler("prompt")] if ours else []
        handlers: list[Any] = [witness, *ours_too]
        await FakeListLLM(responses=["One", "Two"]).agenerate(["1", "2"], callbacks=handlers)

    witness = Witness(inline=True)
    with running(instrumented=False) as app:
        with converra.conversation("prompt"):
            app.run(main)
        return witness.seen, [message[:2] for _, messages in app.conversations() for message in messages]


def test_completion_models_beside_an_inline_handler() -> None:
    """An inline handler of the user's, such as LangSmith's, neither misses the start nor keeps us from it."""
    seen, messages = _started(ours=True)
    assert seen == _started(ours=False)[0]
    assert messages == [("user", "1"), ("assistant", "One"), ("user", "2"), ("assistant", "Two")]


@pytest.mark.filterwarnings("ignore:astream_events version='v1' is deprecated")
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_astream_events(version: Any) -> None:
    """`astream_events` emits the same sequence with a handler as without one."""

    async def main(app: App, config: Any) -> list[Any]:
        events = app.model().astream_events("[[say:a b c]]", config, version=version)
        return [(event["event"], event["name"], str(event["data"].get("chunk"))[:20]) async for event in events]

    sequences = []
    for instrumented, config in ((False, {}), (True, {}), (False, {"callbacks": [ConverraCallbackHandler("prompt")]})):
        with running(instrumented=instrumented, prompt_id="prompt") as app:
            sequences.append(app.run(main, config))
    assert len(sequences[0]) > 4
    assert sequences[1] == sequences[2] == sequences[0]


@pytest.mark.filterwarnings("ignore:The method")
@pytest.mark.filterwarnings("ignore:The class")
def test_events_of_the_third_version() -> None:
    """The third version of a stream's events is the same sequence with a handler as without one, sync and async."""

    async def main(app: App, config: Any) -> list[list[Any]]:
        stream = await app.model().astream_events("[[say:a b c]]", config, version="v3")
        return [
            [_nameless(event) async for event in stream],
            [_nameless(event) for event in app.model().stream_events("[[say:a b c]]", config, version="v3")],
        ]

    sequences = []
    for instrumented, config in ((False, {}), (True, {}), (False, {"callbacks": [ConverraCallbackHandler("prompt")]})):
        with running(instrumented=instrumented, prompt_id="prompt") as app:
            sequences.append(app.run(main, config))
    assert [len(events) for events in sequences[0]] == [7, 7]
    assert sequences[1] == sequences[2] == sequences[0]


def _nameless(event: Mapping[str, Any]) -> dict[str, Any]:
    """An event without the id that LangChain makes up for each run."""
    return {key: value for key, value in event.items() if key != "id"}


@pytest.mark.filterwarnings("ignore:The method")
@pytest.mark.filterwarnings("ignore:The class")
def test_stream_events_of_the_third_version(app: App) -> None:
    """The events of a stream's third version are a turn, read to the end or dropped in the middle."""

    async def main(app: App) -> None:
        stream = await app.model().astream_events("[[say:a b c]]", version="v3")
        assert [part async for part in stream.text] == ["a", " b", " c"]
        await asyncio.sleep(0.05)

    with converra.conversation("prompt"):
        assert list(app.model().stream_events("[[say:d e]]", version="v3").text) == ["d", " e"]
        app.run(main)
        dropped = app.model().stream_events("[[say:f g h]]", version="v3")
        assert list(itertools.islice(dropped.text, 2)) == ["f", " g"]
        del dropped
        gc.collect()
    assert [(message[1], message[-1].get("metadata", {}).get("partial")) for message in app.messages()[1::2]] == [
        ("d e", None),
        ("a b c", None),
        ("f g", True),
    ]


def test_the_hook_is_taken_back(app: App) -> None:
    """`uninstrument()` leaves LangChain's hooks as they were; runs then go on unrecorded."""
    app.model().invoke("[[say:1]]", {"metadata": {"session_id": "s"}})
    during = list(tracers._configure_hooks)
    app.recorder.uninstrument()
    after = list(tracers._configure_hooks)
    app.recorder.instrument()
    app.recorder.instrument()
    again = list(tracers._configure_hooks)
    assert len(during) == len(again) == len(after) + 1
    assert all(row in during for row in after)
    app.recorder.uninstrument()
    app.model().invoke("[[say:2]]", {"metadata": {"session_id": "s"}})
    assert len(app.messages()) == 2


def test_a_manager_that_outlives_the_hook(app: App) -> None:
    """A run that was configured before `uninstrument()` tells our handler, which does nothing then."""
    manager = CallbackManager.configure()
    app.recorder.uninstrument()
    app.model().invoke("[[say:1]]", {"callbacks": manager, "metadata": {"session_id": "s"}})
    manager.on_chain_start({}, {}).on_chain_error(ZeroDivisionError())
    manager.on_tool_start({"name": "t"}, "").on_tool_end("x")
    assert app.conversations() == []


def test_only_one_handler_of_ours(app: App) -> None:
    """Where the user gives a handler, the hook adds none; and it adds one at most."""
    mine = ConverraCallbackHandler("prompt")
    given: list[Any] = [None, [], [mine], [Witness()]]
    for callbacks in given:
        manager = AsyncCallbackManager.configure(callbacks, [])
        ours = [handler for handler in manager.handlers if isinstance(handler, RunHandler)]
        assert len(ours) == 1
        assert (ours[0] is mine) == (callbacks == [mine])


def test_callbacks_of_later_versions(app: App, logs: Any) -> None:
    """A callback that this version does not know is taken without a word; anything else is no attribute."""
    handler: Any = ConverraCallbackHandler("prompt")
    assert handler.on_interrupt(object(), run_id=uuid4()) is None
    assert not hasattr(handler, "tap_output_iter")
    assert not hasattr(handler, "somewhere_else")


def test_events_out_of_order(app: App, logs: Any) -> None:
    """Ends without a start, and starts of which nothing follows, are no failure."""
    handler, run_id = ConverraCallbackHandler("prompt"), uuid4()
    handler.on_llm_new_token("x", run_id=run_id)
    handler.on_llm_end(LLMResult(generations=[]), run_id=run_id)
    handler.on_llm_error(ValueError(), run_id=run_id)
    handler.on_tool_end("x", run_id=run_id)
    handler.on_tool_error(ValueError(), run_id=run_id)
    handler.on_chain_end({}, run_id=run_id)
    handler.on_chain_error(ValueError(), run_id=run_id)
    handler.on_retriever_end([], run_id=run_id)
    handler.on_chat_model_start({}, [[HumanMessage("Hi")]], run_id=run_id)
    del run_id
    assert [message[:2] for message in app.messages()] == [("user", "Hi")]


@pytest.mark.parametrize("broken", ["session_of", "TRACES", "RUNS"])
def test_a_failure_of_ours_stays_ours(
    broken: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug in our callbacks reaches neither the app nor the log of LangChain, and is told."""
    monkeypatch.setattr(f"converra.integrations.langchain.handler.{broken}", None)
    guard.reset_log_limits()
    handler, before = RunHandler(RecordingCapture), guard.caught()
    assert (_model("One") | (lambda message: message.content)).invoke("x", {"callbacks": [handler]}) == "One"
    assert list((_model("One two") | str).stream("x", {"callbacks": [handler]}))
    assert guard.caught() > before
    assert {record.name for record in caplog.records} == {"converra"}


def test_handlers_are_copied_as_they_are(app: App) -> None:
    """A config with a handler may be copied: the copy has the same handler."""
    handler = ConverraCallbackHandler("prompt")
    assert copy.copy(handler) is handler
    assert copy.deepcopy({"callbacks": [handler]})["callbacks"][0] is handler


# -- what is kept of runs ----------------------------------------------------------------------------------------------


def _model(*answers: str) -> GenericFakeChatModel:
    return GenericFakeChatModel(messages=itertools.cycle(AIMessage(answer) for answer in answers or ("a b c",)))


class Failing(GenericFakeChatModel):
    """Raises, in the middle of a stream too."""

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError

    def _stream(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        yield next(super()._stream([HumanMessage("x")]))
        raise ZeroDivisionError


def test_nothing_is_kept_of_runs() -> None:
    """After a thousand runs that ended, failed, were abandoned or cancelled, nothing of them is left."""
    handler = ConverraCallbackHandler()
    config: Any = {"callbacks": [handler]}
    model, failing = _model(), Failing(messages=iter([]))

    async def cancelled() -> None:
        task = asyncio.create_task(Sleeping(messages=iter([])).ainvoke("x", config))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def main(app: App) -> None:
        for _ in range(150):
            model.invoke("x", config)
            with pytest.raises(ZeroDivisionError):
                failing.invoke("x", config)
            with pytest.raises(ZeroDivisionError):
                list(failing.stream("x", config))
            next(model.stream("x", config))
            async for _part in model.astream("x", config):
                break
            (model | str).invoke("x", config)
            await cancelled()

    with running(instrumented=False) as app:
        app.run(main)
        assert settle() == (0, 0, 0, 0)


class Sleeping(GenericFakeChatModel):
    """Never answers."""

    async def _agenerate(self, *args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(60)


def test_ids_that_somebody_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an app keeps the ids of runs that never end, what is kept is bounded, and the oldest are recorded."""
    monkeypatch.setattr(runs, "MAX_RUNS", 10)
    ids = [uuid4() for _ in range(25)]
    with running(instrumented=False) as app:
        handler = ConverraCallbackHandler("prompt", "s")
        for n, run_id in enumerate(ids):
            handler.on_chat_model_start({}, [[HumanMessage(str(n))]], run_id=run_id)
        assert len(RUNS) == 10
        assert [message[1] for message in app.messages()] == [str(n) for n in range(15)]
        ids.clear()
        del run_id


def test_nothing_of_the_app_s_is_kept_alive() -> None:
    """A model that the app has dropped is gone, whatever ran on it."""
    capture = RecordingCapture()
    patching.switch_on(INTEGRATION, capture)
    model = _model()
    model.invoke("x")
    next(model.stream("x"))
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
    patching.switch_off(INTEGRATION)


def test_completion_models(app: App) -> None:
    """A completion model's prompt is the user's turn, its text the answer; streamed, too."""
    with converra.conversation("prompt"):
        FakeListLLM(responses=["One"]).invoke("1?")
        assert list(FakeStreamingListLLM(responses=["Two"]).stream("2?")) == ["T", "w", "o"]
    assert [message[:2] for message in app.messages()] == [
        ("user", "1?"),
        ("assistant", "One"),
        ("user", "2?"),
        ("assistant", "Two"),
    ]
