"""Both forms of the content field are built and parsed."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converra.errors import InvalidArgumentError
from converra.transcript import Transcript, build, build_structured, build_text, parse, weighed
from converra.wire.models import Message, ToolCall, Usage


def user(content: str) -> Message:
    return Message(role="user", content=content)


def assistant(content: str) -> Message:
    return Message(role="assistant", content=content)


HELLO = [user("Hello"), assistant("Hi! How can I help?")]


@pytest.mark.parametrize(
    ("content", "messages"),
    [
        pytest.param("User: Hello\nAssistant: Hi! How can I help?", HELLO, id="User/Assistant"),
        pytest.param("Human: Hello\nAI: Hi! How can I help?", HELLO, id="Human/AI"),
        pytest.param("Customer: Hello\nAgent: Hi! How can I help?", HELLO, id="Customer/Agent"),
        pytest.param("USER: Hello\nassistant: Hi! How can I help?", HELLO, id="any case"),
        pytest.param("  User: Hello\n\tAssistant:\tHi! How can I help?", HELLO, id="white space before labels"),
        pytest.param("User : Hello\nAssistant :Hi! How can I help?", HELLO, id="white space around the colon"),
        pytest.param("\ufeffUser: Hello\nAssistant: Hi! How can I help?", HELLO, id="byte order mark"),
        pytest.param("User: Hello\r\nAssistant: Hi! How can I help?\r\n", HELLO, id="CRLF"),
        pytest.param("\n\nUser: Hello\n\n\nAssistant: Hi! How can I help?\n\n", HELLO, id="blank lines between"),
        pytest.param("User:\nHello\nAssistant:\nHi! How can I help?", HELLO, id="words on the next line"),
        pytest.param("User: Hello\nAI: Hi! How can I help?", HELLO, id="mixed pairs"),
        pytest.param("User: Hello\nUser:\nAssistant: Hi! How can I help?", HELLO, id="an empty message"),
        pytest.param("Agent: One?", [assistant("One?")], id="assistant only"),
        pytest.param("User: a\r\n  b\r\n\r\nc", [user("a\n  b\n\nc")], id="several lines"),
        pytest.param("User: a\nAssistant: b\nAgent: c", [user("a"), assistant("b\nAgent: c")], id="rule 1"),
        pytest.param("Human: log\nUser: a\nAssistant: b", [user("log\nUser: a\nAssistant: b")], id="rule 2"),
        pytest.param("User: a\nAI: b\nAgent: c", [user("a"), assistant("b\nAgent: c")], id="rule 3"),
        pytest.param("User: Assistant: x", [user("Assistant: x")], id="a label inside a line"),
        pytest.param("User: the users: all", [user("the users: all")], id="a word that ends like a label"),
        pytest.param("3 May\nUser: a", [Message(role="system", content="3 May"), user("a")], id="words before a label"),
        pytest.param('User: {"messages": []}', [user('{"messages": []}')], id="JSON in a message"),
    ],
)
def test_text_is_read_as_a_person_reads_it(content: str, messages: list[Message]) -> None:
    """Every label pair counts, in any case and spacing, and words stay whole."""
    assert parse(content) == Transcript(messages, None)


def test_either_form_is_built_by_its_name() -> None:
    """`build` makes the structured form, or the text form where it is asked for; an unknown form is refused."""
    assert build(HELLO) == build_structured(HELLO)
    assert build(HELLO, metadata={"channel": "web"}) == build_structured(HELLO, {"channel": "web"})
    assert build(HELLO, "text") == build_text(HELLO)
    with pytest.raises(InvalidArgumentError, match="form is 'html', expected one of structured, text"):
        build(HELLO, "html")  # type: ignore[arg-type] # no such form
    with pytest.raises(InvalidArgumentError, match="metadata is given, which the text form cannot hold"):
        build(HELLO, "text", {"channel": "web"})


def test_structured_content_is_read_with_its_fields() -> None:
    """The documented fields arrive typed, metadata whole, and unknown fields do no harm."""
    content = """
        {"version": 2, "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "Hello", "timestamp": "2025-01-20T14:30:00Z", "mood": "good"},
            {"role": "assistant", "content": "Hi!", "model": "gpt-4o", "tokens": 3, "usage": null}
        ], "metadata": {"channel": "web", "language": "en", "any": [1, null]}}
    """
    assert parse("\ufeff" + content) == Transcript(
        [
            Message(role="system", content="Be kind."),
            Message(role="user", content="Hello", timestamp=datetime(2025, 1, 20, 14, 30, tzinfo=UTC)),
            Message(role="assistant", content="Hi!", model="gpt-4o", tokens=3),
        ],
        {"channel": "web", "language": "en", "any": [1, None]},
    )


@pytest.mark.parametrize(
    "content", ['{"messages": [', '{"messages": "many"}', '{"metadata": {}}', "{" * 10_000, "{\ud800}", '{"a": 1} x']
)
def test_what_is_not_structured_counts_as_text(content: str) -> None:
    """Broken JSON after a label is words; without any label it is an error that names the labels."""
    assert parse(f"User: a\nAssistant: {content}") == Transcript([user("a"), assistant(content)], None)
    with pytest.raises(InvalidArgumentError) as caught:
        parse(content)
    assert str(caught.value) == (
        "the transcript has no role label at the start of a line; known are User/Assistant, Human/AI, Customer/Agent"
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            {"messages": [{"role": "user", "content": "x"}, {"role": "robot", "content": "y"}]},
            "messages[1] of the transcript: role is 'robot', expected one of user, assistant, system, tool",
        ),
        (
            {"messages": ["x"]},
            "messages[0] of the transcript: a message is str, expected a Message or a dict with role and content",
        ),
        (
            {"messages": [{"role": "user", "content": None}]},
            "messages[0] of the transcript: content is missing, expected a string",
        ),
        (
            {"messages": [{"role": "user", "content": "x", "tokens": "many"}]},
            "messages[0] of the transcript: tokens is 'many', expected a whole number",
        ),
        ({"messages": [], "metadata": [1]}, "metadata of the transcript is list, expected an object"),
    ],
)
def test_wrong_structured_content_is_named(content: dict[str, Any], expected: str) -> None:
    """An error says which message is wrong and what was expected."""
    with pytest.raises(InvalidArgumentError) as caught:
        parse(json.dumps(content))
    assert str(caught.value) == expected


def test_text_is_built_with_the_first_pair_of_labels() -> None:
    """Ordinary messages, dicts among them, become User/Assistant lines."""
    assert build_text([{"role": "user", "content": "Hello"}, HELLO[1]]) == "User: Hello\nAssistant: Hi! How can I help?"


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([user("a\nUser: b"), assistant("c")], "Human: a\nUser: b\nAI: c"),
        ([user("log:\nUser: b\nAssistant: c")], "Human: log:\nUser: b\nAssistant: c"),
        ([user("a\nUser: b\nAI: c"), assistant("d\nHuman: e")], "Customer: a\nUser: b\nAI: c\nAgent: d\nHuman: e"),
    ],
)
def test_quoted_labels_survive_under_another_pair(messages: list[Message], text: str) -> None:
    """Words that look like labels are kept as words by choosing labels that they do not look like."""
    assert build_text(messages) == text
    assert parse(text) == Transcript(messages, None)


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([user("a\nAssistant: b")], "the messages quote labels that the text form would read as messages; the struct"),
        ([Message(role="system", content="x")], "messages[0]: the text form has no label for a system message"),
        ([user("x"), Message(role="tool", content="x")], "messages[1]: the text form has no label for a tool message"),
        ([user(" \n")], "messages[0]: the text form cannot hold white space alone"),
        ([], "messages is empty, expected at least one message"),
        (user("x"), "messages is Message, expected a list of messages"),
        ("User: x", "messages is str, expected a list of messages"),
    ],
)
def test_what_text_cannot_hold_is_refused(messages: Any, expected: str) -> None:
    """Nothing is lost silently: what the text form cannot say is an error."""
    with pytest.raises(InvalidArgumentError) as caught:
        build_text(messages)
    assert str(caught.value).startswith(expected)


LINES = st.sampled_from(["User: a", "assistant: b", " AI : c", "Human:", "Customer: e", "Agent: f", "words", "", "é\r"])
TEXTS = st.lists(LINES | st.text(max_size=8), min_size=1, max_size=4).map("\n".join).filter(str.strip)
SAID = st.lists(st.builds(Message, role=st.sampled_from(["user", "assistant"]), content=TEXTS), min_size=1, max_size=5)


@given(SAID)
def test_text_that_could_be_built_is_read_back(messages: list[Message]) -> None:
    """Whatever the messages quote: either the text reads back as the same messages, or it is refused."""
    try:
        text = build_text(messages)
    except InvalidArgumentError as error:
        assert "quote labels" in str(error)  # noqa: PT017 - the other outcome that is right
        return
    expected = [Message(role=m.role, content=m.content.replace("\r\n", "\n").strip()) for m in messages]
    assert parse(text) == Transcript(expected, None)


@given(st.lists(st.builds(user, st.text(min_size=1)) | st.builds(assistant, st.text(min_size=1)), min_size=1))
def test_messages_without_labels_at_line_starts_are_always_built(messages: list[Message]) -> None:
    """Only quoted labels can keep messages from the text form."""
    said = [m for m in messages if m.content.strip() and ":" not in m.content]
    if said:
        assert [m.role for m in parse(build_text(said)).messages] == [m.role for m in said]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
STRUCTURED = st.builds(
    Message,
    role=st.sampled_from(["user", "assistant", "system"]),
    content=st.text(min_size=1),
    timestamp=st.none() | st.datetimes(timezones=st.just(UTC)),
    model=st.none() | st.text(),
    tokens=st.none() | st.integers(0, 2**40),
    tool_calls=st.none() | st.lists(st.builds(ToolCall, id=st.text(), name=st.text(), arguments=JSON), max_size=2),
    usage=st.none() | st.builds(Usage, prompt_tokens=st.integers(0, 2**40)),
    latency_ms=st.none() | st.floats(0, 1e9),
    metadata=st.none() | st.dictionaries(st.text(), JSON, max_size=3),
)


@given(st.lists(STRUCTURED, min_size=1, max_size=5), st.none() | st.dictionaries(st.text(), JSON, max_size=3))
def test_structured_content_is_read_back_whole(messages: list[Message], metadata: dict[str, Any] | None) -> None:
    """Every field and all metadata survive the structured form."""
    content = build_structured(messages, metadata)
    reread = parse(content)
    assert (reread.metadata or None) == (metadata or None)
    assert build_structured(reread.messages, metadata) == content
    for message in json.loads(content)["messages"]:
        assert message.keys() <= {"role", "content", "timestamp", "model", "tokens"}


def test_structured_content_looks_like_the_document() -> None:
    """The names are the API's, nulls are left out, metadata stands beside the messages."""
    messages: list[Any] = [user("Hello"), {"role": "assistant", "content": "Hi!", "latency_ms": 12, "model": None}]
    assert build_structured(messages, {"sessionId": "s"}) == (
        '{"messages":[{"role":"user","content":"Hello"},{"role":"assistant","content":"Hi!"}],'
        '"metadata":{"sessionId":"s","messageDetails":{"1":{"latencyMs":12.0}}}}'
    )


