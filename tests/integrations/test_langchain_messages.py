"""What LangChain's messages and results are read as, for every class, block and provider."""

from __future__ import annotations

import functools
import sys
import time
import timeit
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    HumanMessageChunk,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.messages.tool import invalid_tool_call, tool_call
from langchain_core.outputs import ChatGeneration, Generation, LLMResult

from converra.history.turn import Attachment, SourceMessage, SourceToolCall
from converra.integrations.langchain.content import _READERS
from converra.integrations.langchain.messages import MESSAGES
from converra.integrations.langchain.result import answer, documents_metadata, partial, piece, tool_messages
from tests.integrations.recording import bare, settled

PNG = "iVBORw0KGgo="


def read(message: Any) -> Any:
    """What one message says, as plain data."""
    return [bare(source) for source in MESSAGES.read(message)]


class Text(str):
    """A text of a class of its own, as a template engine makes it: it always takes the long way."""

    __slots__ = ()


@pytest.mark.parametrize(
    "own",
    [
        {"type": "human", "content": "Hi"},
        {"type": "human", "content": "Hi", "name": "Ada"},
        {"type": "system", "content": "Hi", "name": 3},
        {"type": "tool", "content": "7", "tool_call_id": "c1"},
        {"type": "chat", "content": "Hi", "role": "assistant"},
    ],
)
def test_a_message_is_read_as_one_with_odd_text(own: dict[str, Any]) -> None:
    """The short way of reading the usual messages finds what the long one does."""
    assert MESSAGES.read(own) == MESSAGES.read({**own, "content": Text(own["content"])})


@pytest.mark.parametrize(
    ("message", "source"),
    [
        ("Say hi", {"role": "user", "text": "Say hi"}),
        (HumanMessage("Hi"), {"role": "user", "text": "Hi"}),
        (HumanMessageChunk(content="Hi", name="Ada"), {"role": "user", "text": "Hi", "metadata": {"name": "Ada"}}),
        (SystemMessage("Be kind."), {"role": "system", "text": "Be kind."}),
        (AIMessage("Hello", name="billing"), {"role": "assistant", "text": "Hello", "metadata": {"name": "billing"}}),
        (ChatMessage(content="Yes?", role="assistant"), {"role": "assistant", "text": "Yes?"}),
        (ChatMessage(content="Be kind.", role="developer"), {"role": "system", "text": "Be kind."}),
        (ChatMessage(content="Objection!", role="lawyer"), {"role": "lawyer", "text": "Objection!"}),
        (ToolMessage("7", tool_call_id="c1", name="f"), {"role": "tool", "text": "7", "call_id": "c1", "name": "f"}),
        (
            ToolMessage("No.", tool_call_id="c1", status="error"),
            {"role": "tool", "text": "No.", "call_id": "c1", "metadata": {"status": "error"}},
        ),
        (FunctionMessage(content="7", name="f"), {"role": "tool", "text": "7", "name": "f"}),
        (
            ToolMessage(
                [{"type": "text", "text": "A map:"}, {"type": "image", "url": "https://x/y.png"}], tool_call_id="c"
            ),
            {
                "role": "tool",
                "text": "A map:\n[image: https://x/y.png]",
                "call_id": "c",
                "attachments": [{"kind": "image", "url": "https://x/y.png"}],
            },
        ),
        (
            AIMessage("", tool_calls=[tool_call(name="f", args={"a": 1}, id="c1")]),
            {"role": "assistant", "calls": [{"id": "c1", "name": "f", "arguments": {"a": 1}}]},
        ),
        (
            AIMessage("", invalid_tool_calls=[invalid_tool_call(name="f", args='{"a', id="c1", error="?")]),
            {"role": "assistant", "calls": [{"id": "c1", "name": "f", "arguments": '{"a'}]},
        ),
        (
            AIMessage("", additional_kwargs={"function_call": {"name": "f", "arguments": "{}"}}),
            {"role": "assistant", "calls": [{"name": "f", "arguments": "{}"}]},
        ),
        (
            AIMessage("Well.", additional_kwargs={"refusal": "No."}),
            {"role": "assistant", "text": "Well.\nNo.", "metadata": {"refusal": True}},
        ),
        (
            AIMessage("", additional_kwargs={"audio": {"id": "a", "data": PNG, "transcript": "Hi", "expires_at": 9}}),
            {
                "role": "assistant",
                "text": "Hi",
                "attachments": [{"kind": "audio", "data": PNG}],
                "metadata": {"audio": {"id": "a", "expires_at": 9}},
            },
        ),
        (
            AIMessage("4", additional_kwargs={"reasoning_content": "2+2"}),
            {"role": "assistant", "text": "4", "metadata": {"reasoning": "2+2"}},
        ),
        (
            AIMessage("4", additional_kwargs={"reasoning": {"summary": [{"text": "Sums."}, {"text": "2+2"}]}}),
            {"role": "assistant", "text": "4", "metadata": {"reasoning": "Sums.\n2+2"}},
        ),
    ],
)
def test_messages(message: Any, source: Any) -> None:
    """Every class of messages has its role and its words; calls, refusals, sounds and thoughts have their place."""
    assert read(message) == [source]


