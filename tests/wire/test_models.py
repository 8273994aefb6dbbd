"""A message in the form in which the API stores it, in both directions."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from converra.wire.json_safe import encode
from converra.wire.models import ROLES, Message, ToolCall, Usage, size


def test_a_whole_message_on_the_wire() -> None:
    """Every field has the name of the API document, and a time is ISO 8601 in UTC."""
    message = Message(
        role="assistant",
        content="Rome",
        timestamp=datetime(2025, 1, 1, 12, 0, 0, 250_000, tzinfo=UTC),
        model="gpt-4o",
        tokens=4,
        tool_calls=[ToolCall(id="c1", name="find", arguments={"city": "Rome"})],
        usage=Usage(prompt_tokens=9, completion_tokens=4),
        latency_ms=1234.5,
        metadata={"messageId": "m1"},
    )
    assert encode(message) == (
        b'{"role":"assistant","content":"Rome","timestamp":"2025-01-01T12:00:00.250000Z","model":"gpt-4o","tokens":4,'
        b'"toolCalls":[{"id":"c1","name":"find","arguments":{"city":"Rome"}}],'
        b'"usage":{"promptTokens":9,"completionTokens":4},"latencyMs":1234.5,"metadata":{"messageId":"m1"}}'
    )
    assert msgspec.json.decode(encode(message), type=Message) == message


def test_a_datetime_of_another_class() -> None:
    """While a test has frozen time every datetime is of a subclass; it is sent as any other."""

    class Frozen(datetime):
        """What freezegun puts in the place of `datetime`."""

    moment = Frozen(2025, 1, 1, 12, 0, 0, 250_000, tzinfo=UTC)
    assert encode(Message(role="user", content="x", timestamp=moment)) == (
        b'{"role":"user","content":"x","timestamp":"2025-01-01T12:00:00.250000Z"}'
    )
    with pytest.raises(TypeError, match="object is not JSON"):
        encode(object())


def test_a_string_of_another_class() -> None:
    """A template engine's safe string, such as a company's name, is sent as the text that it is."""

    class Markup(str):
        """As that of markupsafe."""

        __slots__ = ()

    assert encode({"companyName": Markup("Acme")}) == b'{"companyName":"Acme"}'


def test_nothing_is_sent_as_null() -> None:
    """A field that is not there is left out, also in tool calls and usage."""
    message = Message(role="tool", content="", tool_calls=[ToolCall(name="find")], usage=Usage(prompt_tokens=1))
    assert encode(message) == b'{"role":"tool","content":"","toolCalls":[{"name":"find"}],"usage":{"promptTokens":1}}'


def test_arguments_that_are_falsy_are_arguments() -> None:
    """Empty arguments are sent; only absent ones are not."""
    for arguments, sent in ((None, b"null"), ("", b'""'), ({}, b"{}"), (0, b"0")):
        assert encode(ToolCall(arguments=arguments)) == b'{"arguments":' + sent + b"}"
    assert encode(ToolCall(id="1")) == b'{"id":"1"}'


def test_a_newer_server_is_understood() -> None:
    """Unknown fields of a message are passed over, missing ones are None."""
    read = msgspec.json.decode(b'{"role":"user","content":"x","mood":"good","toolCalls":[{"kind":1}]}', type=Message)
    assert read == Message(role="user", content="x", tool_calls=[ToolCall()])


@pytest.mark.parametrize("role", ["developer", "function", "", None])
def test_only_four_roles_exist(role: str | None) -> None:
    """A message has one of the four roles of the API document."""
    assert ROLES == ("user", "assistant", "system", "tool")
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"role": role, "content": "x"}, Message)


def test_a_message_weighs_its_bytes() -> None:
    """Limits count UTF-8 bytes of the content, not characters."""
    assert size(Message(role="user", content="né 😀")) == 8
