"""Reading Chat Completions: messages of a request, whole answers, chunks; in the shapes that real traffic has."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from converra.history.turn import Answer, Attachment, SourceMessage, SourceToolCall
from converra.integrations.openai.chat import CHAT, answer, request
from converra.integrations.openai.chat_chunks import ChatChunks
from tests.integrations.chat_scripts import TEXT_CHUNKS, TOOL_CHUNKS, USAGE_CHUNK, chunk, completion, tool_call
from tests.integrations.recording import bare, settled

PNG = "data:image/png;base64," + "A" * 4_000


@pytest.mark.parametrize(
    ("message", "source"),
    [
        ({"role": "system", "content": "Be brief."}, SourceMessage("system", "Be brief.")),
        ({"role": "developer", "content": "Be brief."}, SourceMessage("system", "Be brief.")),
        ({"role": "user", "content": "Hi"}, SourceMessage("user", "Hi")),
        ({"role": "user", "content": ""}, SourceMessage("user", "")),
        ({"role": "user", "content": "Hi", "name": "Ada"}, SourceMessage("user", "Hi", metadata={"name": "Ada"})),
        ({"role": "critic", "content": "Hm."}, SourceMessage("critic", "Hm.")),
        (
            {"role": "user", "content": [{"type": "text", "text": "a"}, "b", {"text": "c"}]},
            SourceMessage("user", "a\nb\nc"),
        ),
        (
            {
                "role": "user",
                "content": [{"type": "image_url", "image_url": {"url": PNG}}, {"type": "text", "text": "?"}],
            },
            SourceMessage(
                "user", "[image: image/png, 2.9 KB]\n?", attachments=(Attachment("image", "image/png", PNG),)
            ),
        ),
        (
            {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
            SourceMessage("tool", "sunny", call_id="call_1"),
        ),
        (
            {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "sunny"}]},
            SourceMessage("tool", "sunny", call_id="call_1"),
        ),
        (
            {"role": "function", "name": "get_weather", "content": "sunny"},
            SourceMessage("tool", "sunny", name="get_weather"),
        ),
        ({"role": "assistant", "content": None}, SourceMessage("assistant")),
        ({"role": "assistant"}, SourceMessage("assistant")),
        (
            {"role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            SourceMessage("assistant", "ab"),
        ),
        (
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
            SourceMessage("assistant", "No.", metadata={"refusal": True}),
        ),
        (
            {"role": "assistant", "content": "Well:", "refusal": "No."},
            SourceMessage("assistant", "Well:\nNo.", metadata={"refusal": True}),
        ),
        (
            {"role": "assistant", "content": "Hi", "tool_calls": [tool_call(1, "f", "{}")]},
            SourceMessage("assistant", "Hi", calls=(SourceToolCall("call_1", "f", "{}"),)),
        ),
        (
            {
                "role": "assistant",
                "tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "sql", "input": "x"}}],
            },
            SourceMessage("assistant", calls=(SourceToolCall("c", "sql", "x"),)),
        ),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]},
            SourceMessage("assistant", calls=(SourceToolCall(None, "f", {"a": 1}),)),
        ),
        (
            {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
            SourceMessage("assistant", calls=(SourceToolCall(None, "f", "{}"),)),
        ),
        (
            {"role": "assistant", "content": "4", "reasoning_content": "2+2"},
            SourceMessage("assistant", "4", metadata={"reasoning": "2+2"}),
        ),
        (
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "2+2"}]},
                    {"type": "text", "text": "4"},
                ],
            },
            SourceMessage("assistant", "4", metadata={"reasoning": "2+2"}),
        ),
        (
            {"role": "assistant", "audio": {"id": "audio_1"}},
            SourceMessage("assistant", metadata={"audio": {"id": "audio_1"}}),
        ),
    ],
)
def test_a_message(message: dict[str, Any], source: SourceMessage) -> None:
    """Each kind of message says what a person would read in it."""
    assert CHAT.read(message) == (source,)


@pytest.mark.parametrize("nonsense", [None, "Hi", 7, [], {}, {"content": "Hi"}, {"role": 3}, object()])
def test_a_message_that_is_none(nonsense: Any) -> None:
    """What is no message says nothing."""
    assert CHAT.read(nonsense) == ()


def test_a_request() -> None:
    """Messages, model and tools are taken as they are; what can be read only once is not read."""
    messages = ({"role": "user", "content": "Hi"},)
    found = request({"messages": messages, "model": "m", "functions": [{"name": "f"}]})
    assert (found.messages, found.model, found.tools) == (messages, "m", [{"name": "f"}])
    consumable = iter(messages)
    assert request({"messages": consumable, "tools": {"a": 1}}).messages == ()
    assert list(consumable) == [*messages]


def whole(document: dict[str, Any]) -> Answer:
    """Read an answer as JSON and as the SDK's object, which must not differ."""
    plain, built = answer(document), settled(answer(ChatCompletion.construct(**document)))
    assert plain == built
    return plain