def test_what_says_nothing() -> None:
    """An order to a graph's state, and what is no message at all, say nothing."""
    for message in (RemoveMessage(id="1"), None, 7, {}, {"content": "?"}, object()):
        assert read(message) == []


BLOCKS: list[tuple[str, Any, Any]] = [
    ("text", {"type": "text", "text": "Hi"}, {"text": "Hi"}),
    ("bare text", "Hi", {"text": "Hi"}),
    ("responses", {"type": "output_text", "text": "Hi"}, {"text": "Hi"}),
    (
        "annotations",
        {"type": "text", "text": "Hi", "annotations": [{"type": "citation", "url": "u"}]},
        {"text": "Hi", "metadata": {"annotations": [{"type": "citation", "url": "u"}]}},
    ),
    (
        "citations (Anthropic)",
        {"type": "text", "text": "Hi", "citations": [{"cited_text": "Hi!"}]},
        {"text": "Hi", "metadata": {"annotations": [{"cited_text": "Hi!"}]}},
    ),
    ("reasoning (v1)", {"type": "reasoning", "reasoning": "Hm."}, {"metadata": {"reasoning": "Hm."}}),
    (
        "reasoning (responses)",
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]},
        {"metadata": {"reasoning": "Hm."}},
    ),
    ("encrypted reasoning", {"type": "reasoning", "encrypted_content": "x"}, {}),
    ("thinking (Anthropic)", {"type": "thinking", "thinking": "Hm."}, {"metadata": {"reasoning": "Hm."}}),
    (
        "reasoning (Bedrock)",
        {"type": "reasoning_content", "reasoning_content": {"text": "Hm."}},
        {"metadata": {"reasoning": "Hm."}},
    ),
    ("redacted", {"type": "redacted_thinking", "data": "x"}, {}),
    ("refusal", {"type": "refusal", "refusal": "No."}, {"text": "No.", "metadata": {"refusal": True}}),
    ("tool use", {"type": "tool_use", "id": "c", "name": "f", "input": {}}, {}),
    ("tool call (v1)", {"type": "tool_call", "id": "c", "name": "f", "args": {}}, {}),
    (
        "image (v1)",
        {"type": "image", "base64": PNG, "mime_type": "image/png"},
        {"text": "[image: image/png, 8 bytes]", "attachments": [{"kind": "image", "mime": "image/png", "data": PNG}]},
    ),
    (
        "image (v1, url)",
        {"type": "image", "url": "https://x/y.png", "id": "lc_1"},
        {"text": "[image: https://x/y.png]", "attachments": [{"kind": "image", "url": "https://x/y.png"}]},
    ),
    (
        "image (v0)",
        {"type": "image", "source_type": "base64", "data": PNG, "mime_type": "image/png"},
        {"text": "[image: image/png, 8 bytes]", "attachments": [{"kind": "image", "mime": "image/png", "data": PNG}]},
    ),
    (
        "file (v0, id)",
        {"type": "file", "source_type": "id", "id": "file-1"},
        {"text": "[file: file-1]", "attachments": [{"kind": "file", "name": "file-1"}]},
    ),
    (
        "file (v1)",
        {"type": "file", "file_id": "file-1", "extras": {"filename": "a.pdf"}},
        {"text": "[file: a.pdf]", "attachments": [{"kind": "file", "name": "a.pdf"}]},
    ),
    (
        "image (OpenAI)",
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
        {
            "text": "[image: image/png, 8 bytes]",
            "attachments": [{"kind": "image", "mime": "image/png", "data": f"data:image/png;base64,{PNG}"}],
        },
    ),
    (
        "file (OpenAI)",
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}},
        {
            "text": "[file: a.pdf, application/pdf, 3 bytes]",
            "attachments": [
                {
                    "kind": "file",
                    "mime": "application/pdf",
                    "data": "data:application/pdf;base64,AAAA",
                    "name": "a.pdf",
                }
            ],
        },
    ),
    (
        "audio (OpenAI)",
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {
            "text": "[audio: audio/wav, 3 bytes]",
            "attachments": [{"kind": "audio", "mime": "audio/wav", "data": "AAAA"}],
        },
    ),
    (
        "image (Anthropic)",
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
        {"text": "[image: image/png, 8 bytes]", "attachments": [{"kind": "image", "mime": "image/png", "data": PNG}]},
    ),
    (
        "document (Anthropic)",
        {"type": "document", "title": "A", "source": {"type": "url", "url": "https://x/a.pdf"}},
        {"text": "[document: A]", "attachments": [{"kind": "document", "url": "https://x/a.pdf", "name": "A"}]},
    ),
    (
        "media (Google)",
        {"type": "media", "mime_type": "video/mp4", "file_uri": "gs://x"},
        {
            "text": "[video: gs://x, video/mp4]",
            "attachments": [{"kind": "video", "mime": "video/mp4", "url": "gs://x"}],
        },
    ),
    (
        "media (Google, of another kind)",
        {"type": "media", "mime_type": "application/pdf", "data": "AAAA"},
        {
            "text": "[file: application/pdf, 3 bytes]",
            "attachments": [{"kind": "file", "mime": "application/pdf", "data": "AAAA"}],
        },
    ),
    (
        "image (Bedrock)",
        {"image": {"format": "png", "source": {"bytes": b"PNG"}}},
        {"text": "[image: image/png]", "attachments": [{"kind": "image", "mime": "image/png"}]},
    ),
    ("plain text (v1)", {"type": "text-plain", "text": "A letter."}, {"text": "A letter."}),
    (
        "plain text (v1, linked)",
        {"type": "text-plain", "url": "https://x/a.txt", "mime_type": "text/plain"},
        {
            "text": "[document: https://x/a.txt, text/plain]",
            "attachments": [{"kind": "document", "mime": "text/plain", "url": "https://x/a.txt"}],
        },
    ),
    (
        "another kind",
        {"type": "hologram", "data": "x"},
        {"metadata": {"items": [{"type": "hologram", "data": "x"}]}},
    ),
    ("signature (Google)", {"type": "function_call_signature", "signature": "x"}, {}),
    ("cache point (Bedrock)", {"cachePoint": {"type": "default"}}, {}),
    ("no standard", {"type": "non_standard", "value": {"type": "text", "text": "Hi"}}, {"text": "Hi"}),
    ("nothing", None, {"text": "[part]"}),
]


