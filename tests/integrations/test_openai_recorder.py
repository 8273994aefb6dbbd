"""From the openai client to the stored conversation: each row of what may happen, as a reader finds it."""

from __future__ import annotations

import base64
import gc
import hashlib
from typing import TYPE_CHECKING, Any

import pytest

from converra.integrations import Patched
from tests.integrations import scripted
from tests.integrations.openai_shapes import RESPONSES, SCRIPTS, SHAPES, client_for
from tests.integrations.stored import stored
from tests.patience import LONG

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converra.capture.recorder import Recorder
    from converra.server.run import LocalServer
    from tests.integrations.scripted import ScriptedModel

STORED: dict[str, Any] = {
    "chat-create": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": "Hello there!",
            "model": "gpt-4o-2024-08-06",
            "tokens": 9,
            "usage": {"promptTokens": 21, "completionTokens": 9},
            "metadata": {"usageDetails": {"cachedTokens": 16, "reasoningTokens": 4}},
        },
    ],
    "chat-tools": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {
            "role": "tool",
            "content": "",
            "model": "gpt-4o-2024-08-06",
            "tokens": 9,
            "usage": {"promptTokens": 21, "completionTokens": 9},
            "toolCalls": [
                {"id": "call_1", "name": "get_weather", "arguments": {"city": "Paris"}},
                {"id": "call_2", "name": "get_time", "arguments": {"zone": "CET"}},
            ],
            "metadata": {"usageDetails": {"cachedTokens": 16, "reasoningTokens": 4}},
        },
    ],
    "chat-two": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": "Heads.",
            "model": "gpt-4o-2024-08-06",
            "tokens": 9,
            "usage": {"promptTokens": 21, "completionTokens": 9},
            "metadata": {
                "usageDetails": {"cachedTokens": 16, "reasoningTokens": 4},
                "alternatives": [{"index": 1, "content": "Tails.", "finishReason": "stop"}],
            },
        },
    ],
    "chat-refusal": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": "I can't help with that.",
            "model": "gpt-4o-2024-08-06",
            "tokens": 9,
            "usage": {"promptTokens": 21, "completionTokens": 9},
            "metadata": {"refusal": True, "usageDetails": {"cachedTokens": 16, "reasoningTokens": 4}},
        },
    ],
    "chat-parse-length": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": '{"name": "A',
            "model": "gpt-4o-2024-08-06",
            "tokens": 9,
            "usage": {"promptTokens": 21, "completionTokens": 9},
            "metadata": {"finishReason": "length", "usageDetails": {"cachedTokens": 16, "reasoningTokens": 4}},
        },
    ],
    "chat-parse-refused": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": '{"name": "Ada", "age": "old"}',
            "model": "gpt-4o-2024-08-06",
            "tokens": 9,
            "usage": {"promptTokens": 21, "completionTokens": 9},
            "metadata": {
                "error": {"type": "ValidationError"},
                "usageDetails": {"cachedTokens": 16, "reasoningTokens": 4},
            },
        },
    ],
    "chat-stream-usage": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": "Hello there!",
            "model": "gpt-4o-2024-08-06",
            "tokens": 9,
            "usage": {"promptTokens": 21, "completionTokens": 9},
            "metadata": {"usageDetails": {"cachedTokens": 16, "reasoningTokens": 4}},
        },
    ],
    "chat-stream-left": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hel", "model": "gpt-4o-2024-08-06", "metadata": {"partial": True}},
    ],
    "chat-stream-dropped": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hel", "model": "gpt-4o-2024-08-06", "metadata": {"partial": True}},
    ],
    "chat-stream-never": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "(no text)", "metadata": {"partial": True}},
    ],
    "chat-stream-error": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": "Hello",
            "model": "gpt-4o-2024-08-06",
            "metadata": {"error": {"type": "APIError"}, "partial": True},
        },
    ],
    "chat-raw-stream": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello there!", "model": "gpt-4o-2024-08-06"},
    ],
    "chat-streaming-unread": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "(no text)", "metadata": {"partial": True}},
    ],
    "chat-error-in-200": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi", "metadata": {"error": {"type": "invalid_request_error"}}},
    ],
    "responses-create": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": "Hello there!",
            "model": "gpt-5-mini-2025-08-07",
            "tokens": 12,
            "usage": {"promptTokens": 30, "completionTokens": 12},
            "metadata": {"reasoning": "They greet me.", "usageDetails": {"cachedTokens": 8, "reasoningTokens": 5}},
        },
    ],
    "responses-tools": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": "Let me look.",
            "model": "gpt-5-mini-2025-08-07",
            "tokens": 12,
            "usage": {"promptTokens": 30, "completionTokens": 12},
            "toolCalls": [
                {"id": "call_1", "name": "get_weather", "arguments": {"city": "Paris"}},
                {"id": "call_2", "name": "get_time", "arguments": {"zone": "CET"}},
            ],
            "metadata": {"usageDetails": {"cachedTokens": 8, "reasoningTokens": 5}},
        },
    ],
    "responses-search": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {
            "role": "tool",
            "content": "",
            "toolCalls": [
                {
                    "id": "ws_1",
                    "name": "web_search",
                    "arguments": {"action": {"type": "search", "query": "weather in Paris"}},
                }
            ],
            "metadata": {
                "item": {
                    "id": "ws_1",
                    "action": {"type": "search", "query": "weather in Paris"},
                    "status": "completed",
                    "type": "web_search_call",
                }
            },
        },
        {
            "role": "assistant",
            "content": "Sunny.",
            "model": "gpt-5-mini-2025-08-07",
            "tokens": 12,
            "usage": {"promptTokens": 30, "completionTokens": 12},
            "metadata": {"usageDetails": {"cachedTokens": 8, "reasoningTokens": 5}},
        },
    ],
    "responses-incomplete": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": "(no text: max_output_tokens)",
            "model": "gpt-5-mini-2025-08-07",
            "tokens": 12,
            "usage": {"promptTokens": 30, "completionTokens": 12},
            "metadata": {
                "finishReason": "max_output_tokens",
                "usageDetails": {"cachedTokens": 8, "reasoningTokens": 5},
                "reasoning": "They greet me.",
            },
        },
    ],
    "responses-failed": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": "(no text: failed)",
            "model": "gpt-5-mini-2025-08-07",
            "metadata": {"finishReason": "failed", "error": {"type": "server_error"}},
        },
    ],
    "responses-stream-left": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": "(no text)",
            "model": "gpt-5-mini-2025-08-07",
            "metadata": {"partial": True, "responseId": "resp_1"},
        },
    ],
    "chat-bad-request": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi", "metadata": {"error": {"type": "BadRequestError", "status": 400}}},
    ],
}


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedModel]:
    with scripted.serve(SCRIPTS) as served:
        yield served


