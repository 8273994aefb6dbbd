"""The other roads to a turn: clients of every make, background responses, cancellation, bodies that nobody reads."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import itertools
import pickle
import threading
import weakref
from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from converra.integrations import patching
from converra.integrations.openai import INTEGRATION
from converra.integrations.stainless import background as stainless_background
from tests.integrations import scripted
from tests.integrations.openai_shapes import CHAT, MESSAGES, RESPONSES, SCRIPTS, async_client_for, client_for
from tests.integrations.recording import RecordingCapture
from tests.integrations.responses_scripts import QUEUED
from tests.patience import LONG

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integrations.scripted import Received, Reply, ScriptedModel

HELLO = {"role": "assistant", "text": "Hello there!"}


def _flaky() -> Any:
    replies = iter([scripted.document({"error": {"message": "slow down"}}, 429, **{"retry-after-ms": "1"})])

    def reply(request: Received) -> Reply:
        return next(replies, None) or SCRIPTS["text"](request)

    return reply


@pytest.fixture
def model() -> Iterator[ScriptedModel]:
    with scripted.serve({**SCRIPTS, "flaky": _flaky()}) as served:
        yield served


@pytest.fixture
def client(model: ScriptedModel) -> Iterator[openai.OpenAI]:
    with client_for(model, "text") as made:
        yield made


def source(capture: RecordingCapture) -> list[Any]:
    """The answers' first words."""
    return [call.facts()["answer"]["messages"][0] for call in capture.calls]


# -- clients -----------------------------------------------------------------------------------------------------------


def test_a_client_older_than_the_patch(model: ScriptedModel) -> None:
    """Clients, resources and raw wrappers that an app made before `instrument()` are captured; after undoing, not."""
    capture = RecordingCapture()
    with client_for(model, "text") as client:
        create, raw = client.chat.completions.create, client.chat.completions.with_raw_response
        patching.switch_on(INTEGRATION, capture)
        create(**CHAT)
        raw.create(**CHAT)
        patching.switch_off(INTEGRATION)
        create(**CHAT)
        raw.create(**CHAT)
    assert source(capture) == [HELLO, HELLO]


def test_a_bound_method_that_outlives_the_patch(client: openai.OpenAI) -> None:
    """A wrapped method that the app has kept is quiet after undoing, and serves the next capture."""
    first, second = RecordingCapture(), RecordingCapture()
    patching.switch_on(INTEGRATION, first)
    kept = client.request
    patching.switch_off(INTEGRATION)
    options = openai._models.FinalRequestOptions.construct(method="post", url="/chat/completions", json_data=CHAT)
    kept(ChatCompletion, options)
    patching.switch_on(INTEGRATION, second)
    kept(ChatCompletion, options=options)
    patching.switch_off(INTEGRATION)
    assert (len(first.calls), len(second.calls)) == (0, 1)


def test_a_copy_of_a_client(client: openai.OpenAI, capture: RecordingCapture) -> None:
    """`with_options` and `copy` make clients that are captured too."""
    client.with_options(timeout=3).copy().chat.completions.create(**CHAT)
    assert source(capture) == [HELLO]


def test_a_subclass(model: ScriptedModel, capture: RecordingCapture) -> None:
    """A subclass with a `request` of its own that calls the original is captured once."""

    class Mine(openai.OpenAI):
        def request(self, *args: Any, **kwargs: Any) -> Any:
            return super().request(*args, **kwargs)

    with Mine(api_key="k", base_url=model.base_url("text")) as client:
        client.chat.completions.create(**CHAT)
    assert source(capture) == [HELLO]


@pytest.mark.parametrize("name", ["text", "stream"])
def test_azure(model: ScriptedModel, capture: RecordingCapture, name: str) -> None:
    """Azure's client, whose addresses are others, with a key that is a function, is captured."""
    endpoint = model.base_url(name).removesuffix("/v1")
    with openai.AzureOpenAI(
        azure_endpoint=endpoint, api_version="2024-10-21", azure_ad_token_provider=lambda: "token"
    ) as client:
        answer = client.chat.completions.create(**CHAT, stream=name == "stream")
        list(answer)
    assert "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21" in model.received[0].line
    assert source(capture) == [HELLO]