def test_details_in_the_metadata_that_is_given_are_kept() -> None:
    """What was read as the API shows it can be built again; the details of a message that has its own win."""
    given = {"messageDetails": {"0": {"latencyMs": 1}, "1": {"latencyMs": 2}}}
    content = build_structured([user("Hello"), Message(role="assistant", content="Hi!", latency_ms=3.0)], given)
    assert [message.latency_ms for message in parse(content).messages] == [1.0, 3.0]


@pytest.mark.parametrize("own", [7, {}, {"first": {"latencyMs": 1}}, {"0": 1}, {"0": [1]}])
def test_metadata_that_only_has_the_name_of_details_stays(own: Any) -> None:
    """A value of another shape is the user's own."""
    content = json.dumps({"messages": [{"role": "user", "content": "Hello"}], "metadata": {"messageDetails": own}})
    assert parse(content) == Transcript([user("Hello")], {"messageDetails": own})


@pytest.mark.parametrize(
    ("messages", "metadata", "expected"),
    [
        (
            [{"role": "tool", "content": ""}],
            None,
            "messages[0]: content holds user, assistant and system messages; append a tool message",
        ),
        ([user("\ud800")], None, "the request cannot be written as JSON: 'utf-8' codec can't encode character"),
        ([user("x")], {"when": object()}, "the request cannot be written as JSON: object is not JSON"),
    ],
)
def test_what_structured_content_cannot_hold_is_refused(messages: Any, metadata: Any, expected: str) -> None:
    """Roles and values that the structured form has no place for are errors at the call."""
    with pytest.raises(InvalidArgumentError) as caught:
        build_structured(messages, metadata)
    assert str(caught.value).startswith(expected)


@pytest.mark.parametrize(
    ("content", "texts", "structured"),
    [
        ("User: a\nAssistant: b", ["a", "b"], False),
        ("no label", ["no label"], False),
        ('{"messages": [{"role": "robot", "content": "a"}, {"content": 5}, 7]}', ["a", "", ""], True),
        ('{"messages": 5}', ['{"messages": 5}'], False),
    ],
)
def test_limits_see_every_message(content: str, texts: list[str], structured: bool) -> None:
    """What the limits weigh is told for any content, right or wrong."""
    assert weighed(content) == (texts, structured)


@given(st.text() | JSON.map(json.dumps) | TEXTS)
def test_any_string_is_read_or_refused(content: str) -> None:
    """No string at all makes the parser fail in another way than by its own error."""
    weighed(content)
    try:
        parse(content)
    except InvalidArgumentError:
        return
