"""What was said, as the API gets it: one whole message for every row of the mapping."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from converra.history.arguments import arguments
from converra.history.draft import OVERHEAD, Draft, ManualDraft
from converra.history.turn import Answer, Attachment, Failure, SourceMessage, SourceToolCall
from converra.integrations.openai import chat
from converra.wire.json_safe import encode
from converra.wire.models import Message, ToolCall, Usage
from tests.effort import examples
from tests.queues import as_it_is
from tests.wire.test_json_safe import NASTY

STARTED = 1_735_689_600.25
AT, AFTER = "2025-01-01T00:00:00.250000Z", "2025-01-01T00:00:01.484000Z"


def draft(source: SourceMessage, **facts: Any) -> Draft:
    return Draft(source=source, id="run-1", finish=as_it_is, started=STARTED, **facts)


def wire(message: Message | None) -> dict[str, Any]:
    """As it goes over the wire, decoded again; null stands nowhere in it."""
    assert message is not None
    body = encode(message).decode("utf-8", "strict")

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    found: dict[str, Any] = json.loads(body, parse_constant=refuse)
    assert None not in found.values()
    return found


def asked(message: dict[str, Any], **facts: Any) -> dict[str, Any]:
    """A message of a request."""
    (source,) = chat.read(message)
    return wire(draft(source, **facts).message())


def answered(message: dict[str, Any], finish_reason: str | None = "stop", **more: Any) -> dict[str, Any]:
    """The answer of a completion, as its carrier."""
    choices = [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish_reason}]
    usage = {"prompt_tokens": 9, "completion_tokens": 4}
    completion = {"model": "gpt-4o-2024-08-06", "choices": choices, "usage": usage, **more}
    answer = chat.answer(completion)
    made = draft(answer.messages[0], answer=answer, latency_ms=1234.0, span=(0xABC, 0xDEF))
    return wire(made.message())


FACTS = {
    "timestamp": AFTER,
    "model": "gpt-4o-2024-08-06",
    "tokens": 4,
    "usage": {"promptTokens": 9, "completionTokens": 4},
    "latencyMs": 1234.0,
}
TRACED = {"messageId": "run-1", "traceId": f"{0xABC:032x}", "spanId": f"{0xDEF:016x}"}
CALL = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"city": "Rome"}'}}


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_system_message(role: str) -> None:
    """System and developer messages are `system`."""
    assert asked({"role": role, "content": "Be kind."}) == {
        "role": "system",
        "content": "Be kind.",
        "timestamp": AT,
        "metadata": {"messageId": "run-1"},
    }


def test_a_user_message() -> None:
    """A user's text parts are its content; a participant's name is kept."""
    parts = [{"type": "text", "text": "Hello"}, {"type": "text", "text": "there"}]
    assert asked({"role": "user", "name": "ann", "content": parts}) == {
        "role": "user",
        "content": "Hello\nthere",
        "timestamp": AT,
        "metadata": {"messageId": "run-1", "name": "ann"},
    }


def test_a_user_message_with_attachments() -> None:
    """A part that is no text becomes a line and a digest: never its data, but its address if it has one."""
    png = b"\x89PNG" * 600_000
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(png).decode()}"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}},
        {"type": "input_audio", "input_audio": {"data": base64.b64encode(b"sound").decode(), "format": "wav"}},
        {"type": "file", "file": {"file_id": "file_1"}},
    ]
    assert asked({"role": "user", "content": parts}) == {
        "role": "user",
        "content": "What is this?\n[image: image/png, 2.3 MB]\n[image: https://example.com/cat.png]\n"
        "[audio: audio/wav, 5 bytes]\n[file: file_1]",
        "timestamp": AT,
        "metadata": {
            "messageId": "run-1",
            "attachments": [
                {
                    "kind": "image",
                    "mime": "image/png",
                    "bytes": 2_400_000,
                    "sha256": hashlib.sha256(png).hexdigest(),
                },
                {"kind": "image", "url": "https://example.com/cat.png"},
                {"kind": "audio", "mime": "audio/wav", "bytes": 5, "sha256": hashlib.sha256(b"sound").hexdigest()},
                {"kind": "file", "name": "file_1"},
            ],
        },
    }


def test_an_answer() -> None:
    """An answer has its model, its usage, its tokens, its latency and the ids of its span."""
    assert answered({"content": "Rome."}) == {"role": "assistant", "content": "Rome.", **FACTS, "metadata": TRACED}


def test_an_answer_with_text_and_calls() -> None:
    """Text and tool calls of one answer are one message."""
    assert answered({"content": "Let me see.", "tool_calls": [CALL]}, "tool_calls") == {
        "role": "assistant",
        "content": "Let me see.",
        **FACTS,
        "toolCalls": [{"id": "c1", "name": "find", "arguments": {"city": "Rome"}}],
        "metadata": TRACED,
    }


@pytest.mark.parametrize("content", [None, "", " \n"])
def test_an_answer_that_only_calls_tools(content: str | None) -> None:
    """An assistant's turn without text is a `tool` message without content, and keeps every fact."""
    assert answered({"content": content, "tool_calls": [CALL]}, "tool_calls") == {
        "role": "tool",
        "content": "" if not (content or "").strip() else content,
        **FACTS,
        "toolCalls": [{"id": "c1", "name": "find", "arguments": {"city": "Rome"}}],
        "metadata": TRACED,
    }


