"""From the client of a gateway that imitates OpenAI to the stored conversation: odd answers, and what is resent."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import TYPE_CHECKING, Any

import openai
import pytest

from tests.integrations import scripted
from tests.integrations.chat_scripts import chunk, completion
from tests.integrations.openai_shapes import client_for
from tests.integrations.responses_scripts import function_call, message, response, text_events
from tests.integrations.stored import bare, recorder_for, stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from converra.capture.recorder import Recorder
    from converra.server.run import LocalServer
    from tests.integrations.scripted import Received, Reply, ScriptedModel


class Gateway:
    """A model that answers in turn what it is told to answer."""

    def __init__(self) -> None:
        self.replies: Iterator[Reply] = iter(())

    def __call__(self, _request: Received) -> Reply:
        return next(self.replies)


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


@pytest.fixture
def model(gateway: Gateway) -> Iterator[ScriptedModel]:
    with scripted.serve({"gateway": gateway}) as served:
        yield served


@pytest.fixture
def client(model: ScriptedModel) -> Iterator[openai.OpenAI]:
    with client_for(model, "gateway") as made:
        yield made


HI: Any = [{"role": "user", "content": "Hi"}]

EMPTY_CALLS: list[Any] = [
    {"id": "", "type": "function", "function": {"name": "", "arguments": ""}},
    {"index": 0, "id": None, "function": {"name": None, "arguments": None}},
    {"index": 0, "id": "call_1", "function": {"name": "", "arguments": "{}"}},
    {"index": 0, "id": "", "function": {"name": "", "arguments": {}}},
    {"index": 0, "id": 7, "function": {"arguments": ""}},
    {"index": 0, "id": "", "function": None},
    {"id": "", "custom": {"name": "", "input": ""}},
    {},
]


def _answer(call: Any, *, stream: bool) -> Reply:
    """A text with an empty call beside it, of a gateway that does not say which model it is."""
    if stream:
        pieces = [chunk({"content": "Hello"}), chunk({"content": "!", "tool_calls": [call]}), chunk({}, finish="stop")]
        return scripted.stream(*[{key: value for key, value in piece.items() if key != "model"} for piece in pieces])
    whole = completion({"content": "Hello!", "tool_calls": [call]})
    return scripted.document({key: value for key, value in whole.items() if key != "model"})


def _ask(client: openai.OpenAI, messages: Any, *, stream: bool) -> None:
    answer = client.chat.completions.create(model="tiny", messages=messages, stream=stream)
    if isinstance(answer, openai.Stream):
        list(answer)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("call", EMPTY_CALLS, ids=json.dumps)
def test_an_empty_call_beside_a_text(
    call: Any, stream: bool, client: openai.OpenAI, gateway: Gateway, server: LocalServer, recorder: Recorder
) -> None:
    """It is no call, also where the app resends it; the model is the one that was asked for, and marked as such."""
    gateway.replies = iter([_answer(call, stream=stream), _answer(call, stream=stream)])
    again = [*HI, {"role": "assistant", "content": "Hello!", "tool_calls": [call]}, {"role": "user", "content": "So?"}]

    def talk() -> None:
        _ask(client, HI, stream=stream)
        _ask(client, again, stream=stream)

    messages = stored(server, recorder, talk)
    answered = [m for m in messages if m["role"] != "user"]
    assert [m["content"] for m in messages] == ["Hi", "Hello!", "So?", "Hello!"]
    assert [m.get("toolCalls") for m in messages] == [None] * 4
    assert [(m["model"], m["metadata"]["modelRequested"]) for m in answered] == [("tiny", True)] * 2


@pytest.mark.parametrize("stream", [False, True])
def test_arguments_for_nothing(
    stream: bool, client: openai.OpenAI, gateway: Gateway, server: LocalServer, recorder: Recorder
) -> None:
    """Arguments without a name and an id are no call, and are kept."""
    gateway.replies = iter([_answer({"index": 0, "id": "", "function": {"arguments": '{"a": 1}'}}, stream=stream)])
    (_, answer) = stored(server, recorder, lambda: _ask(client, HI, stream=stream))
    assert (answer["content"], answer.get("toolCalls")) == ("Hello!", None)
    assert answer["metadata"]["unnamedCalls"] == ['{"a": 1}']


# -- the model that was asked for --------------------------------------------------------------------------------------


def _no_model(document: dict[str, Any]) -> dict[str, Any]:
    """The document without the name of a model, also where it holds a response."""
    kept = {key: value for key, value in document.items() if key != "model"}
    return {**kept, "response": _no_model(kept["response"])} if "response" in kept else kept


def _plain_chat(client: openai.OpenAI, url: str) -> None:
    client.chat.completions.create(model="tiny", messages=HI)


def _raw_chat(client: openai.OpenAI, url: str) -> None:
    client.chat.completions.with_raw_response.create(model="tiny", messages=HI)


async def _async(url: str) -> None:
    async with openai.AsyncOpenAI(api_key="k", base_url=url, max_retries=0) as client:
        await client.chat.completions.create(model="tiny", messages=HI)


def _async_chat(client: openai.OpenAI, url: str) -> None:
    asyncio.run(_async(url))


def _response(client: openai.OpenAI, url: str) -> None:
    client.responses.create(model="tiny", input="Hi")


def _response_stream(client: openai.OpenAI, url: str) -> None:
    list(client.responses.create(model="tiny", input="Hi", stream=True))


CHAT = scripted.document(_no_model(completion({"content": "Hello!"})))
WAYS: dict[str, tuple[Callable[[openai.OpenAI, str], None], Reply]] = {
    "chat": (_plain_chat, CHAT),
    "raw": (_raw_chat, CHAT),
    "async": (_async_chat, CHAT),
    "response": (_response, scripted.document(_no_model(response(message("Hello!"))))),
    "response stream": (
        _response_stream,
        scripted.stream(*map(_no_model, text_events("Hel", "lo!")), done=False, named=True),
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_that_names_no_model(
    way: str, client: openai.OpenAI, gateway: Gateway, server: LocalServer, recorder: Recorder
) -> None:
    """The model that was asked for is stored, and said to be that."""
    ask, reply = WAYS[way]
    gateway.replies = iter([reply])
    messages = stored(server, recorder, lambda: ask(client, str(client.base_url)))
    assert [(m["role"], m["content"], m.get("model")) for m in messages] == [
        ("user", "Hi", None),
        ("assistant", "Hello!", "tiny"),
    ]
    assert messages[1]["metadata"]["modelRequested"] is True


def test_an_answer_that_names_its_model(
    client: openai.OpenAI, gateway: Gateway, server: LocalServer, recorder: Recorder
) -> None:
    """Where the answer names a model, that one is stored, without a mark."""
    gateway.replies = iter([scripted.document(completion({"content": "Hello!"}))])
    (_, answer) = stored(server, recorder, lambda: _plain_chat(client, ""))
    assert answer["model"] == "gpt-4o-2024-08-06"
    assert "modelRequested" not in answer["metadata"]


# -- what is resent ----------------------------------------------------------------------------------------------------

GRAZ, LINZ = {"city": "Graz"}, {"city": "Linz"}


def _called(ids: tuple[Any, Any], arguments: tuple[Any, Any], *, stream: bool) -> Reply:
    calls = [
        {"index": 0, "id": call_id, "type": "function", "function": {"name": "find", "arguments": given}}
        for call_id, given in zip(ids, arguments, strict=True)
    ]
    if not stream:
        return scripted.document(completion({"content": None, "tool_calls": calls}, finish="tool_calls", id=5))
    return scripted.stream(*[{**chunk({"tool_calls": [call]}), "id": 5} for call in calls], chunk({}, finish="stop"))


TEXTS = (json.dumps(GRAZ), json.dumps(LINZ))


@pytest.mark.parametrize(
    ("arguments", "stream", "resent", "implicit"),
    [*itertools.product([(GRAZ, LINZ), TEXTS], [False, True], [str, int], [False, True])],
)
def test_ids_that_are_numbers(  # noqa: PLR0917 - parametrised values and fixtures
    arguments: tuple[Any, Any],
    stream: bool,
    resent: type,
    implicit: bool,
    client: openai.OpenAI,
    gateway: Gateway,
    server: LocalServer,
    recorder: Recorder,
) -> None:
    """Calls all numbered 0 with numbers for ids: two calls, whose results keep their name, and nothing comes twice."""
    gateway.replies = iter(
        [_called((0, 1), arguments, stream=stream), scripted.document(completion({"content": "Sunny."}))]
    )
    calls = [
        {"id": resent(n), "type": "function", "function": {"name": "find", "arguments": json.dumps(given)}}
        for n, given in enumerate((GRAZ, LINZ))
    ]
    results = [{"role": "tool", "tool_call_id": resent(n), "content": f"dry {n}"} for n in range(2)]

    def talk() -> None:
        _ask(client, HI, stream=stream)
        _ask(client, [*HI, {"role": "assistant", "content": None, "tool_calls": calls}, *results], stream=False)

    messages = implicitly(server, talk) if implicit else stored(server, recorder, talk)
    assert [(m["role"], m["content"], m.get("toolCalls")) for m in messages] == [
        ("user", "Hi", None),
        (
            "tool",
            "",
            [{"id": "0", "name": "find", "arguments": GRAZ}, {"id": "1", "name": "find", "arguments": LINZ}],
        ),
        ("tool", "dry 0", [{"id": "0", "name": "find"}]),
        ("tool", "dry 1", [{"id": "1", "name": "find"}]),
        ("assistant", "Sunny.", None),
    ]


def implicitly(server: LocalServer, talk: Callable[[], None]) -> list[dict[str, Any]]:
    """Run something outside of any conversation, and read the only one that it made."""
    before = {found.id for found in server.store.conversations(limit=1_000)[0]}
    with recorder_for(server, prompt_id="prompt_2"):
        talk()
    (found,) = [found for found in server.store.conversations(limit=1_000)[0] if found.id not in before]
    return [bare(message) for message in server.store.messages(found)]


def test_responses_with_numbers_for_ids(
    client: openai.OpenAI, gateway: Gateway, server: LocalServer, recorder: Recorder
) -> None:
    """A response and a call are known by their numbers: the chain goes on, and the result keeps its call's name."""
    call = {**function_call(1, "find", json.dumps(GRAZ)), "call_id": 1}
    whole = [response(call), response(message("Sunny."))]
    gateway.replies = iter([scripted.document({**own, "id": n}) for n, own in enumerate(whole, 8)])

    def talk() -> None:
        client.responses.create(model="tiny", input="Hi")
        result: Any = [{"type": "function_call_output", "call_id": 1, "output": "dry"}]
        before: Any = 8
        client.responses.create(model="tiny", input=result, previous_response_id=before)

    messages = implicitly(server, talk)
    assert [(m["role"], m["content"], m.get("toolCalls")) for m in messages] == [
        ("user", "Hi", None),
        ("tool", "", [{"id": "1", "name": "find", "arguments": GRAZ}]),
        ("tool", "dry", [{"id": "1", "name": "find"}]),
        ("assistant", "Sunny.", None),
    ]