NAMES = (
    *("chat-create", "chat-tools", "chat-two", "chat-refusal", "chat-parse-length", "chat-parse-refused"),
    *("chat-stream-usage", "chat-stream-left", "chat-stream-dropped", "chat-stream-never", "chat-stream-error"),
    *("chat-raw-stream", "chat-streaming-unread", "chat-bad-request", "chat-error-in-200", "responses-create"),
    *("responses-tools", "responses-search", "responses-incomplete", "responses-failed", "responses-stream-left"),
)
UNANSWERED = ("chat-bad-request", "chat-error-in-200")


HERE = [shape.name for shape in SHAPES]
"""The shapes that the installed version of the client has."""


@pytest.mark.parametrize("name", [name for name in NAMES if name in HERE])
@pytest.mark.parametrize("prefix", ["", "async-"])
def test_what_is_stored(name: str, prefix: str, server: LocalServer, recorder: Recorder, model: ScriptedModel) -> None:
    """Each row of what may happen is stored as the contract says, sync and async alike."""
    shape = next(shape for shape in SHAPES if shape.name == prefix + name)

    def talk() -> None:
        shape.run(model)
        gc.collect()  # a stream that was dropped

    assert stored(server, recorder, talk, answered=name not in UNANSWERED) == STORED[name]


def test_a_background_response(server: LocalServer, recorder: Recorder, model: ScriptedModel) -> None:
    """A response that is retrieved after its conversation was left still becomes its answer."""
    with client_for(model, "r-background") as client:
        with recorder.conversation("prompt_1") as conversation:
            queued = client.responses.create(**RESPONSES, extra_body={"background": True})
        client.responses.retrieve(queued.id)
    assert recorder.flush(timeout=LONG)
    found = server.store.find(None, conversation.id or "")
    assert found is not None
    assert found.status == "completed"
    assert [m["content"] for m in server.store.messages(found)] == ["Be brief.", "Hi", "Hello there!"]