@pytest.mark.parametrize("name", ["text", "stream"])
def test_azure_async(model: ScriptedModel, capture: RecordingCapture, name: str) -> None:
    """Azure's async client, whose token is fetched by a coroutine, is captured too."""

    async def token() -> str:
        return "token"

    async def main() -> None:
        async with openai.AsyncAzureOpenAI(
            azure_endpoint=model.base_url(name).removesuffix("/v1"),
            api_version="2024-10-21",
            azure_ad_token_provider=token,
        ) as client:
            answer: Any = await client.chat.completions.create(**CHAT, stream=name == "stream")
            if name == "stream":
                _ = [chunk async for chunk in answer]

    asyncio.run(main())
    assert source(capture) == [HELLO]


KEYS_MAY_BE_FUNCTIONS = "Callable" in str(inspect.signature(openai.OpenAI).parameters["api_key"].annotation)
"""Old versions take only strings."""


def test_keys_that_are_functions(model: ScriptedModel, capture: RecordingCapture) -> None:
    """A client whose key is a function works as without us: it is asked for once a request, by openai."""
    asked: list[str] = []

    def key() -> str:
        asked.append("k")
        return "k"

    async def async_key() -> str:
        return key()

    async def main() -> None:
        given: Any = async_key if KEYS_MAY_BE_FUNCTIONS else "k"
        async with openai.AsyncOpenAI(api_key=given, base_url=model.base_url("text")) as client:
            await client.chat.completions.create(**CHAT)

    given: Any = key if KEYS_MAY_BE_FUNCTIONS else "k"
    with openai.OpenAI(api_key=given, base_url=model.base_url("text")) as client:
        client.chat.completions.create(**CHAT)
    asyncio.run(main())
    assert source(capture) == [HELLO, HELLO]
    assert asked == ["k", "k"] * KEYS_MAY_BE_FUNCTIONS


def test_the_module_itself(model: ScriptedModel, capture: RecordingCapture, monkeypatch: pytest.MonkeyPatch) -> None:
    """`openai.chat.completions.create`, without a client of one's own, is captured."""
    monkeypatch.setattr(openai, "api_key", "k")
    monkeypatch.setattr(openai, "base_url", model.base_url("text"))
    openai._reset_client()
    openai.chat.completions.create(**CHAT)
    openai._reset_client()
    gc.collect()
    assert source(capture) == [HELLO]


def test_a_retry_inside_the_client(model: ScriptedModel, capture: RecordingCapture) -> None:
    """What openai retries by itself is one turn."""
    with client_for(model, "flaky") as client:
        client.with_options(max_retries=2).chat.completions.create(**CHAT)
    assert len(model.received) == 2
    assert source(capture) == [HELLO]


@pytest.mark.parametrize("name", ["text", "stream"])
def test_a_post_for_the_bare_response(model: ScriptedModel, capture: RecordingCapture, name: str) -> None:
    """`client.post(cast_to=httpx.Response)` is captured, with an absolute address or a query too."""
    with client_for(model, name) as client:
        kind = type(client.chat.completions.with_raw_response.create(**CHAT, stream=name == "stream").http_response)
        capture.calls.clear()
        for path in ("/chat/completions", f"{model.base_url(name)}/chat/completions?trace=1"):
            client.post(path, body={**CHAT, "stream": name == "stream"}, cast_to=kind)
    assert source(capture) == [HELLO, HELLO]


def test_options_that_are_given_by_name(client: openai.OpenAI, capture: RecordingCapture) -> None:
    """`client.request` may be called with names for everything."""
    options = openai._models.FinalRequestOptions.construct(method="POST", url="/chat/completions", json_data=CHAT)
    client.request(cast_to=ChatCompletion, options=options)
    assert source(capture) == [HELLO]


def test_generators_are_sent_whole(model: ScriptedModel, client: openai.OpenAI, capture: RecordingCapture) -> None:
    """Messages and parts that can be read only once reach the provider, and us."""
    parts = ({"type": "text", "text": word} for word in ("Hi", "there"))
    client.chat.completions.create(model="m", messages=(m for m in [{"role": "user", "content": parts}]))  # type: ignore[misc]
    assert model.received[0].json["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": "there"}]}
    ]
    assert capture.only().facts()["asked"] == [{"role": "user", "text": "Hi\nthere"}]


