"""Reading Responses: items of input and output, whole answers, events; hosted tools and kinds to come."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from openai.types.responses import Response

from converra.history.turn import Answer, Attachment, SourceMessage, SourceToolCall
from converra.integrations.openai.events import ResponseEvents
from converra.integrations.openai.responses import RESPONSES, answer, request
from tests.integrations.recording import bare, settled
from tests.integrations.responses_scripts import (
    HELLO,
    REASONING,
    SEARCH,
    TEXT_EVENTS,
    TOOLS,
    call_events,
    function_call,
    message,
    response,
    text_events,
)
from tests.integrations.test_openai_chat import broken, objects

PICTURE = "iVBORw0K" * 1_000


@pytest.mark.parametrize(
    ("item", "source"),
    [
        ({"role": "user", "content": "Hi"}, SourceMessage("user", "Hi")),
        ({"type": "message", "role": "developer", "content": "Be brief."}, SourceMessage("system", "Be brief.")),
        (
            {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
            SourceMessage("user", "a\nb"),
        ),
        (message("Hi", {"type": "output_text", "text": "!"}), SourceMessage("assistant", "Hi!")),
        (
            message("Hi", annotations=[{"type": "url_citation", "url": "https://a"}]),
            SourceMessage("assistant", "Hi", metadata={"annotations": [{"type": "url_citation", "url": "https://a"}]}),
        ),
        (function_call(1, "f", "{}"), SourceMessage("assistant", calls=(SourceToolCall("call_1", "f", "{}"),))),
        (
            {"type": "custom_tool_call", "call_id": "c", "name": "sql", "input": "select"},
            SourceMessage("assistant", calls=(SourceToolCall("c", "sql", "select"),)),
        ),
        (
            {"type": "local_shell_call", "id": "l", "call_id": "c", "action": {"type": "exec", "command": ["ls"]}},
            SourceMessage(
                "assistant",
                calls=(SourceToolCall("c", "local_shell", {"action": {"type": "exec", "command": ["ls"]}}),),
            ),
        ),
        (
            {"type": "function_call_output", "call_id": "call_1", "output": "sunny"},
            SourceMessage("tool", "sunny", call_id="call_1"),
        ),
        (
            {
                "type": "function_call_output",
                "call_id": "call_1",
                "output": [{"type": "input_text", "text": "see"}, {"type": "input_image", "file_id": "file-1"}],
            },
            SourceMessage("tool", "see\n[image: file-1]", (), "call_1", None, (Attachment("image", name="file-1"),)),
        ),
        (
            {
                "type": "computer_call_output",
                "call_id": "c",
                "output": {"type": "computer_screenshot", "image_url": "https://a"},
            },
            SourceMessage("tool", "[image: https://a]", (), "c", None, (Attachment("image", url="https://a"),)),
        ),
        (
            {"type": "shell_call_output", "call_id": "c", "output": [{"stdout": "a", "outcome": {"exit_code": 0}}]},
            SourceMessage("tool", '[{"stdout":"a","outcome":{"exit_code":0}}]', call_id="c"),
        ),
        ({"type": "program_output", "call_id": "c", "result": "7"}, SourceMessage("tool", "7", call_id="c")),
        (
            {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True},
            SourceMessage("tool", "approved", call_id="mcpr_1"),
        ),
        (
            {
                "type": "mcp_approval_response",
                "approval_request_id": "mcpr_1",
                "approve": False,
                "reason": "Too risky.",
            },
            SourceMessage("tool", "denied: Too risky.", call_id="mcpr_1"),
        ),
        (
            {**message("Let me see."), "phase": "commentary"},
            SourceMessage("assistant", "Let me see.", metadata={"phase": "commentary"}),
        ),
        ({**message("Done."), "phase": "final_answer"}, SourceMessage("assistant", "Done.")),
        (
            message("Hi", logprobs=[{"token": "H", "logprob": -0.1}, {"token": "i", "logprob": -0.3}]),
            SourceMessage("assistant", "Hi", metadata={"logprobs": {"tokens": 2, "mean": -0.2, "lowest": -0.3}}),
        ),
        (
            {
                "type": "mcp_call",
                "id": "m",
                "server_label": "s",
                "name": "roll",
                "arguments": '{"d": 6}',
                "output": "4",
            },
            SourceMessage(
                "tool",
                "4",
                (SourceToolCall("m", "roll", '{"d": 6}'),),
                "m",
                "roll",
                metadata={
                    "item": {
                        "type": "mcp_call",
                        "id": "m",
                        "server_label": "s",
                        "name": "roll",
                        "arguments": '{"d": 6}',
                        "output": "4",
                    }
                },
            ),
        ),
        (
            {
                "type": "code_interpreter_call",
                "id": "ci",
                "code": "1+1",
                "outputs": [{"type": "logs", "logs": "2"}, {"type": "image"}],
            },
            SourceMessage(
                "tool",
                "2",
                (SourceToolCall("ci", "code_interpreter", {"code": "1+1"}),),
                "ci",
                "code_interpreter",
                metadata={
                    "item": {
                        "type": "code_interpreter_call",
                        "id": "ci",
                        "code": "1+1",
                        "outputs": [{"type": "logs", "logs": "2"}, {"type": "image"}],
                    }
                },
            ),
        ),
        (
            {"type": "image_generation_call", "id": "ig", "result": PICTURE, "output_format": "webp"},
            SourceMessage(
                "tool",
                "[image: image/webp, 5.9 KB]",
                (SourceToolCall("ig", "image_generation", None),),
                "ig",
                "image_generation",
                (Attachment("image", "image/webp", PICTURE),),
                {
                    "item": {
                        "type": "image_generation_call",
                        "id": "ig",
                        "result": "<8000 characters>",
                        "output_format": "webp",
                    }
                },
            ),
        ),
    ],
)
def test_an_item(item: dict[str, Any], source: SourceMessage) -> None:
    """Each kind of item says what a person would read in it; megabytes of base64 become an attachment."""
    assert RESPONSES.read(item) == (source,)


@pytest.mark.parametrize(
    "item",
    [
        {"type": "item_reference", "id": "msg_1"},
        {"type": "compaction", "encrypted_content": "x"},
        {"type": "configuration_update"},
        {"type": "to_come", "content": "?"},
        REASONING,
        {"content": "Hi"},
        "Hi",
        None,
    ],
)
def test_an_item_without_words(item: Any) -> None:
    """References, compaction, thoughts and kinds to come are passed over in the input."""
    assert RESPONSES.read(item) == ()


def test_a_request() -> None:
    """A string, a list, or no input at all; instructions apart; what it goes on from, by either name."""
    assert request({"input": "Hi", "instructions": "Be brief."}).messages == ({"role": "user", "content": "Hi"},)
    assert request({"input": "Hi", "instructions": "Be brief."}).instructions == "Be brief."
    assert request({"prompt": {"id": "pmpt_1"}}).messages == ()
    assert request({"prompt": {"id": "pmpt_1"}}).instructions == "[prompt: pmpt_1]"
    assert request({"previous_response_id": "resp_1"}).previous == "resp_1"
    assert request({"conversation": {"id": "conv_1"}}).previous == "conv_1"


def test_a_prompt_template() -> None:
    """What the provider makes a prompt of is named, with all that the app puts into it."""
    picture = {"type": "input_image", "image_url": "https://a/b.png"}
    variables = {"name": "Ada", "topic": {"type": "input_text", "text": "tents"}, "photo": picture, "odd": 7}
    prompt = {"id": "pmpt_1", "version": "3", "variables": variables}
    assert request({"prompt": prompt, "instructions": "Be brief."}).instructions == (
        "[prompt: pmpt_1, version 3]\nname: Ada\ntopic: tents\nphoto: [image: https://a/b.png]\nodd: [part]\nBe brief."
    )


def whole(document: dict[str, Any]) -> Answer:
    """Read a response as JSON and as the SDK's object, which must not differ."""
    plain, built = answer(document), settled(answer(Response.construct(**document)))
    assert plain == built
    return plain