@pytest.mark.parametrize(("block", "source"), [row[1:] for row in BLOCKS], ids=[row[0] for row in BLOCKS])
def test_blocks(block: Any, source: Any) -> None:
    """A block of any of LangChain's forms, or of a provider's, is text, an attachment, a thought, or a placeholder."""
    message = AIMessage.model_construct(type="ai", content=[block], additional_kwargs={})
    assert read(message) == [{"role": "assistant", **source}]


def test_text_in_pieces() -> None:
    """A model's text that comes in several blocks is one text; a user's blocks, and what is no text, stand apart."""
    blocks: Any = ["a", {"type": "text", "text": "b"}, {"type": "image", "url": "u"}, {"type": "text", "text": "c"}]
    assert read(AIMessage(blocks))[0]["text"] == "ab\n[image: u]\nc"
    assert read(HumanMessage(blocks))[0]["text"] == "a\nb\n[image: u]\nc"


@pytest.mark.parametrize(
    ("blocks", "source"),
    [
        (
            [
                {"type": "server_tool_call", "id": "s1", "name": "web_search", "args": {"q": "x"}},
                {"type": "server_tool_result", "tool_call_id": "s1", "output": [{"title": "X"}]},
            ],
            {
                "text": '[{"title":"X"}]',
                "calls": [{"id": "s1", "name": "web_search", "arguments": {"q": "x"}}],
                "call_id": "s1",
                "name": "web_search",
            },
        ),
        (
            [
                {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"q": "x"}},
                {"type": "web_search_tool_result", "tool_use_id": "s1", "content": "Found."},
            ],
            {
                "text": "Found.",
                "calls": [{"id": "s1", "name": "web_search", "arguments": {"q": "x"}}],
                "call_id": "s1",
                "name": "web_search",
            },
        ),
        (
            [
                {"type": "server_tool_use", "id": "s1", "name": "f", "input": {}, "partial_json": '{"q": "x"}'},
                {"type": "web_search_tool_result", "tool_use_id": "s1", "content": "Found."},
            ],
            {
                "text": "Found.",
                "calls": [{"id": "s1", "name": "f", "arguments": '{"q": "x"}'}],
                "call_id": "s1",
                "name": "f",
            },
        ),
        (
            [
                {"type": "executable_code", "executable_code": "print(1)", "language": "PYTHON"},
                {"type": "code_execution_result", "code_execution_result": "1\n", "outcome": 1},
            ],
            {
                "text": "1\n",
                "calls": [{"name": "code_execution", "arguments": {"code": "print(1)", "language": "PYTHON"}}],
                "name": "code_execution",
            },
        ),
        (
            [{"type": "server_tool_call_chunk", "id": "s1", "name": "search", "args": '{"q":'}],
            {"calls": [{"id": "s1", "name": "search", "arguments": '{"q":'}], "call_id": "s1", "name": "search"},
        ),
        (
            [{"type": "mcp_tool_use", "id": "s1", "name": "search", "input": {}}],
            {"calls": [{"id": "s1", "name": "search", "arguments": {}}], "call_id": "s1", "name": "search"},
        ),
        (
            [{"type": "mcp_tool_result", "tool_use_id": "s1"}],
            {"calls": [{"id": "s1"}], "call_id": "s1"},
        ),
        (
            [{"type": "web_search_call", "id": "s1", "action": {"query": "x"}, "index": 0}],
            {
                "calls": [{"id": "s1", "name": "web_search", "arguments": {"action": {"query": "x"}}}],
                "call_id": "s1",
                "name": "web_search",
            },
        ),
    ],
)
def test_hosted_tools(blocks: Any, source: Any) -> None:
    """What a provider's own tools did stands before the answer, call and result in one, in whichever form it came."""
    hosted, last = read(AIMessage([*blocks, {"type": "text", "text": "Done."}]))
    hosted.pop("metadata", None)
    assert hosted == {"role": "tool", **source}
    assert last == {"role": "assistant", "text": "Done."}


