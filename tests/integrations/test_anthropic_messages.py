"""Anthropic's messages as they are read: requests, whole answers as objects and as JSON, and streams of them."""

from __future__ import annotations

import copy
from typing import Any

import anthropic
import pytest
from anthropic.types import Message

from converra.history.record import echo, match_keys_of
from converra.integrations.anthropic import session
from converra.integrations.anthropic.events import MessageEvents
from converra.integrations.anthropic.messages import MESSAGES, answer, fingerprint, read, request
from converra.integrations.anthropic.prefill import prefilled
from converra.wire.models import Usage
from tests.integrations.anthropic_scripts import (
    CITATION,
    ERROR,
    FOUND,
    PAUSED,
    PLAIN_USAGE,
    REASONED,
    REDACTED,
    REFUSED,
    RESUMED,
    SEARCH,
    SEARCHED,
    TEXT,
    THINKING,
    TOOLS,
    call,
    events,
    message,
    result,
    text,
)
from tests.integrations.pictures import DATA, LINE
from tests.integrations.recording import RecordedCall, bare, settled

HIDDEN = "<400 characters>"
HEAD = {"model": "claude-sonnet-4-5-20250929", "response_id": "msg_1"}
COUNTED = {
    "usage": {"prompt_tokens": 310, "completion_tokens": 9},
    "usage_details": {
        "cachedTokens": 100,
        "cacheWriteTokens": 200,
        "reasoningTokens": 4,
        "serverToolUse": {"web_search_requests": 1},
        "service_tier": "priority",
    },
}
FOUND_KEPT = copy.deepcopy(FOUND)
FOUND_KEPT["content"][0]["encrypted_content"] = HIDDEN  # type: ignore[index] # a literal
SEARCHING = {"id": "srvtoolu_1", "name": "web_search", "arguments": {"query": "weather Oslo"}}
MCP_CALL = {"type": "mcp_tool_use", "id": "mcptoolu_1", "name": "echo", "server_name": "local", "input": {"a": 1}}
MCP_RESULT = {"type": "mcp_tool_result", "tool_use_id": "mcptoolu_1", "is_error": False, "content": [text("one")]}
RAN = {
    "type": "bash_code_execution_tool_result",
    "tool_use_id": "srvtoolu_9",
    "content": {"type": "bash_code_execution_result", "stdout": "7", "stderr": "", "return_code": 0, "content": []},
}
COMPACTED = {"type": "compaction", "content": "Greetings were exchanged."}
PROGRAM = {"type": "code_execution_20250825", "tool_id": "srvtoolu_2"}

ANSWERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "text": (
        TEXT,
        {
            "messages": [{"role": "assistant", "text": "Good day."}],
            "finish_reason": "end_turn",
            "usage": {"prompt_tokens": 10, "completion_tokens": 9},
        },
    ),
    "tools": (
        TOOLS,
        {
            "messages": [
                {
                    "role": "assistant",
                    "text": "Let me look.",
                    "calls": [
                        {"id": "toolu_1", "name": "get_weather", "arguments": {"city": "Oslo"}},
                        {"id": "toolu_2", "name": "get_time", "arguments": {}},
                    ],
                }
            ],
            "finish_reason": "tool_use",
            **COUNTED,
        },
    ),
    "thinking": (
        REASONED,
        {
            "messages": [
                {
                    "role": "assistant",
                    "text": "Good day.",
                    "metadata": {"reasoning": "The user greets.", "redactedThinking": 1},
                }
            ],
            "finish_reason": "end_turn",
            **COUNTED,
        },
    ),
    "only thinking": (
        message(THINKING, stop="max_tokens", usage=PLAIN_USAGE),
        {
            "messages": [{"role": "assistant", "metadata": {"reasoning": "The user greets."}}],
            "finish_reason": "max_tokens",
            "usage": {"prompt_tokens": 10, "completion_tokens": 9},
        },
    ),
    "search": (
        SEARCHED,
        {
            "messages": [
                {"role": "assistant", "text": "I will search."},
                {
                    "role": "tool",
                    "text": "Oslo https://example.com/oslo",
                    "calls": [SEARCHING],
                    "call_id": "srvtoolu_1",
                    "name": "web_search",
                    "metadata": {"item": [SEARCH, FOUND_KEPT]},
                },
                {
                    "role": "assistant",
                    "text": "It is 7 degrees. Cold.",
                    "metadata": {"annotations": [{**CITATION, "encrypted_index": HIDDEN}]},
                },
            ],
            "finish_reason": "end_turn",
            **COUNTED,
        },
    ),
    "paused": (
        PAUSED,
        {
            "messages": [
                {"role": "assistant", "text": "I will search."},
                {
                    "role": "tool",
                    "calls": [SEARCHING],
                    "call_id": "srvtoolu_1",
                    "name": "web_search",
                    "metadata": {"item": [SEARCH]},
                },
            ],
            "finish_reason": "pause_turn",
            **COUNTED,
        },
    ),
    "resumed": (
        RESUMED,
        {
            "messages": [
                {
                    "role": "tool",
                    "text": "Oslo https://example.com/oslo",
                    "call_id": "srvtoolu_1",
                    "name": "web_search",
                    "metadata": {"item": [FOUND_KEPT]},
                },
                {"role": "assistant", "text": "It is 7 degrees."},
            ],
            "finish_reason": "end_turn",
            **COUNTED,
        },
    ),
    "refusal": (
        REFUSED,
        {
            "messages": [{"role": "assistant", "text": "This request is not allowed.", "metadata": {"refusal": True}}],
            "finish_reason": "refusal",
            "metadata": {"stop_details": REFUSED["stop_details"]},
            **COUNTED,
        },
    ),
    "empty": (
        message(usage=PLAIN_USAGE),
        {
            "messages": [{"role": "assistant"}],
            "finish_reason": "end_turn",
            "usage": {"prompt_tokens": 10, "completion_tokens": 9},
        },
    ),
    "stop sequence": (
        message(text("One, two"), stop="stop_sequence", usage=PLAIN_USAGE, stop_sequence="three"),
        {
            "messages": [{"role": "assistant", "text": "One, two"}],
            "finish_reason": "stop_sequence",
            "metadata": {"stop_sequence": "three"},
            "usage": {"prompt_tokens": 10, "completion_tokens": 9},
        },
    ),
    "called by a program": (
        message({**call(city="Oslo"), "caller": PROGRAM}, stop="tool_use", usage=PLAIN_USAGE),
        {
            "messages": [
                {
                    "role": "assistant",
                    "calls": [{"id": "toolu_1", "name": "get_weather", "arguments": {"city": "Oslo"}}],
                    "metadata": {"calls": {"toolu_1": {"caller": PROGRAM}}},
                }
            ],
            "finish_reason": "tool_use",
            "usage": {"prompt_tokens": 10, "completion_tokens": 9},
        },
    ),
    "mcp": (
        message(THINKING, MCP_CALL, MCP_RESULT, RAN, text("Done."), usage=PLAIN_USAGE),
        {
            "messages": [
                {
                    "role": "tool",
                    "text": "one",
                    "calls": [{"id": "mcptoolu_1", "name": "echo", "arguments": {"a": 1}}],
                    "call_id": "mcptoolu_1",
                    "name": "echo",
                    "metadata": {"reasoning": "The user greets.", "item": [MCP_CALL, MCP_RESULT]},
                },
                {
                    "role": "tool",
                    "text": "7",
                    "call_id": "srvtoolu_9",
                    "name": "bash_code_execution",
                    "metadata": {"item": [RAN]},
                },
                {"role": "assistant", "text": "Done."},
            ],
            "finish_reason": "end_turn",
            "usage": {"prompt_tokens": 10, "completion_tokens": 9},
        },
    ),
    "unknown block": (
        message(COMPACTED, text("Good day."), usage=PLAIN_USAGE),
        {
            "messages": [{"role": "assistant", "text": "Good day."}],
            "metadata": {"items": [COMPACTED]},
            "finish_reason": "end_turn",
            "usage": {"prompt_tokens": 10, "completion_tokens": 9},
        },
    ),
}


def _object(document: dict[str, Any]) -> Message:
    """The document as the SDK hands it to the app, also where it knows a kind of block less."""
    found: Message = Message.construct(**copy.deepcopy(document))
    return found


