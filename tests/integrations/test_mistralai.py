"""The mistralai integration keeps the promises of every integration, and records what the API reported."""

from __future__ import annotations

import importlib
import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from converra.history.turn import DeferredMessages
from converra.integrations import patching
from converra.integrations.mistralai import INTEGRATION, chat
from tests.integrations import scripted
from tests.integrations.conformance import Conformance, Subject, combined
from tests.integrations.mistralai_shapes import (
    CITED,
    HAS_CONVERSATIONS,
    PACKAGE,
    SCRIPTS,
    SEARCH,
    SHAPES,
    TOOL,
    Connected,
)
from tests.integrations.recording import RecordingCapture
from tests.integrations.stored import recorder_for, stored
from tests.patience import LONG

if TYPE_CHECKING:
    from converra.capture.recorder import Recorder
    from converra.server.run import LocalServer


def functions() -> list[tuple[Any, str]]:
    sending = importlib.import_module(f"{PACKAGE}.basesdk")
    return [(sending.BaseSDK, "do_request"), (sending.BaseSDK, "do_request_async")]


class TestMistral(Conformance):
    """Over real HTTP, with the real client."""

    subject = Subject(INTEGRATION, functions, combined(SHAPES), lambda: scripted.serve(SCRIPTS), SHAPES[0])


SYSTEM = {"role": "system", "content": "Be brief."}
HI = {"role": "user", "content": "Hi"}
REPLY: dict[str, Any] = {"role": "assistant", "model": "gpt-4o-2024-08-06"}
COUNTED: dict[str, Any] = {"tokens": 9, "usage": {"promptTokens": 21, "completionTokens": 9}}
DETAILS = {"usageDetails": {"cachedTokens": 16, "reasoningTokens": 4}}
TALKED: dict[str, Any] = {"role": "assistant", "model": "mistral-medium-2508", **COUNTED}
CONNECTOR = {"usageDetails": {"connector_tokens": 7}}
CALLED = {"id": "call_1", "name": "get_weather", "arguments": {"city": "Paris"}}
SEARCHED: dict[str, Any] = {
    "role": "tool",
    "content": "",
    "toolCalls": [{"id": "t1", "name": "web_search", "arguments": {"query": "x"}}],
}

STORED: dict[str, list[dict[str, Any]]] = {
    "chat-text": [SYSTEM, HI, REPLY | COUNTED | {"content": "Hello there!", "metadata": DETAILS}],
    "chat-prefix": [SYSTEM, HI, REPLY | COUNTED | {"content": "Hello there!", "metadata": DETAILS}],
    "chat-thought": [
        SYSTEM,
        HI,
        REPLY
        | COUNTED
        | {
            "content": "It is said so.",
            "metadata": {
                **DETAILS,
                "reasoning": "Weighing it.",
                "parts": [{"type": "reference", "reference_ids": [1, 2]}],
            },
        },
    ],
    "chat-invalid": [SYSTEM, HI | {"metadata": {"error": {"type": "HTTPValidationError", "status": 422}}}],
    "stream-usage": [SYSTEM, HI, REPLY | COUNTED | {"content": "Hello there!", "metadata": CONNECTOR}],
    "stream-tools": [
        SYSTEM,
        HI,
        REPLY
        | COUNTED
        | {
            "role": "tool",
            "content": "",
            "toolCalls": [{"id": f"call_{n}", "name": name, "arguments": {}} for n, name in enumerate("ab")],
            "metadata": CONNECTOR,
        },
    ],
    "stream-left": [SYSTEM, HI, REPLY | {"content": "Hel", "metadata": {"partial": True}}],
    "stream-cut": [
        SYSTEM,
        HI,
        REPLY | {"content": "Hello", "metadata": {"partial": True, "error": {"type": "RemoteProtocolError"}}},
    ],
    "agent": [HI, REPLY | COUNTED | {"content": "Hello there!", "metadata": {**DETAILS, "agent": "ag_1"}}],
    "conversation-outputs": [
        SYSTEM,
        HI,
        SEARCHED | {"metadata": {"item": SEARCH}},
        TALKED
        | {
            "content": "It is said",
            "toolCalls": [CALLED],
            "metadata": {**CONNECTOR, "reasoning": "Weighing it.", "agent_id": "ag_1", "parts": CITED[2:]},
        },
    ],
    "conversation-stream": [
        SYSTEM,
        HI,
        SEARCHED | {"metadata": {"item": SEARCH | {"output_index": 1}}},
        TALKED
        | {
            "content": "Hello there!",
            "toolCalls": [CALLED],
            "metadata": {**CONNECTOR, "reasoning": "Weighing it."},
        },
    ],
    "conversation-stream-failed": [SYSTEM, HI | {"metadata": {"error": {"type": "3002"}}}],
}
UNANSWERED = ("chat-invalid", "conversation-stream-failed")


