"""Chat models of other providers, streamed and not: their chunks come to the same messages as OpenAI's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

import converra
from tests.integrations.langchain_app import App, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Chunks(BaseChatModel):
    """A provider whose answer comes in these chunks, or as all of them together."""

    chunks: list[Any]

    @property
    def _llm_type(self) -> str:
        return "chunks"

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        first, *others = self.chunks
        return ChatResult(generations=[ChatGeneration(message=first.__add__(others) if others else first)])

    def _stream(self, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        for chunk in self.chunks:
            yield ChatGenerationChunk(message=chunk)


def chunk(content: Any = "", **fields: Any) -> AIMessageChunk:
    """A piece of an answer; a dict is one block."""
    return AIMessageChunk(content=[content] if isinstance(content, dict) else content, **fields)


def tokens(sent: int, received: int, **details: Any) -> dict[str, Any]:
    """Usage as LangChain normalises it."""
    return {"input_tokens": sent, "output_tokens": received, "total_tokens": sent + received, **details}


SEARCHED = {"type": "web_search_result", "title": "Tents", "url": "https://x"}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "s1", "content": [SEARCHED], "index": 2}
CITED = {"type": "web_search_result_location", "url": "https://x", "cited_text": "dry"}

ANTHROPIC = [
    chunk(
        [], usage_metadata=tokens(12, 0, input_token_details={"cache_read": 5}), response_metadata={"model": "claude"}
    ),
    chunk({"type": "thinking", "thinking": "Let me ", "index": 0}),
    chunk({"type": "thinking", "thinking": "look.", "index": 0}),
    chunk({"type": "thinking", "signature": "xx", "index": 0}),
    chunk({"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}, "index": 1}),
    chunk({"type": "input_json_delta", "partial_json": '{"query":', "index": 1}),
    chunk({"type": "input_json_delta", "partial_json": ' "tents"}', "index": 1}),
    chunk(FOUND),
    chunk({"type": "text", "text": "Tents ", "index": 3}),
    chunk({"type": "text", "text": "are dry.", "index": 3}),
    chunk({"type": "text", "citations": [CITED], "index": 3}),
    chunk(
        {"type": "tool_use", "id": "c1", "name": "order", "input": {}, "index": 4},
        tool_call_chunks=[{"name": "order", "args": "", "id": "c1", "index": 4}],
    ),
    chunk(
        {"type": "input_json_delta", "partial_json": '{"tent": 1}', "index": 4},
        tool_call_chunks=[{"name": None, "args": '{"tent": 1}', "id": None, "index": 4}],
    ),
    chunk([], usage_metadata=tokens(0, 30), response_metadata={"stop_reason": "tool_use"}),
]
GOOGLE = [
    chunk({"type": "thinking", "thinking": "Hm."}),
    chunk({"type": "executable_code", "executable_code": "print(1)", "language": "PYTHON", "id": "e1"}),
    chunk({"type": "code_execution_result", "code_execution_result": "1", "outcome": 1, "tool_call_id": "e1"}),
    chunk("It is "),
    chunk(
        "1.",
        usage_metadata=tokens(3, 9, output_token_details={"reasoning": 4}),
        response_metadata={"finish_reason": "MAX_TOKENS", "model_name": "gemini"},
    ),
]
BEDROCK = [
    chunk({"type": "reasoning_content", "reasoning_content": {"text": "Hm.", "type": "text"}, "index": 0}),
    chunk({"type": "text", "text": "Hi", "index": 1}),
    chunk([], response_metadata={"stopReason": "end_turn", "model_name": "nova"}, usage_metadata=tokens(2, 1)),
]
DEEPSEEK = [
    chunk(additional_kwargs={"reasoning_content": "Let me "}),
    chunk(additional_kwargs={"reasoning_content": "add."}),
    chunk("4", response_metadata={"finish_reason": "stop", "model_name": "deepseek"}),
]

TABLE: dict[str, tuple[list[AIMessageChunk], list[Any]]] = {
    "anthropic": (
        ANTHROPIC,
        [
            (
                "tool",
                '[{"type":"web_search_result","title":"Tents","url":"https://x"}]',
                {
                    "toolCalls": [{"id": "s1", "name": "web_search", "arguments": {"query": "tents"}}],
                    "metadata": {"item": FOUND},
                },
            ),
            (
                "assistant",
                "Tents are dry.",
                {
                    "model": "claude",
                    "tokens": 30,
                    "toolCalls": [{"id": "c1", "name": "order", "arguments": {"tent": 1}}],
                    "usage": {"promptTokens": 12, "completionTokens": 30},
                    "latencyMs": True,
                    "metadata": {
                        "reasoning": "Let me look.",
                        "annotations": [CITED],
                        "usageDetails": {"cachedTokens": 5},
                    },
                },
            ),
        ],
    ),
    "google": (
        GOOGLE,
        [
            (
                "tool",
                "1",
                {
                    "toolCalls": [
                        {
                            "id": "e1",
                            "name": "code_execution",
                            "arguments": {"code": "print(1)", "language": "PYTHON"},
                        }
                    ],
                    "metadata": {"item": GOOGLE[2].content[0]},
                },
            ),
            (
                "assistant",
                "It is 1.",
                {
                    "model": "gemini",
                    "tokens": 9,
                    "usage": {"promptTokens": 3, "completionTokens": 9},
                    "latencyMs": True,
                    "metadata": {
                        "reasoning": "Hm.",
                        "finishReason": "MAX_TOKENS",
                        "usageDetails": {"reasoningTokens": 4},
                    },
                },
            ),
        ],
    ),
    "bedrock": (
        BEDROCK,
        [
            (
                "assistant",
                "Hi",
                {
                    "model": "nova",
                    "tokens": 1,
                    "usage": {"promptTokens": 2, "completionTokens": 1},
                    "latencyMs": True,
                    "metadata": {"reasoning": "Hm."},
                },
            ),
        ],
    ),
    "deepseek": (
        DEEPSEEK,
        [("assistant", "4", {"model": "deepseek", "latencyMs": True, "metadata": {"reasoning": "Let me add."}})],
    ),
}


@pytest.fixture
def app() -> Iterator[App]:
    """An app in which LangChain is captured."""
    with running() as running_app:
        yield running_app


async def _astream(model: Chunks) -> None:
    _ = [part async for part in model.astream([HumanMessage("Hi")])]


async def _ainvoke(model: Chunks) -> None:
    await model.ainvoke([HumanMessage("Hi")])


WAYS: dict[str, Callable[[App, Chunks], Any]] = {
    "invoke": lambda _, model: model.invoke([HumanMessage("Hi")]),
    "stream": lambda _, model: list(model.stream([HumanMessage("Hi")])),
    "ainvoke": lambda app, model: app.run(lambda _: _ainvoke(model)),
    "astream": lambda app, model: app.run(lambda _: _astream(model)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("provider", TABLE)
def test_a_provider_s_answer(provider: str, way: str, app: App) -> None:
    """Model, usage, words, thoughts, citations, calls and hosted tools, once each, whichever way the model is run."""
    chunks, expected = TABLE[provider]
    with converra.conversation("prompt"):
        WAYS[way](app, Chunks(chunks=chunks))
    asked, *answered = app.messages()
    assert asked == ("user", "Hi")
    first_token = answered[-1][2].get("metadata", {}).pop("timeToFirstTokenMs", None)
    assert first_token is (True if "stream" in way else None)
    assert answered == expected


def test_a_provider_s_stream_that_is_closed(app: App) -> None:
    """What has arrived of it is recorded as partial: words, not the forms that they came in."""
    with converra.conversation("prompt"):
        parts: Any = Chunks(chunks=ANTHROPIC).stream("Hi")
        for part in parts:
            if "are dry" in str(part.content):
                break
        parts.close()
    _, *answered = app.messages()
    assert answered[-1][1] == "Tents are dry."
    assert answered[-1][2]["metadata"]["partial"] is True