def _event(document: dict[str, Any]) -> Any:
    from anthropic._models import construct_type
    from anthropic.types import RawMessageStreamEvent

    return construct_type(type_=RawMessageStreamEvent, value=copy.deepcopy(document))


def _streamed(documents: list[Any], *, upto: int | None = None) -> MessageEvents:
    pieces = MessageEvents()
    for document in documents[:upto]:
        pieces.feed(document)
    return pieces


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("form", ["json", "object", "events", "event objects"])
def test_answers(name: str, form: str) -> None:
    """An answer is the same turn as an object, as JSON, and in events of either form."""
    document, expected = ANSWERS[name]
    found = {
        "json": lambda: answer(document),
        "object": lambda: answer(_object(document)),
        "events": lambda: _streamed(events(document)).answer(),
        "event objects": lambda: _streamed(list(map(_event, events(document)))).answer(),
    }[form]()
    assert bare(settled(found)) == {**HEAD, **expected}
    assert "c2lnbmF0dXJl" not in repr(found), "a signature"


@pytest.mark.parametrize("name", [name for name in ANSWERS if name not in ("empty", "only thinking", "refusal")])
@pytest.mark.parametrize("form", ["json", "object"])
def test_a_resent_answer_is_known(name: str, form: str) -> None:
    """Content that is handed back, as JSON or as the SDK's own blocks, has the match keys of the answer."""
    document, _ = ANSWERS[name]
    content = document["content"] if form == "json" else _object(document).content
    resent = read({"role": "assistant", "content": content})
    assert [match_keys_of(one) for one in resent] == [match_keys_of(one) for one in answer(document).messages]


@pytest.mark.parametrize("document", [TEXT, TOOLS, REASONED, message(call(), stop="tool_use")])
@pytest.mark.parametrize("form", ["json", "object"])
def test_the_fingerprint_of_a_resent_answer_is_foretold(document: dict[str, Any], form: str) -> None:
    """It is that of the echo: with and without thinking, as JSON and as objects, and for a text as a plain string."""
    content = document["content"] if form == "json" else _object(document).content
    (source,) = answer(document).messages
    assert fingerprint([{"role": "assistant", "content": content}]) == [echo(MESSAGES, source)]
    if not source.calls:
        assert fingerprint([{"role": "assistant", "content": source.text}]) == [echo(MESSAGES, source)]


def test_fingerprints() -> None:
    """A moved cache mark changes nothing; any other text, id or picture does."""
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": DATA}}
    plain = [text("Hi"), image, result("toolu_1", [text("7")])]
    marked = [{**block, "cache_control": {"type": "ephemeral"}} for block in plain]
    marked[2]["content"] = [text("7", cache_control={"type": "ephemeral"})]
    same = fingerprint([{"role": "user", "content": content} for content in (plain, marked)])
    assert same[0] == same[1]
    others = [
        [text("Ho"), *plain[1:]],
        [plain[0], {**image, "source": {**image["source"], "data": DATA[:-4]}}, plain[2]],  # type: ignore[dict-item] # a literal
        [*plain[:2], result("toolu_2", [text("7")])],
        [*plain[:2], result("toolu_1", [text("8")])],
        [*plain[:2], result("toolu_1", "7")],
        plain[:2],
    ]
    digests = fingerprint([{"role": "user", "content": content} for content in others])
    assert len({same[0], *digests}) == 1 + len(others)


