"""The ollama integration keeps the promises of every integration, and records what the server reported."""

from __future__ import annotations

import asyncio
import hashlib
from functools import partial
from typing import TYPE_CHECKING, Any

import ollama
import pytest

from converra.integrations.ollama import INTEGRATION
from tests.integrations import scripted
from tests.integrations.conformance import Conformance, Subject, combined
from tests.integrations.ollama_shapes import CHAT, PNG, SCRIPTS, SHAPES
from tests.integrations.stored import recorder_for, stored
from tests.patience import LONG

if TYPE_CHECKING:
    from converra.capture.recorder import Recorder
    from converra.server.run import LocalServer


def functions() -> list[tuple[Any, str]]:
    return [(ollama.Client, "_request"), (ollama.AsyncClient, "_request")]


class TestOllama(Conformance):
    """Over real HTTP, with the real client."""

    subject = Subject(INTEGRATION, functions, combined(SHAPES), lambda: scripted.serve(SCRIPTS), SHAPES[0])


SYSTEM = {"role": "system", "content": "Be brief."}
HI = {"role": "user", "content": "Hi"}
DETAILS = {"usageDetails": {"total_duration": 9_000_000, "load_duration": 1_000_000}}
REPLY: dict[str, Any] = {"role": "assistant", "model": "llama3.2"}
COUNTED: dict[str, Any] = {"tokens": 9, "usage": {"promptTokens": 21, "completionTokens": 9}}
HELLO = REPLY | COUNTED | {"content": "Hello there!", "metadata": DETAILS}
CALL = {"name": "get_weather", "arguments": {"city": "Paris"}}
PICTURE = {"kind": "image", "mime": "image/png", "bytes": len(PNG), "sha256": hashlib.sha256(PNG).hexdigest()}


def known(model: Any, field: str, facts: dict[str, Any]) -> dict[str, Any]:
    """Facts of a field; nothing where the client's version has no such field, as 0.4 has not all, and drops it."""
    return facts if field in model.model_fields else {}


NAMED: dict[str, Any] = {"toolCalls": [{"name": "get_weather"}]}
LOGPROBS = known(ollama.ChatResponse, "logprobs", {"logprobs": {"tokens": 1, "mean": -0.5, "lowest": -0.5}})
DRAWN = known(
    ollama.GenerateResponse,
    "image",
    {"content": f"[image: image/png, {len(PNG)} bytes]", "metadata": {**DETAILS, "attachments": [PICTURE]}},
)
THOUGHT = known(ollama.GenerateResponse, "thinking", {"reasoning": "Weighing it."})

STORED: dict[str, list[dict[str, Any]]] = {
    "chat-text": [SYSTEM, HI, HELLO],
    "chat-objects": [HI, HELLO],
    "chat-thought": [
        SYSTEM,
        HI,
        REPLY | COUNTED | {"content": "Yes.", "metadata": {**DETAILS, "reasoning": "Weighing it."}},
    ],
    "chat-tools": [
        SYSTEM,
        HI,
        REPLY | COUNTED | {"role": "tool", "content": "", "toolCalls": [CALL, CALL], "metadata": DETAILS},
    ],
    "chat-returned": [
        SYSTEM,
        HI,
        {"role": "tool", "content": "", "toolCalls": [CALL, CALL]},
        {"role": "tool", "content": "sunny", **NAMED},
        {"role": "tool", "content": "rainy", **NAMED},
        HELLO,
    ],
    "chat-picture": [
        {
            "role": "user",
            "content": f"See\n[image: image/png, {len(PNG)} bytes]",
            "metadata": {"attachments": [PICTURE]},
        },
        HELLO,
    ],
    "chat-length": [
        SYSTEM,
        HI,
        REPLY | COUNTED | {"content": "Hel", "metadata": {**DETAILS, "finishReason": "length"}},
    ],
    "chat-logprobs": [
        SYSTEM,
        HI,
        REPLY | COUNTED | {"content": "Hi", "metadata": {**DETAILS, **LOGPROBS}},
    ],
    "chat-missing": [SYSTEM, HI | {"metadata": {"error": {"type": "ResponseError", "status": 404}}}],
    "stream-text": [SYSTEM, HI, HELLO],
    "stream-thought": [SYSTEM, HI, HELLO | {"metadata": {**DETAILS, "reasoning": "Weighing it."}}],
    "stream-tools": [
        SYSTEM,
        HI,
        REPLY | COUNTED | {"role": "tool", "content": "", "toolCalls": [CALL], "metadata": DETAILS},
    ],
    "stream-closed": [SYSTEM, HI, REPLY | {"content": "Hello", "metadata": {"partial": True}}],
    "stream-dropped": [SYSTEM, HI, REPLY | {"content": "Hello", "metadata": {"partial": True}}],
    "stream-cut": [
        SYSTEM,
        HI,
        REPLY | {"content": "Hello", "metadata": {"partial": True, "error": {"type": "RemoteProtocolError"}}},
    ],
    "stream-error": [
        SYSTEM,
        HI,
        REPLY | {"content": "Hello", "metadata": {"partial": True, "error": {"type": "ResponseError"}}},
    ],
    "stream-missing": [SYSTEM, HI | {"metadata": {"error": {"type": "ResponseError", "status": 404}}}],
    "generate": [SYSTEM, HI, HELLO | {"metadata": {**DETAILS, **THOUGHT}}],
    "generate-picture": [
        SYSTEM,
        HI,
        REPLY | COUNTED | {"content": "(no text: stop)", "metadata": DETAILS} | DRAWN,
    ],
    "generate-stream": [SYSTEM, HI, HELLO],
}
UNANSWERED = ("chat-missing", "stream-missing")