def test_a_response_of_many_kinds() -> None:
    """Thoughts go with what follows them, calls with the text before them; nothing is dropped, nothing raises."""
    later = {**REASONING, "summary": [], "content": [{"type": "reasoning_text", "text": "One more."}]}
    unknown = {"type": "to_come", "id": "x_1", "data": {"a": [1]}}
    encrypted = {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "gAAA"}
    read = whole(
        response(
            REASONING,
            message("Let me look."),
            function_call(1, "f", "{}"),
            SEARCH,
            later,
            function_call(2, "g", "{}"),
            unknown,
            encrypted,
            message("Done."),
            {**REASONING, "id": "rs_3"},
        )
    )
    assert bare(read.messages) == [
        {
            "role": "assistant",
            "text": "Let me look.",
            "calls": [{"id": "call_1", "name": "f", "arguments": "{}"}],
            "metadata": {"reasoning": "They greet me."},
        },
        bare(RESPONSES.read(SEARCH)[0]),
        {
            "role": "assistant",
            "calls": [{"id": "call_2", "name": "g", "arguments": "{}"}],
            "metadata": {"reasoning": "One more."},
        },
        {"role": "assistant", "text": "Done."},
    ]
    assert read.metadata == {"reasoning": "They greet me.", "items": [unknown]}


@pytest.mark.parametrize(
    ("document", "facts"),
    [
        ({}, {"metadata": {"error": {"type": "NoAnswer"}}}),
        ({"error": {"type": "server_error"}}, {"metadata": {"error": {"type": "server_error"}}}),
        (
            {
                "status": "failed",
                "output": None,
                "error": {"code": "rate_limit_exceeded"},
                "usage": {"input_tokens": 3},
            },
            {
                "messages": [{"role": "assistant"}],
                "usage": {"prompt_tokens": 3},
                "finish_reason": "failed",
                "metadata": {"error": {"type": "rate_limit_exceeded"}},
            },
        ),
        (
            {"status": "incomplete", "output": [], "incomplete_details": {"reason": "content_filter"}},
            {"messages": [{"role": "assistant"}], "finish_reason": "content_filter"},
        ),
        (
            {"id": "resp_1", "status": "completed", "output": [], "conversation": {"id": "conv_1"}},
            {"messages": [{"role": "assistant"}], "finish_reason": "completed", "response_id": "conv_1"},
        ),
    ],
)
def test_a_response_without_words(document: dict[str, Any], facts: dict[str, Any]) -> None:
    """Failed, filtered, empty: a turn with what is known of it; in a conversation, known by its id."""
    assert bare(whole(document)) == facts