def test_an_answer_with_everything() -> None:
    """Annotations, audio, thoughts and usage details come along; log probabilities do not."""
    message = {
        "content": None,
        "audio": {"id": "audio_1", "data": "UklGRg==", "transcript": "Hello.", "expires_at": 17},
        "annotations": [{"type": "url_citation", "url_citation": {"url": "https://a", "title": "A"}}],
        "reasoning_content": "They greet.",
    }
    read = whole(completion(message, usage={"prompt_tokens": 2, "completion_tokens_details": {"text_tokens": 3}}))
    assert bare(read) == {
        "messages": [
            {
                "role": "assistant",
                "text": "Hello.",
                "attachments": [{"kind": "audio", "data": "UklGRg=="}],
                "metadata": {
                    "audio": {"id": "audio_1", "expires_at": 17},
                    "reasoning": "They greet.",
                    "annotations": [{"type": "url_citation", "url_citation": {"url": "https://a", "title": "A"}}],
                },
            }
        ],
        "model": "gpt-4o-2024-08-06",
        "usage": {"prompt_tokens": 2},
        "usage_details": {"completionTextTokens": 3},
        "finish_reason": "stop",
        "response_id": "chatcmpl-1",
    }


TOKENS = [{"token": "He", "logprob": -0.25, "top_logprobs": []}, {"token": "y", "logprob": -0.5, "top_logprobs": []}]


def test_log_probabilities() -> None:
    """Where they were asked for, how sure the model was is kept in three numbers, streamed or not."""
    sure = {"logprobs": {"tokens": 2, "mean": -0.375, "lowest": -0.5}}
    document = completion({"content": "Hey"})
    document["choices"][0]["logprobs"] = {"content": TOKENS, "refusal": None}
    assert whole(document).metadata == sure
    pieces = [chunk({"content": ""}), chunk({"content": "He"}), chunk({"content": "y"}), chunk({}, finish="stop")]
    for piece, token in zip(pieces[1:3], TOKENS, strict=True):
        piece["choices"][0]["logprobs"] = {"content": [token]}
    assert streamed(*pieces).metadata == sure
    assert streamed(*pieces).messages[0].text == "Hey"


def test_choices_out_of_order() -> None:
    """The first choice is the one with the lowest index; the others are alternatives, with their calls."""
    document = completion({"content": "a"}, {"tool_calls": [tool_call(1, "f", "{}")]})
    document["choices"].reverse()
    read = whole(document)
    assert read.messages[0].text == "a"
    assert read.alternatives == (
        {
            "index": 1,
            "content": "",
            "toolCalls": [{"id": "call_1", "name": "f", "arguments": "{}"}],
            "finishReason": "stop",
        },
    )


@pytest.mark.parametrize(
    ("document", "error"),
    [
        ({"choices": None}, "NoAnswer"),
        ({"choices": []}, "NoAnswer"),
        ({"error": {"type": None, "code": "429"}}, "429"),
        ({"error": "no"}, "NoAnswer"),
        ({}, "NoAnswer"),
    ],
)
def test_an_answer_that_is_none(document: dict[str, Any], error: str) -> None:
    """A success status without an answer is a turn with an error."""
    assert bare(whole(document)) == {"metadata": {"error": {"type": error}}}


def test_an_error_that_cost_tokens() -> None:
    """Usage is not lost where there is no answer."""
    read = whole({"choices": None, "usage": {"prompt_tokens": 1, "completion_tokens": 0}})
    assert bare(read)["messages"] == [{"role": "assistant"}]
    assert bare(read)["usage"] == {"prompt_tokens": 1, "completion_tokens": 0}


# -- chunks ------------------------------------------------------------------------------------------------------------