def test_what_is_stored(server: LocalServer, recorder: Recorder) -> None:
    """Each row of what may happen is stored as the contract says, sync and async alike."""
    with scripted.serve(SCRIPTS) as model:
        for shape in SHAPES:
            name = shape.name.removeprefix("async-")
            if name in STORED:
                messages = stored(server, recorder, partial(shape.run, model), answered=name not in UNANSWERED)
                assert (shape.name, messages) == (shape.name, STORED[name])


def said(server: LocalServer, prompt_id: str) -> list[list[tuple[str, str]]]:
    found, _ = server.store.conversations(prompt_id=prompt_id)
    return [[(m["role"], m["content"]) for m in server.store.messages(one)] for one in found]


def test_a_chat_that_resends_its_history(server: LocalServer) -> None:
    """Tools without ids, thoughts that are handed back: what is resent is recorded once, outside of any block."""
    with recorder_for(server, prompt_id="prompt_ollama"), scripted.serve(SCRIPTS) as model:
        history: list[Any] = [{"role": "user", "content": "Weather?"}]
        for script in ("tools", "thought", "stream-thought"):
            client = ollama.Client(model.base_url(script).removesuffix("/v1"), verify=False)
            if script.startswith("stream"):
                list(client.chat("llama3.2", history, stream=True))
            else:
                history.append(client.chat("llama3.2", history).message)
            if script == "tools":
                history += [{"role": "tool", "content": words, "tool_name": "get_weather"} for words in ("a", "b")]
            else:
                history.append({"role": "user", "content": "Thanks!"})
            client._client.close()
    assert said(server, "prompt_ollama") == [
        [
            *[("user", "Weather?"), ("tool", ""), ("tool", "a"), ("tool", "b"), ("assistant", "Yes.")],
            *[("user", "Thanks!"), ("assistant", "Hello there!")],
        ]
    ]


def test_results_that_do_not_name_their_tools(server: LocalServer) -> None:
    """They are named by the order of the calls, once, and also when the calls are missing from the history."""
    calls: list[Any] = [{"function": {"name": name, "arguments": {}}} for name in ("look_up", "look_up", "pay")]
    results: list[Any] = [{"role": "tool", "content": words} for words in ("late", "lost", "paid", "unasked")]
    with recorder_for(server, prompt_id="prompt_nameless"), scripted.serve(SCRIPTS) as model:
        client = ollama.Client(model.base_url("text").removesuffix("/v1"), verify=False)
        asked: list[Any] = [{"role": "user", "content": "Where?"}, {"role": "assistant", "tool_calls": calls}]
        history = [*asked, *results]
        answer = client.chat("llama3.2", history).message
        for trimmed in ([*history, answer], [*results, answer]):
            client.chat("llama3.2", [*trimmed, {"role": "user", "content": "Thanks!"}])
        client._client.close()
    found, _ = server.store.conversations(prompt_id="prompt_nameless")
    results_stored = [one for one in server.store.messages(found[-1]) if one["role"] == "tool" and one["content"]]
    names = [[call["name"] for call in one.get("toolCalls") or ()] for one in results_stored]
    assert names == [["look_up"], ["look_up"], ["pay"], []]
    assert [one["content"] for one in results_stored] == ["late", "lost", "paid", "unasked"]


def test_a_prompt_continues_the_answer_whose_tokens_it_brings(server: LocalServer) -> None:
    """`generate` keeps no history but the tokens: they name the conversation."""
    with recorder_for(server, prompt_id="prompt_tokens"), scripted.serve(SCRIPTS) as model:
        client = ollama.Client(model.base_url("generate").removesuffix("/v1"), verify=False)
        first = client.generate("llama3.2", "Hi")
        client.generate("llama3.2", "More?", context=first.context)
        client._client.close()
    hello = ("assistant", "Hello there!")
    assert said(server, "prompt_tokens") == [[("user", "Hi"), hello, ("user", "More?"), hello]]


def test_a_stream_belongs_to_the_conversation_in_which_it_was_made(server: LocalServer, recorder: Recorder) -> None:
    """The client sends a stream's request when it is first read, which a web app does after its handler's block."""
    with scripted.serve(SCRIPTS) as model:
        client = ollama.Client(model.base_url("stream").removesuffix("/v1"), verify=False)
        with recorder.conversation("prompt_later"):
            stream = client.chat(**CHAT, stream=True)
            unread = client.chat(**CHAT | {"messages": [{"role": "user", "content": "Unasked"}]}, stream=True)
        with recorder.conversation("prompt_other"):
            assert len(list(stream)) == 5
        del unread
        client._client.close()
    assert recorder.flush(LONG)
    assert said(server, "prompt_other") == []
    assert said(server, "prompt_later") == [[("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello there!")]]
    (found,), _ = server.store.conversations(prompt_id="prompt_later")
    assert found.status == "completed"


def test_below_langchain(server: LocalServer) -> None:
    """LangChain's runs on this client, which it always asks for a stream, are recorded once."""
    langchain_ollama: Any = pytest.importorskip("langchain_ollama")

    async def asked(model: Any) -> None:
        await model.ainvoke("Three")
        async for _ in model.astream("Four"):
            pass
        await model._async_client._client.aclose()

    with recorder_for(server) as recorder, scripted.serve(SCRIPTS) as served:
        address = served.base_url("stream").removesuffix("/v1")
        model = langchain_ollama.ChatOllama(model="llama3.2", base_url=address, client_kwargs={"verify": False})
        with recorder.conversation("prompt_langchain"):
            model.invoke("One")
            list(model.stream("Two"))
            asyncio.run(asked(model))
        model._client._client.close()
    hello = ("assistant", "Hello there!")
    assert said(server, "prompt_langchain") == [
        [turn for word in ("One", "Two", "Three", "Four") for turn in (("user", word), hello)]
    ]
