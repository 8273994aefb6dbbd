"""From the google-genai client to the stored conversation: each row of what may happen, as a reader finds it."""

from __future__ import annotations

import asyncio
import gc
import hashlib
from typing import TYPE_CHECKING, Any

import pytest
from google import genai
from google.genai import types

from converra.capture.recorder import Recorder
from converra.config import load
from converra.server.run import LocalServer, serve
from tests.integrations import scripted
from tests.integrations import stored as shared
from tests.integrations.google_genai_shapes import (
    HAS_INTERACTIONS,
    MODEL,
    RETURNED,
    SCRIPTS,
    SENDS_AT_ONCE,
    SHAPES,
    WEATHER,
    client_for,
    close_async,
    get_weather,
    interact,
    sync,
)
from tests.integrations.stored import bare, recorder_for
from tests.patience import LONG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.integrations.scripted import ScriptedModel

SYSTEM = {"role": "system", "content": "Be brief."}
HI = {"role": "user", "content": "Hi"}
ORDER = {"role": "user", "content": "Where is my order 4711?"}
ANSWERED: dict[str, Any] = {
    "role": "assistant",
    "model": "gemini-2.5-flash",
    "tokens": 9,
    "usage": {"promptTokens": 21, "completionTokens": 9},
    "metadata": {"usageDetails": {"cachedTokens": 16, "reasoningTokens": 4, "promptImageTokens": 8}},
}
DETAILS = ANSWERED["metadata"]
STREAMED = {"role": "assistant", "model": "gemini-2.5-flash", "metadata": {"reasoning": "Weighing it."}}


def counted(prompt: int, completion: int) -> dict[str, Any]:
    """Counts of an answer."""
    return {"tokens": completion, "usage": {"promptTokens": prompt, "completionTokens": completion}}


STORED: dict[str, Any] = {
    "text": [
        SYSTEM,
        ORDER,
        {
            "role": "assistant",
            "content": "Order 4711 is on its way and arrives on Thursday.",
            "model": "gemini-2.5-flash-stand-in",
            **counted(15, 11),
        },
    ],
    "functions-called": [
        SYSTEM,
        {"role": "user", "content": WEATHER},
        {
            "role": "tool",
            "content": "",
            "model": "gemini-2.5-flash-stand-in",
            **counted(42, 10),
            "toolCalls": [{"name": "get_weather", "arguments": {"city": "Paris"}}],
        },
        {"role": "tool", "content": "sunny in Paris", "toolCalls": [{"name": "get_weather"}]},
        {
            "role": "assistant",
            "content": "It is sunny in Paris.",
            "model": "gemini-2.5-flash-stand-in",
            **counted(51, 6),
        },
    ],
    "code": [
        SYSTEM,
        ORDER,
        {"role": "assistant", "content": "Let me count."},
        {
            "role": "tool",
            "content": "42\n",
            "toolCalls": [{"name": "code_execution", "arguments": {"language": "PYTHON", "code": "print(6 * 7)"}}],
            "metadata": {
                "item": {
                    "call": {"language": "PYTHON", "code": "print(6 * 7)"},
                    "result": {"outcome": "OUTCOME_OK", "output": "42\n"},
                }
            },
        },
        ANSWERED | {"content": "It is 42."},
    ],
    "thoughts": [SYSTEM, ORDER, ANSWERED | {"content": "Yes.", "metadata": {"reasoning": "Hm.", **DETAILS}}],
    "filtered": [
        SYSTEM,
        ORDER,
        ANSWERED | {"content": "(no text: SAFETY)", "metadata": {"finishReason": "SAFETY", **DETAILS}},
    ],
    "blocked": [
        SYSTEM,
        {"role": "user", "content": "[[refuse]]"},
        {
            "role": "assistant",
            "content": "I cannot help with that.",
            "model": "gemini-2.5-flash-stand-in",
            **counted(14, 0),
            "metadata": {"refusal": True, "finishReason": "PROHIBITED_CONTENT"},
        },
    ],
    "stream-text": [SYSTEM, HI, STREAMED | {"content": "Hello there!", **counted(21, 5)}],
    "stream-closed": [
        SYSTEM,
        HI,
        STREAMED | {"content": "Hel", **counted(21, 1), "metadata": {"reasoning": "Weighing it.", "partial": True}},
    ],
    "stream-error": [
        SYSTEM,
        HI,
        STREAMED
        | {
            "content": "Hello",
            **counted(21, 2),
            "metadata": {
                "reasoning": "Weighing it.",
                "partial": True,
                "error": {"type": "ServerError", "status": 503},
            },
        },
    ],
    "bad-request": [
        SYSTEM,
        {"role": "user", "content": "[[error:400]]", "metadata": {"error": {"type": "ClientError", "status": 400}}},
    ],
}
if SENDS_AT_ONCE:
    told = {"reasoning": "Weighing it.", "error": {"type": "INVALID_ARGUMENT", "status": 503}}
    STORED["stream-error"][-1] = STREAMED | {"content": "Hello", **counted(21, 2), "metadata": told}
