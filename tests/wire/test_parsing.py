"""Messages are taken as programmers write them, and refused with a reason."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import pytest

from converra.errors import InvalidArgumentError
from converra.wire.models import Message, ToolCall, Usage, message_from, messages_from, to_json

WHEN = datetime(2025, 1, 20, 14, 30, tzinfo=UTC)
WHOLE = Message(
    role="assistant",
    content="Hi!",
    timestamp=WHEN,
    model="gpt-4o",
    tokens=3,
    tool_calls=[ToolCall(id="c", name="look", arguments={"q": 1})],
    usage=Usage(prompt_tokens=2, completion_tokens=3),
    latency_ms=12.5,
    metadata={"a": [1]},
)

FIELDS = ["role", "content", "timestamp", "model", "tokens", "tool_calls", "usage", "latency_ms", "metadata"]
SPELLED = {"tool_calls": "toolCalls", "latency_ms": "latencyMs"}


class Speaker(StrEnum):
    ASSISTANT = "assistant"


class SafeString(str):
    """What template engines hand out."""

    __slots__ = ()


@pytest.mark.parametrize(
    "written",
    [
        pytest.param(WHOLE, id="Message"),
        pytest.param(
            {
                "role": "assistant",
                "content": "Hi!",
                "timestamp": "2025-01-20T14:30:00Z",
                "model": "gpt-4o",
                "tokens": 3,
                "toolCalls": [ToolCall(id="c", name="look", arguments={"q": 1})],
                "usage": {"promptTokens": 2, "completionTokens": 3},
                "latencyMs": 12.5,
                "metadata": {"a": [1]},
            },
            id="as the API spells",
        ),
        pytest.param(
            MappingProxyType(
                {
                    "role": Speaker.ASSISTANT,
                    "content": "Hi!",
                    "timestamp": WHEN,
                    "model": "gpt-4o",
                    "tokens": 3,
                    "tool_calls": (ToolCall(id="c", name="look", arguments={"q": 1}),),
                    "usage": MappingProxyType({"prompt_tokens": 2, "completion_tokens": 3}),
                    "latency_ms": 12.5,
                    "metadata": {"a": [1]},
                }
            ),
            id="as Python spells",
        ),
    ],
)
def test_a_message_may_be_spelled_in_three_ways(written: Any) -> None:
    """A `Message` and a dict in either spelling mean the same."""
    assert message_from(written) == WHOLE


def test_a_message_given_is_never_changed() -> None:
    """What was handed in stays its owner's."""
    calls: list[Any] = [{"id": "c"}]
    written = {"role": "tool", "content": "", "tool_calls": calls, "usage": {"prompt_tokens": 1}, "model": None}
    message = message_from(written)
    assert message.tool_calls is not calls
    assert written == {
        "role": "tool",
        "content": "",
        "tool_calls": [{"id": "c"}],
        "usage": {"prompt_tokens": 1},
        "model": None,
    }


def test_fields_of_a_tool_call_are_not_judged() -> None:
    """The API document leaves a tool call's fields open, so a dict is sent as it is."""
    written = {"role": "tool", "content": "", "toolCalls": [{"id": "c", "type": "function", "n": None}]}
    assert to_json(message_from(written)) == (
        b'{"role":"tool","content":"","toolCalls":[{"id":"c","type":"function","n":null}]}'
    )


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({"role": "robot", "content": "x"}, "role is 'robot', expected one of user, assistant, system, tool"),
        ({"content": "x"}, "role is None, expected one of user, assistant, system, tool"),
        ({"role": ["user"], "content": "x"}, "role is ['user'], expected one of user, assistant, system, tool"),
        ({"role": "user"}, "content is missing, expected a string"),
        ({"role": "user", "content": 5}, "content is int, expected a string"),
        ({"role": "user", "content": ""}, "content of a user message is empty; only a tool message may have none"),
        (
            Message(role="system", content=""),
            "content of a system message is empty; only a tool message may have none",
        ),
        (
            {"role": "user", "content": "x", "latencyms": 1, "mood": 2},
            f"message has unknown fields 'latencyms', 'mood'; known are {', '.join(FIELDS)}",
        ),
        (
            {"role": "user", "content": "x", "usage": {"total": 1}},
            "usage has unknown fields 'total'; known are prompt_tokens, completion_tokens",
        ),
        ({"role": "user", "content": "x", "usage": 5}, "usage is 5, expected a Usage, or a dict of whole numbers"),
        (
            {"role": "user", "content": "x", "usage": {"prompt_tokens": "3"}},
            "usage is {'promptTokens': '3'}, expected a Usage, or a dict of whole numbers",
        ),
        ({"role": "user", "content": "x", "tokens": "5"}, "tokens is '5', expected a whole number"),
        ({"role": "user", "content": "x", "model": 5}, "model is 5, expected a string"),
        ({"role": "user", "content": "x", "latencyMs": "x"}, "latency_ms is 'x', expected a number of milliseconds"),
        (
            {"role": "assistant", "content": ""},
            "content of an assistant message is empty; only a tool message may have none",
        ),
        (
            {"role": "user", "content": "x", "timestamp": "today"},
            "timestamp is 'today', expected a datetime, or a string in ISO 8601 with a time zone",
        ),
        ({"role": "user", "content": "x", "latency_ms": float("nan")}, "latency_ms is nan, expected a finite number"),
        (
            {"role": "user", "content": "x", "metadata": {1: 2}},
            "metadata is {1: 2}, expected a dict whose keys are strings",
        ),
        (
            {"role": "tool", "content": "", "toolCalls": {"id": "c"}},
            "tool_calls is {'id': 'c'}, expected a list of dicts or ToolCall objects",
        ),
        (
            {"role": "tool", "content": "", "toolCalls": ["c"]},
            "tool_calls is ['c'], expected a list of dicts or ToolCall objects",
        ),
        ("User: x", "a message is str, expected a Message or a dict with role and content"),
    ],
)
def test_a_wrong_message_is_refused_with_the_reason(written: Any, expected: str) -> None:
    """The error says what was found and what was expected, for one message and for one of many."""
    with pytest.raises(InvalidArgumentError) as caught:
        message_from(written)
    assert str(caught.value) == expected
    with pytest.raises(InvalidArgumentError) as caught:
        messages_from([WHOLE, written])
    assert str(caught.value) == f"messages[1]: {expected}"


def test_subclasses_of_plain_types_are_sent_as_what_they_are() -> None:
    """A safe string, an odd mapping or a number type goes out as JSON's own."""

    class Count(int):
        pass

    class Share(float):
        pass

    written = {"text": SafeString("x"), "n": Count(5), "share": Share(0.5), "map": MappingProxyType({"a": 1})}
    assert to_json(written) == b'{"text":"x","n":5,"share":0.5,"map":{"a":1}}'


def test_what_json_cannot_say_is_refused() -> None:
    """Cycles, lone surrogates and foreign objects are errors at the call, not half a request."""
    cycle: list[Any] = []
    cycle.append(cycle)
    for value in (cycle, "\ud800", {"x": object()}, {object(): 1}):
        with pytest.raises(InvalidArgumentError, match="the request cannot be written as JSON: "):
            to_json(value)