QUESTIONS: dict[str, tuple[Any, list[dict[str, Any]]]] = {
    "text": ({"role": "user", "content": "Hi"}, [{"role": "user", "text": "Hi"}]),
    "blocks": (
        {"role": "user", "content": [text("Hi"), text("there", cache_control={"type": "ephemeral"})]},
        [{"role": "user", "text": "Hi\nthere"}],
    ),
    "results": (
        {
            "role": "user",
            "content": [
                result("toolu_1", "7 degrees"),
                result("toolu_2", [text("no"), text("clock")], is_error=True),
                result("toolu_3", None),
                text("And now?"),
            ],
        },
        [
            {"role": "tool", "text": "7 degrees", "call_id": "toolu_1"},
            {"role": "tool", "text": "no\nclock", "call_id": "toolu_2", "metadata": {"status": "error"}},
            {"role": "tool", "call_id": "toolu_3"},
            {"role": "user", "text": "And now?"},
        ],
    ),
    "linked": (
        {
            "role": "user",
            "content": [
                {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
                {"type": "document", "title": "Terms", "source": {"type": "file", "file_id": "file_1"}},
                {"type": "container_upload", "file_id": "file_2"},
                text("What is this?"),
            ],
        },
        [
            {
                "role": "user",
                "text": "[image: https://example.com/a.png]\n[document: Terms]\n[file: file_2]\nWhat is this?",
                "attachments": [
                    {"kind": "image", "url": "https://example.com/a.png"},
                    {"kind": "document", "name": "Terms"},
                    {"kind": "file", "name": "file_2"},
                ],
            }
        ],
    ),
    "embedded": (
        {
            "role": "user",
            "content": [
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": DATA}},
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "100% so"}},
                {"type": "document", "title": "T", "source": {"type": "content", "content": [text("a"), text("b")]}},
            ],
        },
        [
            {
                "role": "user",
                "text": f"{LINE}\n[document: text/plain, 9 bytes]\n[document: T, text/plain, 3 bytes]",
                "attachments": [
                    {"kind": "image", "mime": "image/png", "data": DATA},
                    {"kind": "document", "mime": "text/plain", "data": "data:text/plain,100%25 so"},
                    {"kind": "document", "mime": "text/plain", "data": "data:text/plain,a\nb", "name": "T"},
                ],
            }
        ],
    ),
    "search results": (
        {
            "role": "user",
            "content": [{"type": "search_result", "title": "Oslo", "source": "kb/7", "content": [text("7 degrees")]}],
        },
        [{"role": "user", "text": "[search_result: Oslo kb/7]\n7 degrees"}],
    ),
    "unknown": (
        {"role": "user", "content": [{"type": "hologram", "beam": 1}]},
        [{"role": "user", "text": "[hologram]"}],
    ),
    "system": ({"role": "system", "content": "Be brief."}, [{"role": "system", "text": "Be brief."}]),
    "nonsense": (None, []),
    "no role": ({"content": "Hi"}, []),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_questions(name: str) -> None:
    """Each message of a request: results of tools are messages of their own, what is no text becomes a line."""
    given, expected = QUESTIONS[name]
    assert [bare(source) for source in read(given)] == expected
    assert len(fingerprint([given])) == 1


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        ("Be brief.", "Be brief."),
        ([text("Be brief."), text("Be kind.", cache_control={"type": "ephemeral"})], "Be brief.\nBe kind."),
        (anthropic.NOT_GIVEN, None),
        ([], None),
        (None, None),
    ],
)
def test_the_system_text(system: Any, expected: str | None) -> None:
    """It is a parameter: a string, blocks, or a sentinel of the SDK where it is not given."""
    found = request({"model": "m", "messages": [{"role": "user", "content": "Hi"}], "system": system})
    assert found.instructions == expected
    assert found.model == "m"


def test_sentinels_and_nonsense_in_a_body() -> None:
    """Whatever stands in a body, it is read as if it were not there."""
    sentinel = getattr(anthropic, "omit", anthropic.NOT_GIVEN)
    messages: Any
    for messages in (sentinel, None, 7, {}, [None], ["Hi"], [{"role": "assistant", "content": [None]}]):
        found = request({"messages": messages, "model": sentinel, "system": sentinel, "tools": sentinel})
        assert (found.model, found.instructions, list(found.tools)) == (None, None, [])
        assert len(MESSAGES.fingerprint(found.messages)) == len(found.messages)
        assert not any(source.text or source.calls for one in found.messages for source in read(one))


def test_a_prefill_is_left_to_the_answer() -> None:
    """A text at the end of a request is the answer's beginning; a paused turn at its end is a turn."""
    question = {"role": "user", "content": "Hi"}
    for content in ("So ", [text("S"), text("o ")], [THINKING, text("So ")]):
        assert list(request({"messages": [question, {"role": "assistant", "content": content}]}).messages) == [question]
    for content in (PAUSED["content"], SEARCHED["content"], [], ""):
        resent = [question, {"role": "assistant", "content": content}]
        assert list(request({"messages": resent}).messages) == resent