def test_a_result_that_the_user_sends() -> None:
    """A result inside of a user's message, in Anthropic's form, is that of the tool; what is said beside it is not."""
    blocks: Any = [
        {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "Sunny"}]},
        {"type": "tool_result", "tool_use_id": "c2", "content": "No such city.", "is_error": True},
    ]
    results = [
        {"role": "tool", "text": "Sunny", "call_id": "c1"},
        {"role": "tool", "text": "No such city.", "call_id": "c2", "metadata": {"status": "error"}},
    ]
    assert read(HumanMessage(blocks)) == results
    assert read(HumanMessage([*blocks, "And now?"])) == [*results, {"role": "user", "text": "And now?"}]


def test_a_part_of_an_unknown_kind() -> None:
    """In a user's message, a part of a kind that nobody knows leaves a line."""
    assert read(HumanMessage([{"type": "hologram", "data": "x"}])) == [{"role": "user", "text": "[hologram]"}]


def test_a_result_in_the_provider_s_form() -> None:
    """A tool message may hold its result as the item that OpenAI wants."""
    picture = {"type": "computer_screenshot", "image_url": "https://x/y.png"}
    for item, source in (
        ({"type": "custom_tool_call_output", "call_id": "c", "output": "7"}, {"text": "7"}),
        (
            {"type": "computer_call_output", "call_id": "c", "output": picture},
            {"text": "[image: https://x/y.png]", "attachments": [{"kind": "image", "url": "https://x/y.png"}]},
        ),
    ):
        assert read(ToolMessage([item], tool_call_id="c")) == [{"role": "tool", "call_id": "c", **source}]


# -- recognising what is resent ----------------------------------------------------------------------------------------

ALIKE = [
    (HumanMessage("Hi"), HumanMessage("Hi", id="1")),
    (AIMessage("Hi", id="run-1"), AIMessage("Hi", response_metadata={"finish_reason": "stop"})),
    (AIMessage([{"type": "text", "text": "Hi"}]), AIMessage([{"type": "text", "text": "Hi"}])),
    ("Hi", "Hi"),
]
DIFFERENT = [
    (HumanMessage("Hi"), AIMessage("Hi")),
    (HumanMessage("Hi"), HumanMessage("Ho", id="1")),
    (ToolMessage("7", tool_call_id="1"), ToolMessage("7", tool_call_id="2")),
    (AIMessage("", additional_kwargs={"refusal": "No."}), AIMessage("", additional_kwargs={"refusal": "Never."})),
    (
        AIMessage("", tool_calls=[tool_call(name="f", args={"a": 1}, id=None)]),
        AIMessage("", tool_calls=[tool_call(name="f", args={"a": 2}, id=None)]),
    ),
    (AIMessage([{"type": "text", "text": "Hi"}]), AIMessage([{"type": "text", "text": "Ho"}])),
]