def test_arguments_are_left_as_they_are(client: openai.OpenAI, capture: RecordingCapture) -> None:
    """Nothing of the app's is changed, nor kept: its messages may be changed at once afterwards."""
    headers = {"x-mine": "1"}
    messages = [dict(message) for message in MESSAGES]
    client.chat.completions.create(model="m", messages=messages, extra_headers=headers, metadata={"a": "b"})  # type: ignore[arg-type]
    assert (headers, messages) == ({"x-mine": "1"}, MESSAGES)


def test_what_is_no_turn_passes_by(model: ScriptedModel, capture: RecordingCapture) -> None:
    """Other endpoints, and bodies that are none, are not touched."""
    with client_for(model, "models") as client:
        client.models.list()
        client.get("/chat/completions", cast_to=object)
        client.post("/chat/completions", cast_to=object)
        client.post("/responses/compact", body={"input": "Hi"}, cast_to=object)
    assert capture.calls == []


# -- streams -----------------------------------------------------------------------------------------------------------


def test_a_stream_leaves_no_trace(model: ScriptedModel, capture: RecordingCapture) -> None:
    """Once a stream has ended, its response has only what it had before us."""
    with client_for(model, "stream") as client:
        stream = client.chat.completions.create(**CHAT, stream=True)
        assert "close" in vars(stream.response)
        list(stream)
        assert "close" not in vars(stream.response)


def _busy(client: Any) -> list[Any]:
    """The connections of a client that are not free."""
    connections = client._client._transport._pool.connections
    return [connection for connection in connections if not (connection.is_idle() or connection.is_closed())]


def test_closing_frees_the_connection(model: ScriptedModel, capture: RecordingCapture) -> None:
    """A stream that is closed early gives its connection back to the pool, sync and async."""
    with client_for(model, "stream-held") as client:
        stream = client.chat.completions.create(**CHAT, stream=True)
        next(stream)
        assert len(_busy(client)) == 1
        stream.close()
        assert _busy(client) == []

    async def main() -> None:
        async with async_client_for(model, "stream-held") as client, contextlib.AsyncExitStack() as stack:
            stream = await stack.enter_async_context(await client.chat.completions.create(**CHAT, stream=True))
            await anext(stream)
            assert len(_busy(client)) == 1
            await stream.close()
            assert _busy(client) == []

    asyncio.run(main())
    assert [call.facts()["answer"]["partial"] for call in capture.calls] == [True, True]


def test_a_body_that_was_read_can_be_pickled(client: openai.OpenAI, capture: RecordingCapture) -> None:
    """A response that an app has read and stores away is pickled as before."""
    with client.chat.completions.with_streaming_response.create(**CHAT) as raw:
        raw.read()
        assert pickle.loads(pickle.dumps(raw.http_response)).status_code == 200  # noqa: S301 - our own
    assert source(capture) == [HELLO]


def test_a_stream_that_is_closed_while_it_is_read(model: ScriptedModel, capture: RecordingCapture) -> None:
    """A stream closed from another thread while it waits for a chunk is one turn, with what had arrived."""
    with client_for(model, "stream-held") as client:
        stream = client.chat.completions.create(**CHAT, stream=True)
        for _ in range(3):
            next(stream)
        closer = threading.Timer(0.05, stream.close)
        closer.start()
        threading.Timer(0.2, model.release.set).start()
        try:
            rest = len(list(stream))
        except Exception:  # noqa: BLE001 - what it raises depends on the version and on the moment
            rest = 0
        closer.join()
    text = source(capture)[0]["text"]
    assert text == "Hello" if not rest else "Hello there!".startswith(text)


def test_a_stream_that_is_collected_late(model: ScriptedModel, capture: RecordingCapture) -> None:
    """A dropped stream ended with its last chunk, not when it was noticed."""
    with client_for(model, "stream") as client:
        stream = client.chat.completions.create(**CHAT, stream=True)
        next(stream)
        last = capture.only()
        stream.response.close()
        del stream
        gc.collect()
    assert last.ended is not None
    assert last.answer is not None
    assert last.answer.partial