UNANSWERED = ("bad-request",)


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with serve() as running:
        yield running


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedModel]:
    with scripted.serve(SCRIPTS) as served:
        yield served


@pytest.fixture
def recorder(server: LocalServer) -> Iterator[Recorder]:
    with recorder_for(server) as made:
        yield made


@pytest.fixture(scope="module")
def client(server: LocalServer) -> genai.Client:
    """A client of the local server's stand-in model."""
    return genai.Client(api_key="k", http_options=types.HttpOptions(base_url=server.google_url))


def stored(
    server: LocalServer, recorder: Recorder, talk: Callable[[], Any], *, answered: bool = True
) -> list[dict[str, Any]]:
    """Run something in a conversation, have its streams collected, and read what the API then holds of it."""
    return shared.stored(server, recorder, lambda: (talk(), gc.collect()), answered=answered)


@pytest.mark.parametrize("name", list(STORED))
@pytest.mark.parametrize("prefix", ["", "async-"])
def test_what_is_stored(name: str, prefix: str, server: LocalServer, recorder: Recorder, model: ScriptedModel) -> None:
    """Each row of what may happen is stored as the contract says, sync and async alike."""
    shape = next(shape for shape in SHAPES if shape.name == prefix + name)
    messages = stored(server, recorder, lambda: shape.run(model), answered=name not in UNANSWERED)
    assert messages == STORED[name]


