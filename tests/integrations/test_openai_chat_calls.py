"""Chat Completions through the real client over real HTTP: what is captured of each way to call it."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import openai
import pytest
from inline_snapshot import snapshot

from tests.integrations import scripted
from tests.integrations.chat_scripts import SCRIPTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integrations.recording import RecordingCapture
    from tests.integrations.scripted import ScriptedModel

MESSAGES: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedModel]:
    with scripted.serve(SCRIPTS) as served:
        yield served


@pytest.fixture
def client(model: ScriptedModel) -> Iterator[Any]:
    with openai.OpenAI(api_key="k", base_url=model.base_url("text"), max_retries=0) as made:
        yield lambda name: made.with_options(base_url=model.base_url(name))


def ask(client: Any, **more: Any) -> Any:
    return client.chat.completions.create(model="gpt-4o", messages=MESSAGES, **more)


def test_a_call(client: Any, capture: RecordingCapture) -> None:
    """A plain call gives one turn: what was asked, what was answered, by which model, for how many tokens."""
    assert ask(client("text")).choices[0].message.content == "Hello there!"
    assert capture.only().facts() == snapshot(
        {
            "asked": [{"role": "system", "text": "Be brief."}, {"role": "user", "text": "Hi"}],
            "model": "gpt-4o",
            "answer": {
                "messages": [{"role": "assistant", "text": "Hello there!"}],
                "model": "gpt-4o-2024-08-06",
                "usage": {"prompt_tokens": 21, "completion_tokens": 9},
                "usage_details": {"cachedTokens": 16, "reasoningTokens": 4},
                "finish_reason": "stop",
                "response_id": "chatcmpl-1",
            },
        }
    )


def test_a_call_of_tools(client: Any, capture: RecordingCapture) -> None:
    """Parallel tool calls are one assistant turn without text."""
    ask(client("tools"))
    assert capture.only().facts()["answer"] == snapshot(
        {
            "messages": [
                {
                    "role": "assistant",
                    "calls": [
                        {"id": "call_1", "name": "get_weather", "arguments": '{"city": "Paris"}'},
                        {"id": "call_2", "name": "get_time", "arguments": '{"zone": "CET"}'},
                    ],
                }
            ],
            "model": "gpt-4o-2024-08-06",
            "usage": {"prompt_tokens": 21, "completion_tokens": 9},
            "usage_details": {"cachedTokens": 16, "reasoningTokens": 4},
            "finish_reason": "tool_calls",
            "response_id": "chatcmpl-1",
        }
    )


def test_a_stream(client: Any, capture: RecordingCapture) -> None:
    """A stream that is read to its end is a turn with the whole text, and no usage where none was sent."""
    stream = ask(client("stream"), stream=True)
    assert type(stream) is openai.Stream
    assert "".join(c.choices[0].delta.content or "" for c in stream) == "Hello there!"
    assert capture.only().facts()["answer"] == snapshot(
        {
            "messages": [{"role": "assistant", "text": "Hello there!"}],
            "model": "gpt-4o-2024-08-06",
            "finish_reason": "stop",
            "response_id": "chatcmpl-1",
        }
    )
    assert capture.only().first_tokens == 1


def test_a_stream_with_usage(client: Any, capture: RecordingCapture) -> None:
    """Usage that comes after the last token is kept."""
    list(ask(client("stream-usage"), stream=True, stream_options={"include_usage": True}))
    assert capture.only().facts()["answer"] == snapshot(
        {
            "messages": [{"role": "assistant", "text": "Hello there!"}],
            "model": "gpt-4o-2024-08-06",
            "usage": {"prompt_tokens": 21, "completion_tokens": 9},
            "usage_details": {"cachedTokens": 16, "reasoningTokens": 4},
            "finish_reason": "stop",
            "response_id": "chatcmpl-1",
        }
    )


def test_a_stream_of_tool_calls(client: Any, capture: RecordingCapture) -> None:
    """Fragments of interleaved tool calls are put together by their index."""
    list(ask(client("stream-tools"), stream=True))
    assert capture.only().facts()["answer"] == snapshot(
        {
            "messages": [
                {
                    "role": "assistant",
                    "calls": [
                        {"id": "call_1", "name": "get_weather", "arguments": '{"city": "Paris"}'},
                        {"id": "call_2", "name": "get_time", "arguments": '{"zone": "CET"}'},
                    ],
                }
            ],
            "model": "gpt-4o-2024-08-06",
            "finish_reason": "tool_calls",
            "response_id": "chatcmpl-1",
        }
    )


def test_a_stream_left_early(client: Any, capture: RecordingCapture) -> None:
    """Closing a stream early keeps what had arrived, marked partial."""
    with ask(client("stream"), stream=True) as stream:
        for _, _chunk in zip(range(3), stream, strict=False):
            pass
    assert capture.only().facts()["answer"] == snapshot(
        {
            "messages": [{"role": "assistant", "text": "Hello"}],
            "model": "gpt-4o-2024-08-06",
            "response_id": "chatcmpl-1",
            "partial": True,
        }
    )


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # in which order things are collected is open
def test_a_stream_dropped(client: Any, capture: RecordingCapture) -> None:
    """A stream that is dropped in the middle, or never read, is a partial turn once it is collected."""
    next(ask(client("stream"), stream=True))
    ask(client("stream"), stream=True)
    gc.collect()
    assert [call.facts()["answer"] for call in capture.calls] == snapshot(
        [
            {
                "messages": [{"role": "assistant"}],
                "model": "gpt-4o-2024-08-06",
                "response_id": "chatcmpl-1",
                "partial": True,
            },
            {"messages": [{"role": "assistant"}], "partial": True},
        ]
    )


def test_an_error(client: Any, capture: RecordingCapture) -> None:
    """A refused request is recorded with its error, and the app gets its exception."""
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client("bad-request"))
    assert capture.only().error is caught.value
    assert capture.only().answer is None


def test_async(model: ScriptedModel, capture: RecordingCapture) -> None:
    """The async client is captured like the sync one, plain and streamed."""

    async def main() -> None:
        async with openai.AsyncOpenAI(api_key="k", base_url=model.base_url("text"), max_retries=0) as client:
            await ask(client)
            stream = await ask(client.with_options(base_url=model.base_url("stream-usage")), stream=True)
            assert type(stream) is openai.AsyncStream
            assert len([c async for c in stream]) == 7

    asyncio.run(main())
    assert capture.facts() == snapshot(
        [
            {
                "asked": [{"role": "system", "text": "Be brief."}, {"role": "user", "text": "Hi"}],
                "model": "gpt-4o",
                "answer": {
                    "messages": [{"role": "assistant", "text": "Hello there!"}],
                    "model": "gpt-4o-2024-08-06",
                    "usage": {"prompt_tokens": 21, "completion_tokens": 9},
                    "usage_details": {"cachedTokens": 16, "reasoningTokens": 4},
                    "finish_reason": "stop",
                    "response_id": "chatcmpl-1",
                },
            },
            {
                "asked": [{"role": "system", "text": "Be brief."}, {"role": "user", "text": "Hi"}],
                "model": "gpt-4o",
                "answer": {
                    "messages": [{"role": "assistant", "text": "Hello there!"}],
                    "model": "gpt-4o-2024-08-06",
                    "usage": {"prompt_tokens": 21, "completion_tokens": 9},
                    "usage_details": {"cachedTokens": 16, "reasoningTokens": 4},
                    "finish_reason": "stop",
                    "response_id": "chatcmpl-1",
                },
            },
        ]
    )