@pytest.mark.parametrize("stream", [False, True])
def test_legacy_functions(
    stream: bool, client: openai.OpenAI, gateway: Gateway, server: LocalServer, recorder: Recorder
) -> None:
    """Arguments of a legacy function that are an object stay one, and are the same when they come back as text."""
    called = {"content": None, "function_call": {"name": "find", "arguments": GRAZ}}
    first = scripted.stream(chunk(called), chunk({}, finish="function_call")) if stream else None
    first = first or scripted.document(completion(called, finish="function_call"))
    gateway.replies = iter([first, scripted.document(completion({"content": "Sunny."}))])
    text = {"name": "find", "arguments": '{"city":"Graz"}'}
    function = {"role": "function", "name": "find", "content": "dry"}

    def talk() -> None:
        _ask(client, HI, stream=stream)
        _ask(client, [*HI, {"role": "assistant", "content": None, "function_call": text}, function], stream=False)

    messages = stored(server, recorder, talk)
    assert [(m["role"], m["content"], m.get("toolCalls")) for m in messages] == [
        ("user", "Hi", None),
        ("tool", "", [{"name": "find", "arguments": GRAZ}]),
        ("tool", "dry", [{"name": "find"}]),
        ("assistant", "Sunny.", None),
    ]


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("field", ["content", "refusal", "reasoning_content"])
def test_an_emoji_cut_in_two(
    field: str, raw: bool, client: openai.OpenAI, gateway: Gateway, server: LocalServer, recorder: Recorder
) -> None:
    """Half a character in each of two chunks is one character, which the app may resend whole."""
    halves = [chunk({field: "Oh \ud83d"}), chunk({field: "\ude00!"}), chunk({}, finish="stop")]
    gateway.replies = iter([scripted.stream(*halves), scripted.document(completion({"content": "So."}))])
    resent = {"role": "assistant", "content": "", field: "Oh 😀!"}

    def talk() -> None:
        if raw:
            create = client.chat.completions.with_streaming_response.create
            with create(model="tiny", messages=HI, stream=True) as body:
                list(itertools.chain.from_iterable(body.iter_bytes()))
        else:
            _ask(client, HI, stream=True)
        _ask(client, [*HI, resent, {"role": "user", "content": "So?"}], stream=False)

    _, answer, *rest = stored(server, recorder, talk)
    source = answer["metadata"]["reasoning"] if field == "reasoning_content" else answer["content"]
    assert source == "Oh 😀!"
    assert [m["content"] for m in rest] == ["So?", "So."]