def streamed(*events: dict[str, Any]) -> ResponseEvents:
    """Put events together as JSON and as objects, which must not differ."""
    plain, built = ResponseEvents(), ResponseEvents()
    for event in events:
        plain.feed(event)
        built.feed(objects(event))
    assert plain.answer() == built.answer()
    assert (plain.started, plain.finished) == (built.started, built.finished)
    return plain


def test_events_make_the_whole() -> None:
    """A streamed response reads like the same response in one piece."""
    assert streamed(*text_events("Hel", "lo", whole=HELLO)).answer() == whole(HELLO)
    assert streamed(*call_events()).answer() == whole(response(function_call(1, "get_weather", '{"city": "Paris"}')))


def test_a_last_event_without_output() -> None:
    """Where a provider leaves the output out of the last event, it is what has come before."""
    events = text_events("Hel", "lo", whole={**response(), "output": None})
    assert streamed(*events).answer() == whole(response(message("Hello")))


def test_events_cut_short() -> None:
    """Text and calls of a stream that broke off are what had arrived."""
    pieces = streamed(*TEXT_EVENTS[:7])
    assert not pieces.finished
    assert pieces.started
    assert bare(pieces.answer())["messages"] == [{"role": "assistant", "text": "Hello there"}]
    assert bare(streamed(*call_events()[:3]).answer())["messages"] == [
        {"role": "assistant", "calls": [{"id": "call_1", "name": "get_weather", "arguments": '{"city":'}]}
    ]


def test_events_of_other_kinds() -> None:
    """A refusal and a custom tool's input come in pieces too; an error event ends the stream."""
    refusal = [
        {"type": "response.refusal.delta", "output_index": 0, "content_index": 0, "delta": d} for d in ("N", "o.")
    ]
    custom = {"type": "custom_tool_call", "call_id": "c", "name": "sql", "input": ""}
    pieces = streamed(
        *refusal,
        {"type": "response.output_item.added", "output_index": 1, "item": custom},
        {"type": "response.custom_tool_call_input.delta", "output_index": 1, "delta": "select"},
        {"type": "response.function_call_arguments.delta", "output_index": 9, "delta": "lost"},
        {"type": "response.reasoning_summary_text.delta", "delta": "hm"},
        {"type": "response.audio.done"},
        {"type": "error", "code": "server_error", "message": "overloaded", "param": None},
    )
    assert pieces.finished
    assert bare(pieces.answer()) == {
        "messages": [
            {
                "role": "assistant",
                "text": "No.",
                "calls": [{"id": "c", "name": "sql", "arguments": "select"}],
                "metadata": {"refusal": True},
            }
        ],
        "finish_reason": "failed",
        "partial": True,
        "metadata": {"error": {"type": "server_error"}},
    }


# -- any nonsense ------------------------------------------------------------------------------------------------------

ITEMS = [*TOOLS["output"], *HELLO["output"], SEARCH]
EVENTS = [*TEXT_EVENTS, *call_events()]


@given(st.lists(st.sampled_from(ITEMS).flatmap(broken), max_size=4), st.booleans())
def test_any_response_is_read(output: list[Any], as_objects: bool) -> None:
    """Whatever an output holds: reading it does not raise."""
    document = response(*output)
    assert isinstance(answer(objects(document) if as_objects else document), Answer)


@given(broken(response(message("Hi"), usage={"input_tokens": 1}, error={"code": "c"}, conversation={"id": "c"})))
def test_any_facts_are_read(document: Any) -> None:
    """Whatever field of a response is missing, None or of a wrong type: reading it does not raise."""
    assert isinstance(answer(document), Answer)


@given(st.lists(st.sampled_from(EVENTS).flatmap(broken), max_size=6), st.booleans())
@example([{"type": "response.output_item.added", "item": True}], False)
@example([{"type": "response.output_item.done", "item": [""]}], False)
def test_any_events_are_read(events: list[Any], as_objects: bool) -> None:
    """Whatever comes in a stream: putting it together does not raise."""
    pieces = ResponseEvents()
    for event in events:
        pieces.feed(objects(event) if as_objects else event)
    assert isinstance(pieces.answer(), Answer)


@given(st.lists(st.sampled_from(ITEMS).flatmap(broken), max_size=4))
def test_any_items_are_read(items: list[Any]) -> None:
    """Whatever an input holds: looking at it and reading it does not raise."""
    assert len(RESPONSES.fingerprint(items)) == len(items)
    for item in items:
        assert isinstance(RESPONSES.read(item), tuple)