def test_what_has_arrived_can_be_asked_for(model: ScriptedModel, capture: RecordingCapture) -> None:
    """The text so far of a stream that is still open is known at any time: at the end of the process, say."""
    with client_for(model, "stream-held") as client:
        stream = client.chat.completions.create(**CHAT, stream=True)
        for _ in range(3):
            next(stream)
        so_far = capture.only().so_far
        assert so_far is not None
        assert (so_far().messages[0].text, so_far().partial) == ("Hello", True)
        model.release.set()
        assert len(list(stream)) == 3
    assert source(capture) == [HELLO]


def test_nothing_of_the_sdk_is_kept(model: ScriptedModel, capture: RecordingCapture) -> None:
    """Chunks and streams are free to go as soon as the app lets go of them."""
    with client_for(model, "stream-tools") as client:
        stream = client.chat.completions.create(**CHAT, stream=True)
        kept = [weakref.ref(chunk) for chunk in stream]
        kept += [weakref.ref(stream), weakref.ref(stream.response)]
        del stream
    gc.collect()
    assert [reference() for reference in kept] == [None] * 9


# -- cancellation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "chunks"), [("stream-held", 3), ("r-stream-held", 6)])
def test_a_task_cancelled_in_mid_stream(
    model: ScriptedModel, capture: RecordingCapture, name: str, chunks: int
) -> None:
    """Cancellation passes through, and what had arrived is a turn."""

    async def main() -> None:
        async with async_client_for(model, name) as client:
            create: Any = client.responses.create if name.startswith("r-") else client.chat.completions.create
            stream = await create(**(RESPONSES if name.startswith("r-") else CHAT), stream=True)
            for _ in range(chunks):
                await anext(stream)
            task = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0.02)
            while not task.done():
                task.cancel()
                await asyncio.sleep(0)
            with pytest.raises(asyncio.CancelledError):
                await task
            model.release.set()

    asyncio.run(main())
    facts = capture.only().facts()
    assert (facts["error"], facts["answer"]["partial"]) == ("CancelledError", True)
    assert facts["answer"]["messages"][0]["text"].startswith("Hel")


def test_a_task_cancelled_before_the_answer(model: ScriptedModel, capture: RecordingCapture) -> None:
    """A call cancelled while it waits is recorded with that error, and the app gets its cancellation."""
    hold = threading.Event()

    def slow(request: Received) -> Reply:
        hold.wait(LONG)
        return SCRIPTS["text"](request)

    model.scripts["slow"] = slow

    async def main() -> None:
        async with async_client_for(model, "slow") as client:
            task = asyncio.create_task(client.chat.completions.create(**CHAT))
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    hold.set()
    assert capture.only().facts()["error"] == "CancelledError"


def test_a_call_that_is_never_awaited(model: ScriptedModel, capture: RecordingCapture) -> None:
    """As without us, nothing happens, and Python's warning names the same function."""

    async def main() -> None:
        async with async_client_for(model, "text") as client:
            coroutine: Any = client.request(
                ChatCompletion, openai._models.FinalRequestOptions.construct(method="post", url="/")
            )
            assert coroutine.__qualname__ == "AsyncAPIClient.request"
            coroutine.close()

    asyncio.run(main())
    assert capture.calls == []


# -- background responses ----------------------------------------------------------------------------------------------


LATER = {"background": True}
"""As `extra_body`, since the oldest version has no argument of that name; on the wire it is the same."""


@pytest.fixture
def background(model: ScriptedModel) -> Iterator[openai.OpenAI]:
    stainless_background._waiting.clear()
    with client_for(model, "r-background") as made:
        yield made


def test_a_background_response(background: openai.OpenAI, capture: RecordingCapture) -> None:
    """Created now, retrieved later: one turn, with the answer that the retrieval brought."""
    queued = background.responses.create(**RESPONSES, extra_body=LATER)
    assert capture.only().ends == 0
    so_far = capture.only().so_far
    assert so_far is not None
    assert so_far().finish_reason == "queued"
    assert background.responses.retrieve(queued.id).output_text == "Hello there!"
    background.responses.retrieve(queued.id)
    assert source(capture) == [HELLO | {"metadata": {"reasoning": "They greet me."}}]