def streamed(*chunks: dict[str, Any]) -> Answer:
    """Put chunks together as JSON and as the SDK's objects, which must not differ."""
    plain, built = ChatChunks(), ChatChunks()
    for one in chunks:
        plain.feed(one)
        built.feed(ChatCompletionChunk.construct(**one))
    assert plain.answer() == built.answer()
    assert (plain.started, plain.finished) == (built.started, built.finished)
    return plain.answer()


def test_chunks_make_the_whole() -> None:
    """A streamed answer reads like the same answer in one piece."""
    text = {"content": "Hello there!"}
    assert streamed(*TEXT_CHUNKS, USAGE_CHUNK) == whole(completion(text))
    calls = [tool_call(1, "get_weather", '{"city": "Paris"}'), tool_call(2, "get_time", '{"zone": "CET"}')]
    assert streamed(*TOOL_CHUNKS, USAGE_CHUNK) == whole(completion({"tool_calls": calls}, finish="tool_calls"))


def test_interleaved_choices() -> None:
    """Two choices that come by turns are not mixed up, whichever comes first."""
    read = streamed(
        chunk({"content": "Ta"}, index=1),
        chunk({"content": "He"}),
        chunk({"content": "ils"}, index=1),
        chunk({"content": "ads"}),
        chunk({}, finish="stop"),
        chunk({}, index=1, finish="length"),
    )
    assert read.messages[0].text == "Heads"
    assert read.alternatives == ({"index": 1, "content": "Tails", "finishReason": "length"},)


@pytest.mark.parametrize(
    ("deltas", "source"),
    [
        (
            [{"refusal": "I ca"}, {"refusal": "n't."}],
            SourceMessage("assistant", "I can't.", metadata={"refusal": True}),
        ),
        (
            [{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}],
            SourceMessage("assistant", "ab"),
        ),
        (
            [{"reasoning_content": "2"}, {"reasoning_content": "+2"}, {"content": "4"}],
            SourceMessage("assistant", "4", metadata={"reasoning": "2+2"}),
        ),
        (
            [
                {"content": [{"type": "thinking", "thinking": "2+"}]},
                {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "2"}]}]},
                {"content": [{"type": "text", "text": "4"}]},
            ],
            SourceMessage("assistant", "4", metadata={"reasoning": "2+2"}),
        ),
        (
            [{"function_call": {"name": "f", "arguments": '{"a"'}}, {"function_call": {"arguments": ":1}"}}],
            SourceMessage("assistant", calls=(SourceToolCall(None, "f", '{"a":1}'),)),
        ),
        (
            [
                {"audio": {"id": "audio_1", "transcript": "He"}},
                {"audio": {"data": "AAAA", "transcript": "llo"}},
                {"audio": {"expires_at": 9}},
            ],
            SourceMessage(
                "assistant",
                "Hello",
                attachments=(Attachment("audio", None, "AAAA"),),
                metadata={"audio": {"id": "audio_1", "expires_at": 9}},
            ),
        ),
        (  # calls without an index: an id starts the next one
            [
                {"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{"}}]},
                {"tool_calls": [{"function": {"arguments": "}"}}]},
                {"tool_calls": [{"id": "b", "function": {"name": "g", "arguments": "{}"}}]},
            ],
            SourceMessage("assistant", calls=(SourceToolCall("a", "f", "{}"), SourceToolCall("b", "g", "{}"))),
        ),
        (  # numbered from one, custom, arguments that are no strings
            [
                {"tool_calls": [{"index": 1, "id": "a", "type": "custom", "custom": {"name": "sql", "input": "se"}}]},
                {"tool_calls": [{"index": 1, "custom": {"input": "lect"}}]},
                {"tool_calls": [{"index": 2, "id": "b", "function": {"name": "g", "arguments": None}}]},
            ],
            SourceMessage("assistant", calls=(SourceToolCall("a", "sql", "select"), SourceToolCall("b", "g", ""))),
        ),
    ],
)
def test_what_chunks_bring(deltas: list[dict[str, Any]], source: SourceMessage) -> None:
    """Refusals, thoughts, audio, old and odd calls come in pieces and are put together."""
    assert streamed(*[chunk(delta) for delta in deltas]).messages == (source,)


