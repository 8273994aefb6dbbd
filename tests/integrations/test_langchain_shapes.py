"""What each way of running LangChain is recorded as, whichever layers see it: exactly once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from inline_snapshot import snapshot
from langchain_openai.chat_models import base

import converra
from converra.langchain import ConverraCallbackHandler
from tests.integrations.langchain_app import running
from tests.integrations.langchain_shapes import SHAPES

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integrations.langchain_app import App
    from tests.integrations.langchain_shapes import Shape

TABLE: dict[str, list[Any]] = snapshot(
    {
        "invoke": [
            ("system", "You help."),
            ("user", "Hi"),
            ("assistant", "Hello"),
            ("user", "[[say:Bye]]"),
            (
                "assistant",
                "Bye",
                {
                    "model": "gpt-4o-stand-in",
                    "tokens": 1,
                    "usage": {"promptTokens": 24, "completionTokens": 1},
                    "latencyMs": True,
                },
            ),
        ],
        "ainvoke": [
            ("system", "You help."),
            ("user", "Hi"),
            ("assistant", "Hello"),
            ("user", "[[say:Bye]]"),
            (
                "assistant",
                "Bye",
                {
                    "model": "gpt-4o-stand-in",
                    "tokens": 1,
                    "usage": {"promptTokens": 24, "completionTokens": 1},
                    "latencyMs": True,
                },
            ),
        ],
        "stream": [
            ("system", "You help."),
            ("user", "Hi"),
            ("assistant", "Hello"),
            ("user", "[[say:Bye]]"),
            (
                "assistant",
                "Bye",
                {
                    "model": "gpt-4o-stand-in",
                    "tokens": 1,
                    "usage": {"promptTokens": 24, "completionTokens": 1},
                    "latencyMs": True,
                    "metadata": {"timeToFirstTokenMs": True},
                },
            ),
        ],
        "astream": [
            ("system", "You help."),
            ("user", "Hi"),
            ("assistant", "Hello"),
            ("user", "[[say:Bye]]"),
            (
                "assistant",
                "Bye",
                {
                    "model": "gpt-4o-stand-in",
                    "tokens": 1,
                    "usage": {"promptTokens": 24, "completionTokens": 1},
                    "latencyMs": True,
                    "metadata": {"timeToFirstTokenMs": True},
                },
            ),
        ],
        "streaming": [
            ("system", "You help."),
            ("user", "Hi"),
            ("assistant", "Hello"),
            ("user", "[[say:Bye]]"),
            (
                "assistant",
                "Bye",
                {"model": "gpt-4o-stand-in", "latencyMs": True, "metadata": {"timeToFirstTokenMs": True}},
            ),
        ],
        "astream_events": [
            ("system", "You help."),
            ("user", "Hi"),
            ("assistant", "Hello"),
            ("user", "[[say:Bye]]"),
            (
                "assistant",
                "Bye",
                {"model": "gpt-4o-stand-in", "latencyMs": True, "metadata": {"timeToFirstTokenMs": True}},
            ),
        ],
        "batch": [
            ("user", "[[say:One]]"),
            (
                "assistant",
                "One",
                {
                    "model": "gpt-4o-stand-in",
                    "tokens": 1,
                    "usage": {"promptTokens": 10, "completionTokens": 1},
                    "latencyMs": True,
                },
            ),
            ("user", "[[say:Two]]"),
            (
                "assistant",
                "Two",
                {
                    "model": "gpt-4o-stand-in",
                    "tokens": 1,
                    "usage": {"promptTokens": 10, "completionTokens": 1},
                    "latencyMs": True,
                },
            ),
        ],
        "abatch": [
            ("user", "[[say:One]]"),
            (
                "assistant",
                "One",
                {
                    "model": "gpt-4o-stand-in",
                    "tokens": 1,
                    "usage": {"promptTokens": 10, "completionTokens": 1},
                    "latencyMs": True,
                },
            ),
            ("user", "[[say:Two]]"),
            (
                "assistant",
                "Two",
                {
                    "model": "gpt-4o-stand-in",
                    "tokens": 1,
                    "usage": {"promptTokens": 10, "completionTokens": 1},
                    "latencyMs": True,
                },
            ),
        ],
        "generate": [
            ("user", "[[say:One]]"),
            (
                "assistant",
                "One",
                {
                    "model": "gpt-4o-stand-in",
                    "tokens": 1,
                    "usage": {"promptTokens": 10, "completionTokens": 1},
                    "latencyMs": True,
                },
            ),
            ("user", "[[say:Two]]"),
            (
                "assistant",
                "Two",
                {
                    "model": "gpt-4o-stand-in",
                    "tokens": 1,
                    "usage": {"promptTokens": 10, "completionTokens": 1},
                    "latencyMs": True,
                },
            ),
        ],
        "agenerate": [
            ("user", "[[say:One]]"),
            (
                "assistant",
                "One",
                {
                    "model": "gpt-4o-stand-in",
                    "tokens": 1,
                    "usage": {"promptTokens": 10, "completionTokens": 1},
                    "latencyMs": True,
                },
            ),
            ("user", "[[slow:0.02]] [[say:Two]]"),
            (
                "assistant",
                "Two",
                {
                    "model": "gpt-4o-stand-in",
                    "tokens": 1,
                    "usage": {"promptTokens": 19, "completionTokens": 1},
                    "latencyMs": True,
                },
            ),
        ],
        "chain": [
            ("system", "You help us."),
            ("user", "[[say:Yes]]"),
            (
                "assistant",
                "Yes",
                {
                    "model": "gpt-4o-stand-in",
                    "tokens": 1,
                    "usage": {"promptTokens": 17, "completionTokens": 1},
                    "latencyMs": True,
                },
            ),
        ],
        "chain_stream": [
            ("system", "You help us."),
            ("user", "[[say:Yes]]"),
            (
                "assistant",
                "Yes",
                {"model": "gpt-4o-stand-in", "latencyMs": True, "metadata": {"timeToFirstTokenMs": True}},
            ),
        ],
        "achain": [
            ("system", "You help us."),
            ("user", "[[say:Yes]]"),
            (
                "assistant",
                "Yes",
                {
                    "model": "gpt-4o-stand-in",
                    "tokens": 1,
                    "usage": {"promptTokens": 17, "completionTokens": 1},
                    "latencyMs": True,
                },
            ),
        ],
        "achain_stream": [
            ("system", "You help us."),
            ("user", "[[say:Yes]]"),
            (
                "assistant",
                "Yes",
                {"model": "gpt-4o-stand-in", "latencyMs": True, "metadata": {"timeToFirstTokenMs": True}},
            ),
        ],
        "structured": [
            ("user", '[[say:{"name": "Ada", "age": 36}]]'),
            (
                "assistant",
                '{"name": "Ada", "age": 36}',
                {
                    "model": "gpt-4o-stand-in",
                    "tokens": 15,
                    "usage": {"promptTokens": 24, "completionTokens": 15},
                    "latencyMs": True,
                },
            ),
        ],
        "structured_stream": [
            ("user", '[[say:{"name": "Ada", "age": 36}]]'),
            (
                "assistant",
                '{"name": "Ada", "age": 36}',
                {"model": "gpt-4o-stand-in", "latencyMs": True, "metadata": {"timeToFirstTokenMs": True}},
            ),
        ],
        "structured_by_call": [
            ("user", '[[tool:Person {"name": "Ada", "age": 36}]]'),
            (
                "tool",
                "",
                {
                    "model": "gpt-4o-stand-in",
                    "tokens": 16,
                    "toolCalls": [{"id": "call_1", "name": "Person", "arguments": {"name": "Ada", "age": 36}}],
                    "usage": {"promptTokens": 25, "completionTokens": 16},
                    "latencyMs": True,
                },
            ),
        ],
        "tool_calls": [
            ("user", '[[tool:get_weather {"city": "Oslo"}]] [[tool:get_weather {"city":]]'),
            (
                "tool",
                "",
                {
                    "model": "gpt-4o-stand-in",
                    "tokens": 16,
                    "toolCalls": [
                        {"id": "call_1", "name": "get_weather", "arguments": {"city": "Oslo"}},
                        {"id": "call_2", "name": "get_weather", "arguments": '{"city":'},
                    ],
                    "usage": {"promptTokens": 31, "completionTokens": 16},
                    "latencyMs": True,
                },
            ),
        ],
        "tool_calls_stream": [
            ("user", '[[tool:get_weather {"city": "Oslo"}]] [[tool:get_weather {"city": "Rome"}]]'),
            (
                "tool",
                "",
                {
                    "model": "gpt-4o-stand-in",
                    "toolCalls": [
                        {"id": "call_1", "name": "get_weather", "arguments": {"city": "Oslo"}},
                        {"id": "call_2", "name": "get_weather", "arguments": {"city": "Rome"}},
                    ],
                    "latencyMs": True,
                    "metadata": {"timeToFirstTokenMs": True},
                },
            ),
        ],
        "choices": [
            ("user", "[[say:Heads]]"),
            (
                "assistant",
                "Heads",
                {
                    "model": "gpt-4o-stand-in",
                    "tokens": 2,
                    "usage": {"promptTokens": 10, "completionTokens": 2},
                    "latencyMs": True,
                    "metadata": {"alternatives": [{"index": 1, "content": "Heads (choice 2)", "finishReason": "stop"}]},
                },
            ),
        ],
        "refusal": [
            ("user", "[[refuse:No.]]"),
            (
                "assistant",
                "No.",
                {
                    "model": "gpt-4o-stand-in",
                    "tokens": 2,
                    "usage": {"promptTokens": 11, "completionTokens": 2},
                    "latencyMs": True,
                    "metadata": {"refusal": True},
                },
            ),
        ],
        "audio": [
            ("user", "Hello [[audio]]"),
            (
                "assistant",
                "Hello! How can I help you today?",
                {
                    "model": "gpt-4o-stand-in",
                    "tokens": 9,
                    "usage": {"promptTokens": 9, "completionTokens": 9},
                    "latencyMs": True,
                    "metadata": {
                        "attachments": [
                            {
                                "kind": "audio",
                                "bytes": 1600,
                                "sha256": "e61f41d57db208c5f92a35c4ce7198570924a3fc87eeba83441fceee5d6a2865",
                            }
                        ],
                        "audio": ["expires_at", "id"],
                    },
                },
            ),
        ],
        "cut_off": [
            ("user", "[[words:10]] [[length]]"),
            (
                "assistant",
                "lorem ipsum dolor sit amet",
                {
                    "model": "gpt-4o-stand-in",
                    "tokens": 5,
                    "usage": {"promptTokens": 15, "completionTokens": 5},
                    "latencyMs": True,
                    "metadata": {"finishReason": "length"},
                },
            ),
        ],
        "empty": [
            ("user", "[[empty]]"),
            (
                "assistant",
                "(no text: stop)",
                {
                    "model": "gpt-4o-stand-in",
                    "tokens": 0,
                    "usage": {"promptTokens": 8, "completionTokens": 0},
                    "latencyMs": True,
                },
            ),
        ],
        "responses": [
            ("user", "[[say:Hi]] [[reasoning:Hm.]] [[citation]]"),
            (
                "assistant",
                "Hi",
                {
                    "model": "gpt-4o-stand-in",
                    "tokens": 3,
                    "usage": {"promptTokens": 23, "completionTokens": 3},
                    "latencyMs": True,
                    "metadata": {
                        "reasoning": "Hm.",
                        "annotations": [
                            {
                                "end_index": 2,
                                "start_index": 0,
                                "title": "Example",
                                "type": "url_citation",
                                "url": "https://example.com/",
                            }
                        ],
                        "usageDetails": {"reasoningTokens": 2},
                    },
                },
            ),
        ],
        "responses_stream": [
            (
                "user",
                (
                    '[[item:{"type": "web_search_call", "id": "ws_000001", "status": "completed", '
                    '"action": {"type": "search", "query": "x"}}]] [[say:Hi]]'
                ),
            ),
            (
                "tool",
                "",
                {
                    "toolCalls": [
                        {"id": "ws_1", "name": "web_search", "arguments": {"action": {"type": "search", "query": "x"}}}
                    ],
                    "metadata": {
                        "item": {
                            "id": "ws_1",
                            "action": {"type": "search", "query": "x"},
                            "status": "completed",
                            "type": "web_search_call",
                        }
                    },
                },
            ),
            (
                "assistant",
                "Hi",
                {
                    "model": "gpt-4o-stand-in",
                    "tokens": 1,
                    "usage": {"promptTokens": 63, "completionTokens": 1},
                    "latencyMs": True,
                    "metadata": {"timeToFirstTokenMs": True},
                },
            ),
        ],
        "responses_v1": [
            (
                "user",
                (
                    '[[item:{"type": "web_search_call", "id": "ws_000001", "status": "completed", "action": '
                    '{"type": "search", "query": "x"}}]] [[say:Hi]]'
                ),
            ),
            (
                "tool",
                "",
                {
                    "toolCalls": [{"id": "ws_1", "name": "web_search", "arguments": {"type": "search", "query": "x"}}],
                    "metadata": {"item": {"type": "server_tool_result", "tool_call_id": "ws_1", "status": "success"}},
                },
            ),
            (
                "assistant",
                "Hi",
                {
                    "model": "gpt-4o-stand-in",
                    "tokens": 1,
                    "usage": {"promptTokens": 63, "completionTokens": 1},
                    "latencyMs": True,
                },
            ),
        ],
        "error": [("user", "[[error:500]]", {"metadata": {"error": {"type": "OpenAIAPIError", "status": 500}}})],
        "aerror": [("user", "[[error:429]]", {"metadata": {"error": {"type": "OpenAIRateLimitError", "status": 429}}})],
        "stream_broken": [
            ("user", "[[words:6]] [[cut:3]]"),
            (
                "assistant",
                "lorem ipsum",
                {
                    "model": "gpt-4o",
                    "latencyMs": True,
                    "metadata": {
                        "error": {"type": "OpenAIConnectionError"},
                        "partial": True,
                        "modelRequested": True,
                        "timeToFirstTokenMs": True,
                    },
                },
            ),
        ],
        "stream_closed": [
            ("user", "[[words:6]]"),
            (
                "assistant",
                "lorem ipsum",
                {
                    "model": "gpt-4o",
                    "latencyMs": True,
                    "metadata": {"partial": True, "timeToFirstTokenMs": True, "modelRequested": True},
                },
            ),
        ],
        "astream_closed": [
            ("user", "[[words:6]]"),
            (
                "assistant",
                "lorem ipsum",
                {
                    "model": "gpt-4o",
                    "latencyMs": True,
                    "metadata": {"partial": True, "timeToFirstTokenMs": True, "modelRequested": True},
                },
            ),
        ],
        "cancelled": [
            ("user", "[[say:Ready]]"),
            (
                "assistant",
                "Ready",
                {
                    "model": "gpt-4o-stand-in",
                    "tokens": 1,
                    "usage": {"promptTokens": 10, "completionTokens": 1},
                    "latencyMs": True,
                },
            ),
            ("user", "[[hang]]", {"metadata": {"error": {"type": "CancelledError"}}}),
        ],
        "astream_cancelled": [
            ("user", "[[words:6]] [[hang:3]]"),
            (
                "assistant",
                "lorem ipsum",
                {
                    "model": "gpt-4o",
                    "latencyMs": True,
                    "metadata": {
                        "error": {"type": "CancelledError"},
                        "partial": True,
                        "timeToFirstTokenMs": True,
                        "modelRequested": True,
                    },
                },
            ),
        ],
        "retried_by_openai": [
            ("user", "[[say:Yes]] [[error:500 x1]]"),
            (
                "assistant",
                "Yes",
                {
                    "model": "gpt-4o-stand-in",
                    "tokens": 1,
                    "usage": {"promptTokens": 18, "completionTokens": 1},
                    "latencyMs": True,
                },
            ),
        ],
        "retried": [
            (
                "user",
                "[[say:Yes]] [[error:500 x1]]",
                {"metadata": {"error": {"type": "OpenAIAPIError", "status": 500}}},
            ),
            (
                "assistant",
                "Yes",
                {
                    "model": "gpt-4o-stand-in",
                    "tokens": 1,
                    "usage": {"promptTokens": 18, "completionTokens": 1},
                    "latencyMs": True,
                },
            ),
        ],
        "fallback": [
            (
                "user",
                "[[say:Yes]] [[error:500 x1]]",
                {"metadata": {"error": {"type": "OpenAIAPIError", "status": 500}}},
            ),
            (
                "assistant",
                "Yes",
                {
                    "model": "gpt-4o-mini-stand-in",
                    "tokens": 1,
                    "usage": {"promptTokens": 18, "completionTokens": 1},
                    "latencyMs": True,
                },
            ),
        ],
        "cached": [
            ("user", "[[say:Yes]]"),
            (
                "assistant",
                "Yes",
                {
                    "model": "gpt-4o-stand-in",
                    "tokens": 1,
                    "usage": {"promptTokens": 10, "completionTokens": 1},
                    "latencyMs": True,
                },
            ),
            (
                "assistant",
                "Yes",
                {"model": "gpt-4o-stand-in", "latencyMs": True, "metadata": {"replaces": "message_2", "cached": True}},
            ),
        ],
        "parallel": [
            ("user", "[[say:One]]"),
            (
                "assistant",
                "One",
                {
                    "model": "gpt-4o-stand-in",
                    "tokens": 1,
                    "usage": {"promptTokens": 10, "completionTokens": 1},
                    "latencyMs": True,
                },
            ),
            ("user", "[[slow:0.05]] [[say:Two]]"),
            (
                "assistant",
                "Two",
                {
                    "model": "gpt-4o-stand-in",
                    "tokens": 1,
                    "usage": {"promptTokens": 19, "completionTokens": 1},
                    "latencyMs": True,
                },
            ),
        ],
        "agent": [
            ("system", "Be brief."),
            ("user", 'What about Oslo? [[tool:get_weather {"city": "Oslo"}]] [[then]] [[say:Fine.]]'),
            (
                "tool",
                "",
                {
                    "model": "gpt-4o-stand-in",
                    "tokens": 10,
                    "toolCalls": [{"id": "call_1", "name": "get_weather", "arguments": {"city": "Oslo"}}],
                    "usage": {"promptTokens": 42, "completionTokens": 10},
                    "latencyMs": True,
                },
            ),
            ("tool", "Sunny in Oslo", {"toolCalls": [{"id": "call_1", "name": "get_weather"}], "latencyMs": True}),
            (
                "assistant",
                "Fine.",
                {
                    "model": "gpt-4o-stand-in",
                    "tokens": 2,
                    "usage": {"promptTokens": 51, "completionTokens": 2},
                    "latencyMs": True,
                },
            ),
        ],
        "aagent": [
            ("system", "Be brief."),
            ("user", 'What about Oslo? [[tool:get_weather {"city": "Oslo"}]] [[then]] [[say:Fine.]]'),
            (
                "tool",
                "",
                {
                    "model": "gpt-4o-stand-in",
                    "tokens": 10,
                    "toolCalls": [{"id": "call_1", "name": "get_weather", "arguments": {"city": "Oslo"}}],
                    "usage": {"promptTokens": 42, "completionTokens": 10},
                    "latencyMs": True,
                },
            ),
            ("tool", "Sunny in Oslo", {"toolCalls": [{"id": "call_1", "name": "get_weather"}], "latencyMs": True}),
            (
                "assistant",
                "Fine.",
                {
                    "model": "gpt-4o-stand-in",
                    "tokens": 2,
                    "usage": {"promptTokens": 51, "completionTokens": 2},
                    "latencyMs": True,
                },
            ),
        ],
        "agent_stream": [
            ("system", "Be brief."),
            ("user", 'What about Oslo? [[tool:get_weather {"city": "Oslo"}]] [[then]] [[say:Fine.]]'),
            (
                "tool",
                "",
                {
                    "model": "gpt-4o-stand-in",
                    "toolCalls": [{"id": "call_1", "name": "get_weather", "arguments": {"city": "Oslo"}}],
                    "latencyMs": True,
                    "metadata": {"timeToFirstTokenMs": True},
                },
            ),
            ("tool", "Sunny in Oslo", {"toolCalls": [{"id": "call_1", "name": "get_weather"}], "latencyMs": True}),
            (
                "assistant",
                "Fine.",
                {"model": "gpt-4o-stand-in", "latencyMs": True, "metadata": {"timeToFirstTokenMs": True}},
            ),
        ],
    }
)


def _none(app: App) -> dict[str, Any]:
    return {}


def _handler(app: App) -> dict[str, Any]:
    return {"callbacks": [ConverraCallbackHandler("prompt")]}


def _twice(app: App) -> dict[str, Any]:
    handler = ConverraCallbackHandler("prompt")
    return {"callbacks": [handler, ConverraCallbackHandler("prompt"), handler]}


OWN_ERRORS = {
    "InternalServerError": "OpenAIAPIError",
    "RateLimitError": "OpenAIRateLimitError",
    "RemoteProtocolError": "OpenAIConnectionError",
}
"""Errors of the client's, and langchain-openai's subclasses of them; in the time of LangChain 0.3 it had none."""


def _renamed(value: Any) -> Any:
    """What is recorded, with the names that errors have in the table."""
    if isinstance(value, dict):
        return {key: _renamed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_renamed, value))
    return value if hasattr(base, "OpenAIAPIError") else OWN_ERRORS.get(value, value)


LAYERS: dict[str, tuple[bool, Callable[[App], dict[str, Any]]]] = {
    "patch and hook": (True, _none),
    "handler": (False, _handler),
    "handler and patch": (True, _handler),
    "handlers and patch": (True, _twice),
}


@pytest.mark.filterwarnings("ignore:Unexpected type for token usage")  # langchain-openai's, of details that are None
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # langchain-openai's, of a parsed answer
@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_a_shape_is_recorded_once(shape: Shape, layers: str) -> None:
    """Handler alone, patched client alone with its hook, both, or several handlers: the same messages, each once."""
    instrumented, config = LAYERS[layers]
    with running(instrumented=instrumented, idle_timeout=30) as app:
        with converra.conversation("prompt"):
            app.run(shape.run, config(app))
        assert app.asked() == shape.calls
        assert _renamed(app.messages()) == TABLE[shape.name]