def test_what_is_stored(server: LocalServer, recorder: Recorder) -> None:
    """Each row of what may happen is stored as the contract says, sync and async alike."""
    with scripted.serve(SCRIPTS) as model:
        for shape in SHAPES:
            name = shape.name.removeprefix("async-")
            if name in STORED:
                messages = stored(server, recorder, partial(shape.run, model), answered=name not in UNANSWERED)
                assert (shape.name, messages) == (shape.name, STORED[name])


@pytest.mark.skipif(not HAS_CONVERSATIONS, reason="this version has no conversations")
def test_a_conversation_of_the_provider(server: LocalServer) -> None:
    """Outside of any block, requests that name a conversation continue it, though nothing is resent."""
    shapes = {shape.name: shape for shape in SHAPES}
    with recorder_for(server, prompt_id="prompt_mistral") as recorder, scripted.serve(SCRIPTS) as model:
        for name in ("conversation-outputs", "conversation-append", "async-conversation-append-stream"):
            shapes[name].run(model)
        recorder.shutdown(LONG)
    (found,), _ = server.store.conversations(prompt_id="prompt_mistral")
    said = [(message["role"], message["content"]) for message in server.store.messages(found)]
    sunny, hello = ("tool", "sunny"), ("assistant", "Hello there!")
    assert said[:2] == [("system", "Be brief."), ("user", "Hi")]
    assert said[2:] == [("tool", ""), ("assistant", "It is said"), sunny, hello, sunny, hello]


def test_a_chat_is_parsed_when_it_is_needed(server: LocalServer) -> None:
    """In a block a worker parses the messages; outside of any, the resent history finds the conversation."""
    seen: list[Any] = []

    def prompt_of(request: Any) -> str:
        seen.append(request.messages)
        return "prompt_found"

    with recorder_for(server, prompt_id=prompt_of) as recorder, scripted.serve(SCRIPTS) as model:

        def talk() -> None:
            with Connected(model, "text") as client:
                history: list[Any] = [SYSTEM, HI]
                client.chat.complete(model="m", messages=history, tools=[TOOL])
                history += [{"role": "assistant", "content": "Hello there!"}, {"role": "user", "content": "Bye"}]
                client.chat.complete(model="m", messages=history, tools=[TOOL])

        with recorder.conversation("prompt_block"):
            talk()
        talk()
        recorder.shutdown(LONG)
    assert all(isinstance(messages, DeferredMessages) for messages in seen)
    assert [len(messages) for messages in seen] == [2, 4]
    for prompt in ("prompt_block", "prompt_found"):
        (found,), _ = server.store.conversations(prompt_id=prompt)
        said = [message["content"] for message in server.store.messages(found)]
        assert said == ["Be brief.", "Hi", "Hello there!", "Bye", "Hello there!"], prompt
        assert found.metadata["tools"] == ["get_weather"]


def test_odd_bodies() -> None:
    """A body of an odd shape is read as far as it can be; what is no JSON has no messages."""
    odd = {"messages": {"role": "user"}, "model": 7, "tools": "none"}
    bodies: dict[str, list[Any]] = {"{": [], "[1]": [], '{"messages": []}': [], json.dumps(odd): []}
    bodies['{"messages": [1, {"role": "user", "content": "Hi"}], "tools": null}'] = [
        1,
        {"role": "user", "content": "Hi"},
    ]
    for body, messages in bodies.items():
        request = chat.request(chat.document(body.encode()), "/v1/chat/completions")
        assert list(request.messages) == messages, body
        assert request.tool_names() == [], body


@pytest.mark.parametrize("provider", ["azure", "gcp"])
def test_copies_of_the_client(provider: str) -> None:
    """The clients for Azure and Google Cloud send by a method of their own: patched with the others, and restored."""
    sending = pytest.importorskip(f"mistralai.{provider}.client.basesdk")
    before = [vars(sending.BaseSDK)[name] for name in ("do_request", "do_request_async")]
    report = patching.switch_on(INTEGRATION, RecordingCapture())
    try:
        during = [vars(sending.BaseSDK)[name] for name in ("do_request", "do_request_async")]
    finally:
        patching.switch_off(INTEGRATION)
    after = [vars(sending.BaseSDK)[name] for name in ("do_request", "do_request_async")]
    assert {row.state for row in report} == {"patched"}
    assert all(a is not b for a, b in zip(before, during, strict=True))
    assert all(a is b for a, b in zip(before, after, strict=True))