def test_azure_begins_without_a_choice() -> None:
    """A first chunk without model and choices, and one with only content filter results, do no harm."""
    first = {**chunk(), "model": "", "id": "", "prompt_filter_results": []}
    filtered = {
        **chunk({"content": "Hi"}),
        "choices": [{"index": 0, "finish_reason": None, "content_filter_results": {}}],
    }
    read = streamed(first, chunk({"content": "Hi"}), filtered, chunk({}, finish="stop"))
    assert (read.model, read.messages[0].text, read.finish_reason) == ("gpt-4o-2024-08-06", "Hi", "stop")


def test_usage_in_every_chunk() -> None:
    """Where a provider counts up in every chunk, the last count is right."""
    counts = [{"prompt_tokens": 3, "completion_tokens": n} for n in (1, 2, 8)]
    read = streamed(*[chunk({"content": "a"}, usage=count) for count in counts])
    assert bare(read.usage) == {"prompt_tokens": 3, "completion_tokens": 8}


def test_an_error_among_the_chunks() -> None:
    """An error inside the stream is the turn's error; without text, there is no answer."""
    failed = {"error": {"type": "server_error", "message": "overloaded"}}
    assert bare(streamed(failed)) == {"metadata": {"error": {"type": "server_error"}}}
    assert bare(streamed(chunk({"content": "Hi"}), failed))["messages"] == [{"role": "assistant", "text": "Hi"}]


def test_nothing_but_an_end() -> None:
    """An answer of no words keeps its finish reason."""
    read = streamed(chunk({"role": "assistant", "content": ""}), chunk({}, finish="length"))
    assert (read.messages, read.finish_reason) == ((SourceMessage("assistant"),), "length")


# -- any nonsense ------------------------------------------------------------------------------------------------------

scalars = st.none() | st.booleans() | st.integers(-2, 3) | st.text(max_size=4)
nonsense = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def broken(shape: Any) -> st.SearchStrategy[Any]:
    """The same document with any of its values missing or replaced by nonsense."""
    if isinstance(shape, dict):
        fields = {key: broken(value) for key, value in shape.items()}
        return st.fixed_dictionaries({}, optional=fields) | nonsense
    if isinstance(shape, list):
        return st.lists(broken(shape[0]), max_size=3) | nonsense if shape else nonsense
    return st.just(shape) | nonsense


FULL_MESSAGE = {
    "role": "assistant",
    "content": [{"type": "text", "text": "a"}],
    "refusal": "no",
    "name": "n",
    "audio": {"id": "a", "data": "AAAA", "transcript": "t"},
    "tool_calls": [{"index": 0, **tool_call(1, "f", "{}"), "custom": {"name": "c", "input": "i"}}],
    "function_call": {"name": "f", "arguments": "{}"},
    "reasoning_content": "r",
    "annotations": [{"type": "url_citation"}],
    "tool_call_id": "call_1",
}
FULL_ANSWER = completion(FULL_MESSAGE, error={"type": "t", "code": "c"})
FULL_CHUNK = chunk(FULL_MESSAGE, usage=FULL_ANSWER["usage"], error={"type": "t"})


def objects(value: Any) -> Any:
    """Nested dicts as objects with attributes, as SDKs have them."""
    if isinstance(value, dict):
        return SimpleNamespace(**{key: objects(item) for key, item in value.items()})
    return [objects(item) for item in value] if isinstance(value, list) else value


@given(broken(FULL_ANSWER), st.booleans())
def test_any_answer_is_read(document: Any, as_objects: bool) -> None:
    """Whatever field of an answer is missing, None or of a wrong type: reading it does not raise."""
    assert isinstance(answer(objects(document) if as_objects else document), Answer)


@given(st.lists(broken(FULL_CHUNK), max_size=4), st.booleans())
def test_any_chunks_are_read(chunks: list[Any], as_objects: bool) -> None:
    """Whatever comes in a stream: putting it together does not raise."""
    pieces = ChatChunks()
    for one in chunks:
        pieces.feed(objects(one) if as_objects else one)
    assert isinstance(pieces.answer(), Answer)


@given(st.lists(broken(FULL_MESSAGE), max_size=4))
def test_any_messages_are_read(messages: list[Any]) -> None:
    """Whatever a request holds: looking at it and reading it does not raise."""
    assert len(CHAT.fingerprint(messages)) == len(messages)
    for message in messages:
        assert isinstance(CHAT.read(message), tuple)