def test_an_answer_with_neither_text_nor_calls() -> None:
    """An answer that the token limit ate is an assistant's note, and no token of it is lost."""
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "completion_tokens_details": {"reasoning_tokens": 4}}
    assert answered({"content": None}, "length", usage=usage) == {
        "role": "assistant",
        "content": "(no text: length)",
        **FACTS,
        "metadata": {**TRACED, "finishReason": "length", "usageDetails": {"reasoningTokens": 4}},
    }


def test_an_answer_without_anything() -> None:
    """Where nobody says why, the note says that too."""
    assert wire(draft(SourceMessage("assistant"), answer=Answer()).message()) == {
        "role": "assistant",
        "content": "(no text)",
        "timestamp": AT,
        "metadata": {"messageId": "run-1"},
    }


def test_a_tool_result() -> None:
    """A result names the call that it answers, and how long the tool took where that is known."""
    assert asked({"role": "tool", "tool_call_id": "c1", "content": "18°"}) == {
        "role": "tool",
        "content": "18°",
        "timestamp": AT,
        "toolCalls": [{"id": "c1"}],
        "metadata": {"messageId": "run-1"},
    }
    assert wire(draft(SourceMessage("tool", "", (), "c1", "find", latency_ms=12.34)).message()) == {
        "role": "tool",
        "content": "",
        "timestamp": AT,
        "toolCalls": [{"id": "c1", "name": "find"}],
        "latencyMs": 12.3,
        "metadata": {"messageId": "run-1"},
    }


def test_a_legacy_function_result() -> None:
    """A function's result without an id has its name."""
    assert asked({"role": "function", "name": "find", "content": "x"}) == {
        "role": "tool",
        "content": "x",
        "timestamp": AT,
        "toolCalls": [{"name": "find"}],
        "metadata": {"messageId": "run-1"},
    }


def test_a_refusal() -> None:
    """A refusal is what the assistant said, and marked."""
    assert answered({"content": None, "refusal": "I cannot."}) == {
        "role": "assistant",
        "content": "I cannot.",
        **FACTS,
        "metadata": {**TRACED, "refusal": True},
    }


def test_an_audio_answer() -> None:
    """Speech is its transcript; the sound is digested."""
    audio = {"id": "audio_1", "data": base64.b64encode(b"RIFF").decode(), "transcript": "Rome.", "expires_at": 1}
    assert answered({"content": None, "audio": audio}) == {
        "role": "assistant",
        "content": "Rome.",
        **FACTS,
        "metadata": {
            **TRACED,
            "attachments": [{"kind": "audio", "bytes": 4, "sha256": hashlib.sha256(b"RIFF").hexdigest()}],
            "audio": {"id": "audio_1", "expires_at": 1},
        },
    }