def test_looks() -> None:
    """A message that is resent looks the same, whatever id or metadata it got on the way; another one does not."""
    for one, other in ALIKE:
        assert MESSAGES.fingerprint([one]) == MESSAGES.fingerprint([other])
    for one, other in DIFFERENT:
        assert MESSAGES.fingerprint([one]) != MESSAGES.fingerprint([other])


def test_looking_is_quick() -> None:
    """To look at a history of a thousand messages costs less than a millisecond or two."""
    history = [HumanMessage("Hi" * 100), AIMessage("Hello" * 100), ToolMessage("7", tool_call_id="c")] * 333
    fingerprint = functools.partial(MESSAGES.fingerprint, history)
    assert min(timeit.repeat(fingerprint, timer=time.thread_time, number=1, repeat=20)) < 0.01


KEYS = ("type", "text", "id", "name", "args", "source", "url", "data", "image", "summary", "reasoning", "content")
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=3), inner, max_size=4)
        | st.fixed_dictionaries({"type": st.sampled_from(sorted(_READERS))}, optional={"value": inner, "source": inner})
    ),
    max_leaves=12,
)


@given(JUNK, st.sampled_from(["ai", "human", "tool", "chat", "system", "x"]))
def test_odd_content(content: Any, kind: str) -> None:
    """Whatever stands where content is expected, reading and looking never raise."""
    message = AIMessage.model_construct(type=kind, content=content, additional_kwargs=content, tool_calls=content)
    MESSAGES.fingerprint([message])
    MESSAGES.read(message)
    answer(
        LLMResult.model_construct(generations=[[ChatGeneration.model_construct(message=message)]], llm_output=content)
    )
    answer(LLMResult.model_construct(generations=content))
    piece(content, message)
    list(tool_messages(content))
    documents_metadata(content)


# -- results -----------------------------------------------------------------------------------------------------------


def result(message: AIMessage, output: Any = None, **information: Any) -> LLMResult:
    """What a run with one answer ends with."""
    return LLMResult(generations=[[ChatGeneration(message=message, generation_info=information)]], llm_output=output)