def test_a_cut_stream() -> None:
    """What has arrived is read at any moment; a call whose input is not whole keeps its text."""
    documents = events(TOOLS)
    for upto in range(len(documents) + 1):
        pieces = _streamed(documents, upto=upto)
        found = settled(pieces.answer())
        assert found.messages[0].text == "Let me look."[: len(found.messages[0].text)]
        assert pieces.finished == (upto >= len(documents) - 1)
        assert pieces.started == (upto > 3)
    cut = _streamed(documents, upto=10).answer()
    assert cut.messages[0].calls[0].arguments == '{"cit'
    assert settled(cut).usage == Usage(310, 1)


def test_an_error_in_a_stream() -> None:
    """It ends the answer: partial, with the error's type and never its words."""
    found = _streamed([*events(TEXT)[:4], ERROR]).answer()
    assert found.partial
    assert found.metadata == {"error": {"type": "overloaded_error"}}
    assert "Overloaded" not in repr(found)
    whole = answer(ERROR)
    assert (whole.messages, whole.metadata) == ((), {"error": {"type": "overloaded_error"}})


@pytest.mark.parametrize(
    "odd", [None, "good day", 7, {}, [], {"content": None}, {"content": [None, 7, {}, {"type": 7}]}, {"usage": "much"}]
)
def test_odd_answers(odd: Any) -> None:
    """What is no message is an answer without words."""
    found = settled(answer(odd))
    assert all(not source.text for source in found.messages)
    assert found.usage is None
    pieces = MessageEvents()
    for event in (odd, {"type": "message_start", "message": odd}, {"type": "content_block_delta", "delta": odd}):
        pieces.feed(event)
    pieces.feed({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}})
    assert pieces.answer().messages[-1].text == "Hi"


def test_usage_is_copied() -> None:
    """An app that changes the object afterwards changes nothing."""
    document = _object(TOOLS)
    found = answer(document)
    document.usage.input_tokens = 99_999
    document.usage.server_tool_use = None
    assert bare(settled(found)) == {**HEAD, **ANSWERS["tools"][1]}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"conversation_id": "conv_1"}, "conv_1"),
        ({"conversation_id": ""}, None),
        ({}, None),
        (None, None),
        ("on", None),
    ],
)
def test_the_session_of_a_client(options: Any, expected: str | None) -> None:
    """A client's OpenTelemetry option may name the conversation; older clients have none."""

    class Client:
        open_telemetry = options

    found = session(Client())
    assert (found.thread if found else None) == expected
    assert session(object()) is None


def test_redacted_thinking_is_counted() -> None:
    """Its data is neither stored nor sent."""
    found = answer(message(REDACTED, REDACTED, text("Hi")))
    assert found.messages[0].metadata == {"redactedThinking": 2}
    assert REDACTED["data"] not in repr(found)


def test_a_prefill_that_is_not_continued() -> None:
    """A stream that broke before its first event, and an error, are no answers; one with an empty content is."""
    question = {"role": "user", "content": "Hi"}
    body = {"messages": [question, {"role": "assistant", "content": "Good"}]}
    outcomes = {"nothing": MessageEvents().answer(), "error": answer(ERROR), "empty": answer(message())}
    recorded = {}
    for name, outcome in outcomes.items():
        call = RecordedCall(request(body))
        prefilled(call, body).end(outcome)
        assert call.answer is not None
        recorded[name] = [source.text for source in call.answer.messages]
    assert recorded == {"nothing": [""], "error": [], "empty": ["Good"]}


def test_a_prefill_before_a_hosted_tool() -> None:
    """It is a message of its own, in front of the tool's; a failed call without an answer has none."""
    body = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Good"}]}
    call = RecordedCall(request(body))
    prefilled(call, body).end(answer(RESUMED))
    assert call.answer is not None
    assert [source.role for source in call.answer.messages] == ["assistant", "tool", "assistant"]
    failed = RecordedCall(request(body))
    prefilled(failed, body).fail(ValueError("no"))
    assert (failed.answer, failed.ends) == (None, 1)