def test_several_choices() -> None:
    """The first choice is the message, the others are its alternatives."""
    choices = [
        {"index": n, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        for n, text in enumerate(["Rome.", "Roma."])
    ]
    assert answered({}, choices=choices) == {
        "role": "assistant",
        "content": "Rome.",
        **FACTS,
        "metadata": {**TRACED, "alternatives": [{"index": 1, "content": "Roma.", "finishReason": "stop"}]},
    }


def test_a_stream_that_broke() -> None:
    """A stream that was cut short is the text so far, marked, with the error if there was one."""
    answer = Answer(model="gpt-4o", partial=True)
    made = draft(
        SourceMessage("assistant", "Rom"),
        answer=answer,
        failure=Failure("APIError", 500),
        latency_ms=50.04,
        first_token_ms=20.06,
    )
    assert wire(made.message()) == {
        "role": "assistant",
        "content": "Rom",
        "timestamp": "2025-01-01T00:00:00.300000Z",
        "model": "gpt-4o",
        "latencyMs": 50.0,
        "metadata": {
            "messageId": "run-1",
            "error": {"type": "APIError", "status": 500},
            "partial": True,
            "timeToFirstTokenMs": 20.1,
        },
    }


def test_a_call_that_raised() -> None:
    """The question of a call that failed has the type and the status of the error, and nothing of its words."""
    assert asked({"role": "user", "content": "Where?"}, failure=Failure("RateLimitError", 429)) == {
        "role": "user",
        "content": "Where?",
        "timestamp": AT,
        "metadata": {"messageId": "run-1", "error": {"type": "RateLimitError", "status": 429}},
    }
    assert asked({"role": "user", "content": "?"}, failure=Failure("ConnectError"))["metadata"] == {
        "messageId": "run-1",
        "error": {"type": "ConnectError"},
    }


def test_a_hosted_tool() -> None:
    """A tool that the provider ran itself is call and result in one message, kept whole."""
    item = {"type": "web_search_call", "id": "ws_1", "action": {"query": "Rome"}}
    call = SourceToolCall("ws_1", "web_search", {"query": "Rome"})
    source = SourceMessage("tool", "", (call,), "ws_1", "web_search", metadata={"item": item})
    assert wire(draft(source).message()) == {
        "role": "tool",
        "content": "",
        "timestamp": AT,
        "toolCalls": [{"id": "ws_1", "name": "web_search", "arguments": {"query": "Rome"}}],
        "metadata": {"messageId": "run-1", "item": item},
    }


def test_an_unknown_role() -> None:
    """A role that the API does not know is the user's, and remembered."""
    assert asked({"role": "critic", "content": "Hm."}) == {
        "role": "user",
        "content": "Hm.",
        "timestamp": AT,
        "metadata": {"messageId": "run-1", "role": "critic"},
    }


def test_what_folding_adds() -> None:
    """Thread and replaced message are metadata."""
    made = draft(SourceMessage("user", "b"), extra={"thread": 2, "replaces": "run-0"})
    assert wire(made.message())["metadata"] == {"messageId": "run-1", "thread": 2, "replaces": "run-0"}


@pytest.mark.parametrize("reason", [None, "", "stop", "tool_calls", "function_call", "completed", "eos"])
def test_plain_stops_say_nothing(reason: str | None) -> None:
    """A finish reason is told when it is not a plain stop."""
    assert "finishReason" not in answered({"content": "x"}, reason)["metadata"]
    assert answered({"content": "x"}, "content_filter")["metadata"]["finishReason"] == "content_filter"


def test_a_usage_with_one_count() -> None:
    """The API's usage has both counts; a lone one goes with the details, whatever stands there."""
    source = SourceMessage("assistant", "x")
    lone = draft(source, answer=Answer(usage=Usage(completion_tokens=4), usage_details={"cachedTokens": 2}))
    assert wire(lone.message())["metadata"]["usageDetails"] == {"completionTokens": 4, "cachedTokens": 2}
    odd = Message(role="user", content="x", usage=Usage(prompt_tokens=1), metadata={"usageDetails": "many"})
    assert wire(ManualDraft(written=odd, id="1", finish=as_it_is).message())["metadata"] == {
        "messageId": "1",
        "usageDetails": {"promptTokens": 1},
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, msgspec.UNSET),
        (msgspec.UNSET, msgspec.UNSET),
        ('{"a": [1, null]}', {"a": [1, None]}),
        ({"a": (1, b"x")}, {"a": [1, "x"]}),
        ("", ""),
        ("not json", "not json"),
        ('{"a": ', '{"a": '),
        ("[1, 2]", "[1, 2]"),
        ("7", "7"),
        ('{"a": NaN}', '{"a": NaN}'),
        ('{"a": 123456789012345678901234567890}', {"a": "123456789012345678901234567890"}),
        ('{"a": "\ud800"}', '{"a": "\ufffd"}'),
        ("{" * 3_000, "{" * 3_000),
        ('{"a":' * 300_000 + "1" + "}" * 300_000, '{"a":' * 300_000 + "1" + "}" * 300_000),
    ],
)
def test_arguments(given: Any, expected: Any) -> None:
    """Arguments are the object that they say, or else the string that was sent."""
    assert arguments(given) == expected