PROVIDERS: list[tuple[str, LLMResult, Any]] = [
    (
        "OpenAI",
        result(
            AIMessage(
                "Hi",
                id="lc_run--1-0",
                response_metadata={"model_name": "gpt-4o-2024", "finish_reason": "stop", "id": "chatcmpl-1"},
                usage_metadata={
                    "input_tokens": 20,
                    "output_tokens": 9,
                    "total_tokens": 29,
                    "input_token_details": {"cache_read": 16, "audio": 0},
                    "output_token_details": {"reasoning": 4, "audio": 1},
                },
            )
        ),
        {
            "model": "gpt-4o-2024",
            "usage": {"prompt_tokens": 20, "completion_tokens": 9},
            "usage_details": {"cachedTokens": 16, "reasoningTokens": 4, "completionAudioTokens": 1},
            "finish_reason": "stop",
            "response_id": "chatcmpl-1",
        },
    ),
    (
        "Anthropic",
        result(
            AIMessage(
                "Hi",
                id="msg_1",
                response_metadata={"model": "claude-x", "stop_reason": "tool_use", "usage": {"input_tokens": 3}},
                usage_metadata={
                    "input_tokens": 103,
                    "output_tokens": 9,
                    "total_tokens": 112,
                    "input_token_details": {"cache_read": 60, "cache_creation": 40, "ephemeral_5m_input_tokens": 40},
                },
            )
        ),
        {
            "model": "claude-x",
            "usage": {"prompt_tokens": 103, "completion_tokens": 9},
            "usage_details": {
                "cachedTokens": 60,
                "promptCacheCreationTokens": 40,
                "promptEphemeral5mInputTokens": 40,
            },
            "finish_reason": "stop",
            "response_id": "msg_1",
        },
    ),
    (
        "Google",
        result(AIMessage("Hi", id="run-1", response_metadata={"finish_reason": "MAX_TOKENS", "model_name": "gemini"})),
        {"model": "gemini", "finish_reason": "MAX_TOKENS"},
    ),
    (
        "Bedrock",
        result(AIMessage("Hi", response_metadata={"stopReason": "end_turn", "model_id": "nova"})),
        {"model": "nova", "finish_reason": "stop"},
    ),
    (
        "Ollama",
        result(AIMessage("Hi", response_metadata={"done_reason": "length", "model": "llama"})),
        {"model": "llama", "finish_reason": "length"},
    ),
    (
        "OpenAI Responses, cut off",
        result(
            AIMessage(
                "Hi",
                id="resp_1",
                response_metadata={"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
            )
        ),
        {"finish_reason": "max_output_tokens", "response_id": "resp_1"},
    ),
    (
        "usage beside the message",
        result(AIMessage("Hi"), {"token_usage": {"prompt_tokens": 3, "completion_tokens": 1}, "model_name": "m"}),
        {"model": "m", "usage": {"prompt_tokens": 3, "completion_tokens": 1}},
    ),
    ("a fake", result(AIMessage("Hi")), {}),
]


@pytest.mark.parametrize(("response", "facts"), [row[1:] for row in PROVIDERS], ids=[row[0] for row in PROVIDERS])
def test_facts(response: LLMResult, facts: Any) -> None:
    """Model, usage, finish reason and id as each provider's integration reports them; cached tokens counted once."""
    assert bare(settled(answer(response))) == {"messages": [{"role": "assistant", "text": "Hi"}], **facts}


def test_an_answer_from_langchain_s_cache() -> None:
    """What the cache repeats was counted before, and is marked."""
    usage: Any = {"input_tokens": 3, "output_tokens": 1, "total_tokens": 4, "total_cost": 0}
    found = answer(result(AIMessage.model_construct(type="ai", content="Hi", usage_metadata=usage)))
    assert (found.usage, found.metadata) == (None, {"cached": True})


def test_several_answers() -> None:
    """With n > 1 the first answer is the turn, the others its alternatives."""
    generations: list[Any] = [
        ChatGeneration(message=AIMessage("Heads"), generation_info={"finish_reason": "stop"}),
        ChatGeneration(message=AIMessage("", tool_calls=[tool_call(name="f", args={}, id="c")])),
    ]
    found = answer(LLMResult(generations=[generations]))
    assert found.messages == (SourceMessage("assistant", "Heads"),)
    assert found.alternatives == (
        {"index": 1, "content": "", "toolCalls": [{"id": "c", "name": "f", "arguments": {}}]},
    )


def test_a_completion_model_s_answer() -> None:
    """A completion model's generation is its text."""
    generation = Generation(text="Hi", generation_info={"finish_reason": "length"})
    found = answer(LLMResult(generations=[[generation]], llm_output={"model_name": "m"}))
    assert bare(found) == {"messages": [{"role": "assistant", "text": "Hi"}], "model": "m", "finish_reason": "length"}


def test_no_answer() -> None:
    """A result without any generation says nothing, and nothing has arrived of it."""
    for response in (LLMResult(generations=[]), LLMResult(generations=[[]]), None):
        assert bare(answer(response)) == {}
        assert partial(response) is None
    assert partial(result(AIMessage(""))) is None
    found = bare(partial(result(AIMessage("He"))))
    assert found == {"messages": [{"role": "assistant", "text": "He"}], "partial": True}


@pytest.mark.parametrize(
    ("token", "message", "expected"),
    [
        ("Hi", None, ("Hi", False)),
        ("", AIMessageChunk(content=""), ("", True)),
        ([{"type": "text", "text": "Hi"}], None, ("Hi", False)),
        (
            [],
            AIMessageChunk(content="", tool_call_chunks=[{"name": "f", "args": "", "id": "c", "index": 0}]),
            ("", False),
        ),
    ],
)
def test_pieces(token: Any, message: Any, expected: Any) -> None:
    """A piece of a stream has text, or a part of a call, or nothing yet."""
    chunk = None if message is None else ChatGeneration.model_construct(message=message)
    assert piece(token, chunk) == expected


def test_attachments_keep_their_data_by_reference() -> None:
    """An embedded image is neither copied nor decoded when it is read."""
    data = "A" * 1_000_000
    before = sys.getrefcount(data)
    (source,) = MESSAGES.read(HumanMessage([{"type": "image", "base64": data, "mime_type": "image/png"}]))
    assert source.attachments == (Attachment("image", "image/png", data),)
    assert source.attachments[0].data is data
    assert sys.getrefcount(data) > before
    assert source.calls == ()
    assert SourceToolCall("c", "f", None) not in source.calls
