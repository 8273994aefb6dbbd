"""The integration of dspy's own engine keeps the promises of every integration, and records what providers reported."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest

from converra.integrations.dspy import INTEGRATION
from tests.integrations import scripted
from tests.integrations.conformance import Conformance, Subject, combined
from tests.integrations.dspy_shapes import BESIDE, LOOP, MEDIA, PNG, SCRIPTS, SHAPES, Row, config, engines, lm15
from tests.integrations.stored import stored

if TYPE_CHECKING:
    from converra.capture.recorder import Recorder
    from converra.server.run import LocalServer

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs


def functions() -> list[tuple[Any, str]]:
    classes = (engines.LM15Engine, engines.AsyncLM15Engine)
    return [(engine, name) for engine in classes for name in ("complete", "stream")]


class TestDspy(Conformance):
    """Over real HTTP, with the real engine."""

    subject = Subject(INTEGRATION, functions, (*combined(SHAPES), *BESIDE), lambda: scripted.serve(SCRIPTS), SHAPES[0])


SYSTEM = {"role": "system", "content": "Be brief."}
HI = {"role": "user", "content": "Hi"}
COUNTED = {"tokens": 9, "usage": {"promptTokens": 21, "completionTokens": 9}}
DETAILS: dict[str, Any] = {"usageDetails": {"cachedTokens": 16, "reasoningTokens": 4}}
REPLY: dict[str, Any] = {"role": "assistant", "model": "gpt-4o-2024-08-06", **COUNTED, "metadata": DETAILS}
HELLO = REPLY | {"content": "Hello there!"}
CALLS = [
    {"id": "call_1", "name": "get_weather", "arguments": {"city": "Paris"}},
    {"id": "call_2", "name": "get_time", "arguments": {"zone": "CET"}},
]
ROME = {"id": "call_1", "name": "get_weather"}
PICTURE = {"kind": "image", "mime": "image/png", "bytes": len(PNG), "sha256": hashlib.sha256(PNG).hexdigest()}
CLAUDE = {"role": "assistant", "model": "claude-sonnet-4-5-20250929", "content": "Good day.", "tokens": 9}
OF_RESPONSES: dict[str, Any] = {
    "role": "assistant",
    "model": "gpt-5-mini-2025-08-07",
    "tokens": 12,
    "usage": {"promptTokens": 30, "completionTokens": 12},
}

STORED: dict[str, list[dict[str, Any]]] = {
    "openai-chat-text": [SYSTEM, HI, HELLO],
    "openai-chat-tools": [SYSTEM, HI, REPLY | {"role": "tool", "content": "", "toolCalls": CALLS}],
    "openai-chat-loop": [
        SYSTEM,
        {"role": "user", "content": "How is the weather?"},
        {"role": "assistant", "content": "Let me see.", "toolCalls": [ROME | {"arguments": {"city": "Rome"}}]},
        {"role": "tool", "content": "sunny", "toolCalls": [ROME]},
        HELLO,
    ],
    "openai-chat-media": [
        SYSTEM,
        {
            "role": "user",
            "content": f"See\n[image: image/png, {len(PNG)} bytes]",
            "metadata": {"attachments": [PICTURE]},
        },
        HELLO,
    ],
    "openai-chat-length": [
        SYSTEM,
        HI,
        REPLY | {"content": '{"name": "A', "metadata": {**DETAILS, "finishReason": "length"}},
    ],
    "openai-chat-refusal": [
        SYSTEM,
        HI,
        REPLY | {"content": "I can't help with that.", "metadata": {**DETAILS, "refusal": True}},
    ],
    "openai-chat-bad-request": [
        SYSTEM,
        HI | {"metadata": {"error": {"type": "UnsupportedModelError", "status": 400}}},
    ],
    "openai-chat-stream-tools": [
        SYSTEM,
        HI,
        {"role": "tool", "content": "", "model": "model-1", "toolCalls": CALLS},
    ],
    "openai-chat-stream-left": [
        SYSTEM,
        HI,
        {"role": "assistant", "content": "(no text)", "model": "model-1", "metadata": {"partial": True}},
    ],
    "openai-chat-stream-cut": [
        SYSTEM,
        HI,
        {
            "role": "assistant",
            "content": "Hello",
            "model": "model-1",
            "metadata": {"partial": True, "error": {"type": "TransportError"}},
        },
    ],
    "anthropic-text": [SYSTEM, HI, CLAUDE | {"usage": {"promptTokens": 10, "completionTokens": 9}}],
    "anthropic-reasoned": [
        SYSTEM,
        HI,
        CLAUDE
        | {
            "usage": {"promptTokens": 310, "completionTokens": 9},
            "metadata": {
                "reasoning": "The user greets.",
                "usageDetails": {"cachedTokens": 100, "cacheWriteTokens": 200, "reasoningTokens": 4},
            },
        },
    ],
    "openai-text": [
        SYSTEM,
        HI,
        OF_RESPONSES
        | {
            "content": "Hello there!",
            "metadata": {"reasoning": "They greet me.", "usageDetails": {"cachedTokens": 8, "reasoningTokens": 5}},
        },
    ],
    "gemini-thoughts": [
        SYSTEM,
        HI,
        REPLY | {"content": "Yes.", "model": "model-1", "metadata": {**DETAILS, "reasoning": "Hm."}},
    ],
}


@pytest.mark.parametrize("name", STORED)
def test_what_is_recorded(server: LocalServer, recorder: Recorder, name: str) -> None:
    """Each provider's answer is a turn in the form of all others, with its usage as it counts."""
    shape = next(shape for shape in SHAPES if shape.name == name)
    with scripted.serve(SCRIPTS) as model:
        failed = name.endswith("bad-request")
        assert stored(server, recorder, lambda: shape.run(model), answered=not failed) == STORED[name]


def test_a_resent_history(server: LocalServer, recorder: Recorder) -> None:
    """Calls, results and pictures that an app resends are recorded once; so is the answer that it resends in words."""
    with scripted.serve(SCRIPTS) as model:
        row = Row("loop", "openai-chat", "text")
        engine = engines.LM15Engine(config(model, row))

        def talk() -> None:
            history = [MEDIA, *LOOP]
            for words in ("Thanks", "Bye"):
                answer = engine.complete(lm15.Request("openai-chat:model-1", tuple(history)))
                history += [lm15.Message.assistant(answer.text), lm15.Message.user(words)]

        found = stored(server, recorder, talk)
        engine.close()
    assert [(one["role"], one["content"].partition("\n")[0]) for one in found] == [
        ("user", "See"),
        ("user", "How is the weather?"),
        ("assistant", "Let me see."),
        ("tool", "sunny"),
        ("assistant", "Hello there!"),
        ("user", "Thanks"),
        ("assistant", "Hello there!"),
    ]