@pytest.mark.parametrize("clock", [float("nan"), float("inf"), -1e18, 1e15])
def test_a_clock_that_is_not_set(clock: float) -> None:
    """A time that cannot be is left out, and so is a latency."""
    made = Draft(source=SourceMessage("user", "x"), id="1", finish=as_it_is, started=clock, latency_ms=float("nan"))
    assert wire(made.message()) == {"role": "user", "content": "x", "metadata": {"messageId": "1"}}


def test_redaction_is_the_last_step() -> None:
    """What `finish` makes of the whole message is what is sent; None drops it."""

    def finish(message: Message) -> Message | None:
        if message.content == "secret":
            return None
        return msgspec.structs.replace(message, content=f"({message.content})")

    def finished(text: str) -> Message | None:
        return Draft(source=SourceMessage("user", text), id="1", finish=finish, started=STARTED).message()

    assert finished("secret") is None
    assert wire(finished("open"))["content"] == "(open)"
    written = ManualDraft(written=Message(role="user", content="secret"), id="1", finish=finish)
    assert written.message() is None


def test_a_message_by_hand() -> None:
    """A message that was written by hand is sent as it was given, under an id of ours."""
    calls: list[Any] = [ToolCall(id="c1", name="find", arguments={"a": b"x"}), {"id": "c2", "odd": (float("nan"),)}]
    written = Message(
        role="assistant",
        content="Rome \ud800",
        model="my \udc80 model",
        tool_calls=calls,
        metadata={"messageId": "mine", "mood": {1: {2}}},
    )
    assert wire(ManualDraft(written=written, id="run-1", finish=as_it_is).message()) == {
        "role": "assistant",
        "content": "Rome \ufffd",
        "model": "my \ufffd model",
        "toolCalls": [{"id": "c1", "name": "find", "arguments": {"a": "x"}}, {"id": "c2", "odd": ["nan"]}],
        "metadata": {"messageId": "run-1", "mood": {"1": [2]}},
    }


def test_a_message_by_hand_has_the_time_of_its_call() -> None:
    """Unless it was given another one."""
    called, given = datetime(2025, 1, 20, 14, 30, tzinfo=UTC), datetime(2024, 5, 5, tzinfo=UTC)
    for timestamp, expected in ((None, "2025-01-20T14:30:00Z"), (given, "2024-05-05T00:00:00Z")):
        written = Message(role="user", content="Hello?", timestamp=timestamp)
        assert (
            wire(ManualDraft(written=written, id="1", finish=as_it_is, called=called).message())["timestamp"]
            == expected
        )