def words(messages: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Roles and contents; a turn that only calls tools has their names for content."""
    names = [",".join(call["name"] for call in m.get("toolCalls", ())) for m in messages]
    return [(m["role"], m["content"] or f"({name})") for m, name in zip(messages, names, strict=True)]


TALK = ["[[reasoning:Let me see.]] Hello", WEATHER, "Where is my order 4711?", '[[tool:get_weather {"city": "Rome"}]]']
SAID = [
    ("user", TALK[0]),
    ("assistant", "Hello! How can I help you today?"),
    ("user", WEATHER),
    ("tool", "(get_weather)"),
    ("tool", "sunny in Paris"),
    ("assistant", "It is sunny in Paris."),
    ("user", TALK[2]),
    ("assistant", "Order 4711 is on its way and arrives on Thursday."),
    ("user", TALK[3]),
    ("tool", "(get_weather)"),
    ("tool", "sunny in Rome"),
    ("assistant", "The tool says: sunny in Rome"),
]


def _sent(client: genai.Client, *, streams: bool, model: str) -> None:
    chat = client.chats.create(model=model, config={"tools": [get_weather]})
    for text in TALK:
        if streams:
            list(chat.send_message_stream(text))
        else:
            chat.send_message(text)


async def _sent_async(client: genai.Client, *, streams: bool, model: str) -> None:
    chat = client.aio.chats.create(model=model, config={"tools": [get_weather]})
    for text in TALK:
        if streams:
            async for _ in await chat.send_message_stream(text):
                pass
        else:
            await chat.send_message(text)
    await close_async(client)


@pytest.mark.parametrize("model_name", [MODEL, "gemini-3-flash"])
@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_chat_is_recorded_once(
    server: LocalServer, recorder: Recorder, *, is_async: bool, streams: bool, model_name: str
) -> None:
    """A chat resends all of its history, a streamed answer in its chunks; each hop of its functions is a turn."""
    client = genai.Client(api_key="k", http_options=types.HttpOptions(base_url=server.google_url))

    def talk() -> None:
        if is_async:
            asyncio.run(_sent_async(client, streams=streams, model=model_name))
        else:
            _sent(client, streams=streams, model=model_name)

    messages = stored(server, recorder, talk)
    assert words(messages) == SAID
    made, answered = messages[3]["toolCalls"][0], messages[4]["toolCalls"][0]
    assert (made["name"], answered["name"]) == ("get_weather", "get_weather")
    assert made.get("id") == answered.get("id")
    assert (made.get("id") is None) == (model_name == MODEL)


def test_a_chat_outside_of_any_block(server: LocalServer, client: genai.Client) -> None:
    """With a prompt id, the requests of one chat are one conversation, and those of two chats are two."""
    settings = {"api_key": "k", "base_url": server.base_url, "prompt_id": "prompt_chats", "timeout": LONG}
    recorder = Recorder(load(settings, {}))
    recorder.instrument()
    try:
        chats = [client.chats.create(model=MODEL) for _ in range(2)]
        for text in ("Hello", "Thanks!", "Bye"):
            for chat in chats:
                list(chat.send_message_stream(text))
    finally:
        recorder.uninstrument()
        assert recorder.shutdown(LONG)
    found, _ = server.store.conversations(prompt_id="prompt_chats")
    said = [words([bare(m) for m in server.store.messages(c)]) for c in found]
    assert [[text for role, text in one if role == "user"] for one in said] == [["Hello", "Thanks!", "Bye"]] * 2
    assert [len(one) for one in said] == [6, 6]


@pytest.mark.skipif(not HAS_INTERACTIONS, reason="this version has no interactions")
def test_a_chain_of_interactions(server: LocalServer, recorder: Recorder, model: ScriptedModel) -> None:
    """The provider keeps the history: each request brings only what is new, and continues the conversation."""

    def talk() -> None:
        for row in (
            interact("first", "interaction-calls"),
            interact("second", input=RETURNED, previous_interaction_id="int-1"),
        ):
            sync(row)(model)

    messages = stored(server, recorder, talk)
    assert words(messages) == [
        ("system", "Be brief."),
        ("user", "Hi"),
        ("tool", "(get_weather)"),
        ("tool", "sunny"),
        ("assistant", "Hello there!"),
    ]
    assert [m["toolCalls"][0]["id"] for m in messages[2:4]] == ["c1", "c1"]


@pytest.mark.skipif(not HAS_INTERACTIONS, reason="this version has no interactions")
def test_a_failed_interaction(server: LocalServer, recorder: Recorder, model: ScriptedModel) -> None:
    """The error is recorded by the name of the exception that the app gets, with its HTTP status."""
    raised: list[str] = []

    def ask() -> None:
        with client_for(model, interact("bad", "interaction-bad")) as client, pytest.raises(Exception) as caught:  # noqa: PT011 - its name is compared
            client.interactions.create(model="gemini-3-flash", input="Hi")
        raised.append(type(caught.value).__name__)

    (question,) = stored(server, recorder, ask, answered=False)
    assert question["metadata"] == {"error": {"type": raised[0], "status": 400}}


def test_embedded_data_is_described(server: LocalServer, recorder: Recorder, client: genai.Client) -> None:
    """Kind, type, size and digest, of bytes that the SDK encodes for URLs as well."""
    data = b"\xfb\xff\xfe a picture"
    part = types.Part.from_bytes(data=data, mime_type="image/png")
    question, *_ = stored(
        server, recorder, lambda: client.models.generate_content(model=MODEL, contents=[part, "What is this?"])
    )
    assert question["content"] == f"[image: image/png, {len(data)} bytes]\nWhat is this?"
    assert question["metadata"]["attachments"] == [
        {"kind": "image", "mime": "image/png", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    ]