def test_pictures_of_megabytes(server: LocalServer, recorder: Recorder, model: ScriptedModel) -> None:
    """A picture in a request costs a line and a digest: not a byte of it is sent, however often it is resent."""
    data = b"\x89PNG" * 2_000_000
    url = "data:image/png;base64," + base64.b64encode(data).decode()
    question: Any = {
        "role": "user",
        "content": [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": url}}],
    }
    item: Any = {
        "role": "user",
        "content": [{"type": "input_text", "text": "And this?"}, {"type": "input_image", "image_url": url}],
    }
    more: Any = [{"role": "assistant", "content": "Hello there!"}, {"role": "user", "content": "Sure?"}]
    sent = recorder.stats().bytes

    def talk() -> None:
        with client_for(model, "text") as client:
            client.chat.completions.create(model="gpt-4o", messages=[question])
            client.chat.completions.create(model="gpt-4o", messages=[question, *more])
        with client_for(model, "r-text") as client:
            client.responses.create(model="gpt-5", input=[item])

    messages = stored(server, recorder, talk)
    attached = {"kind": "image", "mime": "image/png", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert [m for m in messages if m["role"] == "user"] == [
        {
            "role": "user",
            "content": "What is it?\n[image: image/png, 7.6 MB]",
            "metadata": {"attachments": [attached]},
        },
        {"role": "user", "content": "Sure?"},
        {
            "role": "user",
            "content": "And this?\n[image: image/png, 7.6 MB]",
            "metadata": {"attachments": [attached]},
        },
    ]
    assert recorder.stats().bytes - sent < 10_000


class Marked(str):
    """As a template engine gives it."""

    __slots__ = ()

    def __str__(self) -> str:
        return self.upper()


def test_strings_of_a_type_of_their_own(server: LocalServer, recorder: Recorder, model: ScriptedModel) -> None:
    """Safe strings, enumerations and the like are stored as what they say."""
    asked: Any = [
        {"role": Marked("system"), "content": Marked("Be brief.")},
        {"role": Marked("user"), "content": Marked("Hi")},
        {"role": "assistant", "tool_calls": [{"id": Marked("1"), "function": {"name": "f", "arguments": Marked("x")}}]},
        {"role": "tool", "tool_call_id": Marked("1"), "content": Marked("found")},
        {"role": "user", "content": [{"type": "text", "text": Marked("Well?")}]},
    ]

    def talk() -> None:
        with client_for(model, "text") as client:
            client.chat.completions.create(model=Marked("gpt-4o"), messages=asked)
        with client_for(model, "r-text") as client:
            client.responses.create(model=Marked("gpt-5"), instructions=Marked("Be kind."), input=Marked("Hey"))

    before = recorder.stats()
    messages = stored(server, recorder, talk)
    assert [(m["role"], m["content"]) for m in messages if m["role"] != "assistant"] == [
        ("system", "Be brief."),
        ("user", "Hi"),
        ("tool", ""),
        ("tool", "found"),
        ("user", "Well?"),
        ("system", "Be kind."),
        ("user", "Hey"),
    ]
    assert messages[2]["toolCalls"] == [{"id": "1", "name": "f", "arguments": "x"}]
    assert recorder.stats().failures == before.failures


def test_the_report(recorder: Recorder) -> None:
    """`instrument()` says what is patched, what will be, and why something is not; printed, it is a row for each."""
    report = recorder.instrument()
    ours = [row for row in report if row.target.startswith("openai.")]
    assert ours == [Patched("openai.OpenAI.request", "patched"), Patched("openai.AsyncOpenAI.request", "patched")]
    assert str(report).splitlines()[:2] == ["patched  openai.OpenAI.request", "patched  openai.AsyncOpenAI.request"]
    assert [*report.patched, *report.waiting, *report.skipped] == sorted(
        report, key=lambda row: STATES.index(row.state)
    )


STATES = ["patched", "waiting", "skipped"]