def test_what_a_draft_weighs() -> None:
    """The size of what waits counts every long string that it keeps alive."""
    long = "x" * 10_000
    base = draft(SourceMessage("user")).size
    assert base == OVERHEAD
    for heavy in (
        draft(SourceMessage("user", long)),
        draft(SourceMessage("assistant", calls=(SourceToolCall("1", "f", long),))),
        draft(SourceMessage("user", attachments=(Attachment("image", data=long),))),
        draft(SourceMessage("assistant", metadata={"reasoning": long})),
        draft(SourceMessage("assistant"), answer=Answer(alternatives=({"content": long},))),
        draft(SourceMessage("assistant"), answer=Answer(metadata={"items": [long]})),
    ):
        assert base + 10_000 <= heavy.size <= base + 10_000 + OVERHEAD
    assert draft(SourceMessage("assistant", calls=(SourceToolCall("1", "f", {"a": 1}),))).size == 2 * OVERHEAD
    written = Message(role="user", content=long, metadata={"x": long})
    assert ManualDraft(written=written, id="1", finish=as_it_is).size == 2 * OVERHEAD + 20_000


TEXT = st.text(st.characters())
MAYBE = st.one_of(st.none(), TEXT)
ODD_CALLS = st.builds(SourceToolCall, MAYBE, MAYBE, st.one_of(TEXT, NASTY))
ODD_ATTACHMENTS = st.builds(
    Attachment, TEXT, MAYBE, st.one_of(st.none(), TEXT, TEXT.map("data:{}".format)), MAYBE, MAYBE
)
ODD_SAID = st.builds(
    SourceMessage,
    st.one_of(st.sampled_from(["user", "assistant", "system", "tool"]), TEXT),
    TEXT,
    st.lists(ODD_CALLS, max_size=2).map(tuple),
    MAYBE,
    MAYBE,
    st.lists(ODD_ATTACHMENTS, max_size=2).map(tuple),
    st.one_of(st.none(), st.dictionaries(TEXT, NASTY, max_size=2)),
    st.one_of(st.none(), st.floats()),
)
ODD_ANSWERS = st.builds(
    Answer,
    model=MAYBE,
    usage=st.one_of(
        st.none(), st.builds(Usage, st.one_of(st.none(), st.integers()), st.one_of(st.none(), st.integers()))
    ),
    usage_details=st.one_of(st.none(), st.dictionaries(TEXT, NASTY, max_size=2)),
    finish_reason=MAYBE,
    alternatives=st.lists(st.dictionaries(TEXT, NASTY, max_size=2), max_size=2).map(tuple),
    partial=st.booleans(),
    metadata=st.one_of(st.none(), st.dictionaries(TEXT, NASTY, max_size=2)),
)


@settings(max_examples=examples(120), deadline=None)
@given(
    ODD_SAID,
    st.one_of(st.none(), ODD_ANSWERS),
    st.one_of(st.none(), st.builds(Failure, TEXT, st.one_of(st.none(), st.integers()))),
    st.one_of(st.none(), st.floats()),
    st.floats(),
)
def test_no_draft_is_too_nasty(
    source: SourceMessage, answer: Answer | None, failure: Failure | None, latency: float | None, clock: float
) -> None:
    """Whatever was said, the message is one that the API can take: strict UTF-8 JSON, known role, content, our id."""
    made = Draft(
        source=source,
        id="run-1",
        finish=as_it_is,
        started=clock,
        answer=answer,
        failure=failure,
        latency_ms=latency,
        first_token_ms=latency,
    )
    assert made.size >= OVERHEAD
    message = wire(made.message())
    assert message["role"] in ("user", "assistant", "system", "tool")
    assert message["content"] or message["role"] == "tool"
    assert message["metadata"]["messageId"] == "run-1"