def test_a_background_response_that_is_cancelled(background: openai.OpenAI, capture: RecordingCapture) -> None:
    """Cancelling it ends the turn, without an answer."""
    queued = background.responses.create(**RESPONSES, extra_body=LATER)
    background.post(f"/responses/{queued.id}/cancel", cast_to=Response)
    assert capture.only().facts()["answer"]["finish_reason"] == "cancelled"


def test_asking_in_vain(model: ScriptedModel, background: openai.OpenAI, capture: RecordingCapture) -> None:
    """A retrieval that fails says nothing about the response: the next one brings the answer."""
    queued = background.responses.create(**RESPONSES, extra_body=LATER)
    with pytest.raises(openai.BadRequestError):
        background.with_options(base_url=model.base_url("r-bad-request")).responses.retrieve(queued.id)
    assert capture.only().ends == 0
    background.responses.retrieve(queued.id)
    assert len(source(capture)) == 1


def test_a_background_stream_left_and_taken_up_again(model: ScriptedModel, capture: RecordingCapture) -> None:
    """A background stream that breaks off is not the end of its turn."""
    stainless_background._waiting.clear()
    with client_for(model, "r-stream") as client:
        with client.responses.create(**RESPONSES, extra_body=LATER, stream=True) as stream:
            next(stream)
        assert capture.only().ends == 0
        list(client.get("/responses/resp_1?stream=true", cast_to=object, stream=True, stream_cls=openai.Stream[object]))
    assert source(capture) == [HELLO]


def test_background_responses_that_nobody_asks_for(
    background: openai.OpenAI, capture: RecordingCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only so many are waited for; the oldest is then recorded as it was."""
    monkeypatch.setattr(stainless_background, "MAX_WAITING", 0)
    background.responses.create(**RESPONSES, extra_body=LATER)
    assert capture.only().facts()["answer"] == {
        "messages": [{"role": "assistant"}],
        "model": "gpt-5-mini-2025-08-07",
        "finish_reason": "queued",
        "response_id": "resp_1",
        "metadata": {"responseId": "resp_1"},
    }


def test_a_background_response_that_takes_too_long(
    model: ScriptedModel, capture: RecordingCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that nobody has asked for within an hour is recorded as it was, once another one comes."""
    stainless_background._waiting.clear()
    clock, numbers = [1_000.0], itertools.count(1)
    monkeypatch.setattr(stainless_background, "monotonic", lambda: clock[0])
    model.scripts["queue"] = lambda request: scripted.document(QUEUED | {"id": f"resp_{next(numbers)}"})
    with client_for(model, "queue") as client:
        for seconds, ends in ((0, [0]), (3_599, [0, 0]), (2, [1, 0, 0])):
            clock[0] += seconds
            client.responses.create(**RESPONSES, extra_body=LATER)
            assert [call.ends for call in capture.calls] == ends
    assert capture.calls[0].facts()["answer"]["finish_reason"] == "queued"


def test_a_background_call_that_fails(model: ScriptedModel, capture: RecordingCapture) -> None:
    """One that is refused at once is a failed call like any other."""
    with client_for(model, "r-bad-request") as client, pytest.raises(openai.BadRequestError):
        client.responses.create(**RESPONSES, extra_body=LATER)
    assert capture.only().facts()["error"] == "BadRequestError"


def test_responses_that_go_on(model: ScriptedModel, capture: RecordingCapture) -> None:
    """A request that continues a response or a conversation names it."""
    with client_for(model, "r-text") as client:
        client.responses.create(**RESPONSES, previous_response_id="resp_0")
        client.responses.create(**RESPONSES, extra_body={"conversation": "conv_1"})
        client.responses.create(**RESPONSES, extra_body={"conversation": {"id": "conv_2"}})
    assert [call.request.previous for call in capture.calls] == ["resp_0", "conv_1", "conv_2"]
