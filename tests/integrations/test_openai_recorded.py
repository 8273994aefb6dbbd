"""Recorded exchanges of each shape, replayed without a network: cassettes stand between openai and us as for any app.

They were made against the stand-in model, by `pytest --record-mode=rewrite` with the sync client, at OpenAI's address.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import openai
import pytest

from converra.server.run import serve
from tests.integrations.openai_shapes import TOOL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vcr.cassette import Cassette  # type: ignore[import-untyped] # it has no types

    from tests.integrations.recording import RecordingCapture

OPENAI = "https://api.openai.com/v1"
STREAM = {"stream": True}


class Exchange(NamedTuple):
    """A call, by what the stand-in model is asked to answer."""

    name: str
    words: str
    api: str = "chat"
    options: dict[str, Any] = {}  # noqa: RUF012 - nobody changes it


EXCHANGES = (
    Exchange("chat", "[[say:Hello there!]]"),
    Exchange("chat-stream", "[[say:Hello there!]]", options=STREAM),
    Exchange("chat-stream-usage", "[[say:Hi]]", options={**STREAM, "stream_options": {"include_usage": True}}),
    Exchange("chat-stream-azure", "[[azure]] [[say:Hello there!]]", options=STREAM),
    Exchange("chat-stream-running-usage", "[[running-usage]] [[say:Hello there!]]", options=STREAM),
    Exchange("chat-two", "[[say:Heads or tails]]", options={"n": 2}),
    Exchange("chat-tools", '[[tool:get_weather {"city": "Paris"}]] [[tool:get_time {}]]', options={"tools": [TOOL]}),
    Exchange("chat-stream-tools", '[[tool:get_weather {"city": "Paris"}]]', options={**STREAM, "tools": [TOOL]}),
    Exchange("chat-custom", "[[custom:sql select 1]]"),
    Exchange("chat-function", '[[function:get_weather {"city": "Paris"}]]'),
    Exchange("chat-refusal", "[[refuse:No.]]"),
    Exchange("chat-stream-refusal", "[[refuse:No.]]", options=STREAM),
    Exchange("chat-reasoning", "[[reasoning:2+2]] [[say:4]]"),
    Exchange("chat-length", "[[length]] [[say:Once upon a time]]"),
    Exchange("chat-audio", "[[audio]] [[say:Hello there!]]"),
    Exchange("chat-empty", "[[empty]]"),
    Exchange("chat-error", "[[error:429]]"),
    Exchange("responses", "[[say:Hello there!]]", "responses"),
    Exchange("responses-stream", "[[say:Hello there!]]", "responses", STREAM),
    Exchange("responses-tools", '[[tool:get_weather {"city": "Paris"}]]', "responses"),
    Exchange("responses-stream-tools", '[[tool:get_weather {"city": "Paris"}]]', "responses", STREAM),
    Exchange("responses-reasoning", "[[reasoning:2+2]] [[say:4]]", "responses"),
    Exchange("responses-refusal", "[[refuse:No.]]", "responses"),
    Exchange("responses-item", '[[item:{"type": "web_search_call", "id": "ws_1"}]] [[say:Sunny.]]', "responses"),
    Exchange("responses-length", "[[length]] [[say:Once upon a time]]", "responses", STREAM),
    Exchange("responses-fail", "[[fail]]", "responses", STREAM),
)

ANSWERS: dict[str, Any] = {
    "chat": {"messages": [{"role": "assistant", "text": "Hello there!"}], "finish_reason": "stop", "usage": True},
    "chat-stream": {"messages": [{"role": "assistant", "text": "Hello there!"}], "finish_reason": "stop"},
    "chat-stream-usage": {"messages": [{"role": "assistant", "text": "Hi"}], "finish_reason": "stop", "usage": True},
    "chat-stream-azure": {"messages": [{"role": "assistant", "text": "Hello there!"}], "finish_reason": "stop"},
    "chat-stream-running-usage": {
        "messages": [{"role": "assistant", "text": "Hello there!"}],
        "finish_reason": "stop",
        "usage": True,
    },
    "chat-two": {
        "messages": [{"role": "assistant", "text": "Heads or tails"}],
        "finish_reason": "stop",
        "alternatives": [{"index": 1, "content": "Heads or tails (choice 2)", "finishReason": "stop"}],
        "usage": True,
    },
    "chat-tools": {
        "messages": [
            {
                "role": "assistant",
                "calls": [
                    {"id": "call_000001", "name": "get_weather", "arguments": '{"city": "Paris"}'},
                    {"id": "call_000002", "name": "get_time", "arguments": "{}"},
                ],
            }
        ],
        "finish_reason": "tool_calls",
        "usage": True,
    },
    "chat-stream-tools": {
        "messages": [
            {
                "role": "assistant",
                "calls": [{"id": "call_000003", "name": "get_weather", "arguments": '{"city": "Paris"}'}],
            }
        ],
        "finish_reason": "tool_calls",
    },
    "chat-custom": {
        "messages": [{"role": "assistant", "calls": [{"id": "call_000004", "name": "sql", "arguments": "select 1"}]}],
        "finish_reason": "tool_calls",
        "usage": True,
    },
    "chat-function": {
        "messages": [{"role": "assistant", "calls": [{"name": "get_weather", "arguments": '{"city": "Paris"}'}]}],
        "finish_reason": "function_call",
        "usage": True,
    },
    "chat-refusal": {
        "messages": [{"role": "assistant", "text": "No.", "metadata": {"refusal": True}}],
        "finish_reason": "stop",
        "usage": True,
    },
    "chat-stream-refusal": {
        "messages": [{"role": "assistant", "text": "No.", "metadata": {"refusal": True}}],
        "finish_reason": "stop",
    },
    "chat-reasoning": {
        "messages": [{"role": "assistant", "text": "4", "metadata": {"reasoning": "2+2"}}],
        "finish_reason": "stop",
        "usage": True,
    },
    "chat-length": {"messages": [{"role": "assistant", "text": "Once upon"}], "finish_reason": "length", "usage": True},
    "chat-audio": {
        "messages": [
            {
                "role": "assistant",
                "text": "Hello there!",
                "attachments": [
                    {
                        "kind": "audio",
                        "data": "A" * 2134 + "==",
                    }
                ],
                "metadata": {"audio": {"id": "audio_000001", "expires_at": 1795353013}},
            }
        ],
        "finish_reason": "stop",
        "usage": True,
    },
    "chat-empty": {"messages": [{"role": "assistant"}], "finish_reason": "stop", "usage": True},
    "chat-error": {"error": "RateLimitError"},
    "responses": {
        "messages": [{"role": "assistant", "text": "Hello there!"}],
        "finish_reason": "completed",
        "usage": True,
    },
    "responses-stream": {
        "messages": [{"role": "assistant", "text": "Hello there!"}],
        "finish_reason": "completed",
        "usage": True,
    },
    "responses-tools": {
        "messages": [
            {
                "role": "assistant",
                "calls": [{"id": "call_000005", "name": "get_weather", "arguments": '{"city": "Paris"}'}],
            }
        ],
        "finish_reason": "completed",
        "usage": True,
    },
    "responses-stream-tools": {
        "messages": [
            {
                "role": "assistant",
                "calls": [{"id": "call_000006", "name": "get_weather", "arguments": '{"city": "Paris"}'}],
            }
        ],
        "finish_reason": "completed",
        "usage": True,
    },
    "responses-reasoning": {
        "messages": [{"role": "assistant", "text": "4", "metadata": {"reasoning": "2+2"}}],
        "finish_reason": "completed",
        "usage": True,
    },
    "responses-refusal": {
        "messages": [{"role": "assistant", "text": "No.", "metadata": {"refusal": True}}],
        "finish_reason": "completed",
        "usage": True,
    },
    "responses-item": {
        "messages": [
            {
                "role": "tool",
                "calls": [{"id": "ws_1", "name": "web_search"}],
                "call_id": "ws_1",
                "name": "web_search",
                "metadata": {"item": {"id": "ws_1", "type": "web_search_call"}},
            },
            {"role": "assistant", "text": "Sunny."},
        ],
        "finish_reason": "completed",
        "usage": True,
    },
    "responses-length": {
        "messages": [{"role": "assistant", "text": "Once upon"}],
        "finish_reason": "max_output_tokens",
        "usage": True,
    },
    "responses-fail": {
        "messages": [{"role": "assistant", "text": "I am a stand-in model: there is no intelligence"}],
        "finish_reason": "failed",
        "metadata": {"error": {"type": "server_error"}},
    },
}


@pytest.fixture(scope="module")
def recording(record_mode: str) -> bool:
    """Whether cassettes are made, not replayed."""
    return record_mode != "none"


@pytest.fixture(scope="module")
def url(recording: bool) -> Iterator[str]:
    """Where the clients go."""
    if not recording:
        yield OPENAI
        return
    with serve() as server:
        yield server.openai_url


@pytest.fixture(scope="module")
def vcr_config() -> dict[str, Any]:
    return {
        "match_on": ["method", "scheme", "host", "path", "body"],
        "filter_headers": ["authorization", "user-agent", *[f"x-stainless-{n}" for n in STAINLESS], "host"],
        "before_record_request": at_openai,
    }


STAINLESS = (
    "lang",
    "os",
    "arch",
    "runtime",
    "runtime-version",
    "package-version",
    "async",
    "read-timeout",
    "retry-count",
)


def at_openai(request: Any) -> Any:
    """The address that a real recording would have."""
    request.uri = re.sub(r"^http://127\.0\.0\.1:\d+/openai/v1", OPENAI, request.uri)
    return request


@pytest.fixture
def default_cassette_name(exchange: Exchange) -> str:
    return exchange.name


def arguments(exchange: Exchange) -> dict[str, Any]:
    asked = [{"role": "user", "content": exchange.words}]
    return {"model": "gpt-4o", "messages" if exchange.api == "chat" else "input": asked, **exchange.options}


def create(client: Any, exchange: Exchange) -> Any:
    return (client.chat.completions if exchange.api == "chat" else client.responses).create(**arguments(exchange))


def talk(url: str, exchange: Exchange) -> None:
    """The exchange with the sync client."""
    bare = openai.DefaultHttpxClient(verify=False)  # setting up TLS costs more than the test
    with openai.OpenAI(api_key="k", base_url=url, max_retries=0, http_client=bare) as client:
        answer = create(client, exchange)
        if "stream" in exchange.options:
            list(answer)


def talk_async(url: str, exchange: Exchange) -> None:
    """The exchange with the async client."""

    async def main() -> None:
        bare = openai.DefaultAsyncHttpxClient(verify=False)
        async with openai.AsyncOpenAI(api_key="k", base_url=url, max_retries=0, http_client=bare) as client:
            answer = await create(client, exchange)
            if "stream" in exchange.options:
                _ = [chunk async for chunk in answer]

    asyncio.run(main())


def outcome(capture: RecordingCapture) -> dict[str, Any]:
    """What was captured, without what numbers and names the stand-in gives."""
    facts = capture.only().facts()
    answer = facts.get("answer", {})
    kept = {name: answer[name] for name in ("messages", "finish_reason", "alternatives", "metadata") if name in answer}
    return (
        kept | ({"usage": True} if "usage" in answer else {}) | ({"error": facts["error"]} if "error" in facts else {})
    )


def _ids(exchange: Exchange) -> str:
    return exchange.name


@pytest.mark.vcr
@pytest.mark.parametrize("exchange", EXCHANGES, ids=_ids)
def test_replayed(exchange: Exchange, url: str, capture: RecordingCapture, vcr: Cassette, recording: bool) -> None:
    """A replayed exchange is captured like a real one."""
    try:
        talk(url, exchange)
    except openai.RateLimitError:
        assert exchange.name == "chat-error"
    assert recording or vcr.play_count == 1
    assert recording or outcome(capture) == ANSWERS[exchange.name]


@pytest.mark.vcr
@pytest.mark.parametrize("exchange", EXCHANGES, ids=_ids)
def test_replayed_async(
    exchange: Exchange, url: str, capture: RecordingCapture, vcr: Cassette, recording: bool
) -> None:
    """And by the async client as by the sync one."""
    if recording:
        pytest.skip("the sync client records")
    try:
        talk_async(url, exchange)
    except openai.RateLimitError:
        assert exchange.name == "chat-error"
    assert vcr.play_count == 1
    assert outcome(capture) == ANSWERS[exchange.name]
