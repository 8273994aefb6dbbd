"""Answers are typed where they are as documented, and kept where they are not."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converra.api.results import (
    Answer,
    ConversationPage,
    Insights,
    Pagination,
    StoredConversation,
    StoredMessage,
    StoredToolCall,
    StoredUsage,
)

WHEN = datetime(2025, 1, 20, 14, 30, tzinfo=UTC)

WHOLE = {
    "id": "conv_1",
    "promptId": "p",
    "userId": "u",
    "title": "T",
    "content": "User: Hello",
    "messages": [
        {
            "role": "assistant",
            "content": "Hi!",
            "timestamp": "2025-01-20T14:30:00Z",
            "model": "gpt-4o",
            "tokens": 3,
            "toolCalls": [{"id": "c", "name": "look", "arguments": {"q": 1}}],
            "usage": {"promptTokens": 2, "completionTokens": 3},
            "latencyMs": 12.5,
            "metadata": {"messageId": "m"},
        }
    ],
    "status": "completed",
    "llmModel": "gpt-4o",
    "hasInsights": True,
    "insights": {
        "conversationId": "conv_1",
        "sentiment": "positive",
        "sentimentScore": 0.82,
        "taskCompleted": True,
        "topics": ["a"],
        "summary": "S",
        "issues": [{"kind": "slow"}],
        "createdAt": "2025-01-20T14:30:00Z",
    },
    "metadata": {"a": 1},
    "createdAt": "2025-01-20T14:30:00Z",
    "updatedAt": "2025-01-20T14:30:00Z",
}


def test_every_documented_field_is_typed() -> None:
    """All fields of the API document arrive under their Python names, in Python's types."""
    assert StoredConversation.from_dict(WHOLE) == StoredConversation(
        id="conv_1",
        prompt_id="p",
        user_id="u",
        title="T",
        content="User: Hello",
        messages=[
            StoredMessage(
                role="assistant",
                content="Hi!",
                timestamp=WHEN,
                model="gpt-4o",
                tokens=3,
                tool_calls=[StoredToolCall(id="c", name="look", arguments={"q": 1})],
                usage=StoredUsage(prompt_tokens=2, completion_tokens=3),
                latency_ms=12.5,
                metadata={"messageId": "m"},
            )
        ],
        status="completed",
        llm_model="gpt-4o",
        has_insights=True,
        insights=Insights(
            conversation_id="conv_1",
            sentiment="positive",
            sentiment_score=0.82,
            task_completed=True,
            topics=["a"],
            summary="S",
            issues=[{"kind": "slow"}],
            created_at=WHEN,
        ),
        metadata={"a": 1},
        created_at=WHEN,
        updated_at=WHEN,
    )


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param({}, StoredConversation(), id="nothing"),
        pytest.param({"id": None, "insights": None}, StoredConversation(), id="nulls"),
        pytest.param({"_links": {}, "extra": 1}, StoredConversation(extra={"_links": {}, "extra": 1}), id="unknown"),
        pytest.param(
            {"id": 5, "createdAt": "today"}, StoredConversation(extra={"id": 5, "createdAt": "today"}), id="odd"
        ),
        pytest.param({"metadata": [1]}, StoredConversation(extra={"metadata": [1]}), id="a list for an object"),
        pytest.param({"insights": "soon"}, StoredConversation(extra={"insights": "soon"}), id="words for an object"),
        pytest.param({"messages": {}}, StoredConversation(extra={"messages": {}}), id="an object for a list"),
        pytest.param(
            {"messages": [{"role": "developer", "content": ["parts"]}, "words"]},
            StoredConversation(
                messages=[StoredMessage.from_dict({"role": "developer", "content": ["parts"]})],
                extra={"messages": [{"role": "developer", "content": ["parts"]}, "words"]},
            ),
            id="some odd items",
        ),
        pytest.param(
            {"insights": {"topics": ["a", 1], "new": True}},
            StoredConversation(insights=Insights(extra={"topics": ["a", 1], "new": True})),
            id="odd inside",
        ),
    ],
)
def test_what_is_not_as_documented_is_kept(raw: dict[str, Any], expected: StoredConversation) -> None:
    """Unknown fields and odd values are in `extra`, missing ones None or empty, and nothing raises."""
    assert StoredConversation.from_dict(raw) == expected
    always = {"id": "", "status": ""}
    assert expected.to_dict() == always | {name: value for name, value in raw.items() if value is not None}


def test_a_newer_status_or_role_is_kept() -> None:
    """A value that this version does not know is read as it came, where it belongs."""
    message = {"role": "developer", "content": "Be kind."}
    raw = {"id": "c", "status": "archived", "messages": [message]}
    read = StoredConversation.from_dict(raw)
    assert (str(read.status), [str(message.role) for message in read.messages or []]) == ("archived", ["developer"])
    assert read.to_dict() == raw


def test_a_page_without_pagination_is_a_page() -> None:
    """A list that is not as documented is an empty page, with what came in `extra`."""
    assert ConversationPage.from_dict({"data": 5}) == ConversationPage(extra={"data": 5})
    assert ConversationPage.from_dict({"pagination": {"total": "many"}}).pagination == Pagination(
        extra={"total": "many"}
    )


def test_a_result_goes_back_to_what_the_api_sent() -> None:
    """`to_dict` loses nothing: it is the answer again, ready for JSON."""
    assert StoredConversation.from_dict(WHOLE).to_dict() == WHOLE


def test_a_result_shows_only_what_is_set() -> None:
    """The `repr` of a result is short, and hides nothing that the API sent."""
    assert repr(StoredConversation(id="c", status="active")) == "StoredConversation(id='c', status='active')"
    found = Insights.from_dict({"taskCompleted": False, "sentimentScore": 0.0, "issues": [], "summary": ""})
    assert repr(found) == "Insights(sentiment_score=0.0, task_completed=False, summary='', issues=[])"
    assert repr(Pagination.from_dict({"limit": 20, "offset": 0})) == "Pagination(total=0, limit=20, offset=0)"


def test_a_result_begins_with_what_it_is() -> None:
    """Unknown fields stand last in the `repr`."""
    shown = repr(StoredConversation.from_dict({"_links": {}, "id": "c", "hasInsights": True}))
    assert shown == "StoredConversation(id='c', has_insights=True, extra={'_links': {}})"


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        (StoredConversation, WHOLE),
        (Insights, WHOLE["insights"]),
        (ConversationPage, {"data": [WHOLE], "pagination": {"total": 1}}),
    ],
)
def test_an_answer_may_be_wrapped(kind: type[Answer], raw: Any) -> None:
    """`{"data": ...}` around an object changes nothing; what stands beside it is kept."""
    wrapped = kind.read(json.dumps({"data": raw, "success": True}).encode())
    assert wrapped == kind.from_dict(raw | {"success": True})
    assert kind.read(json.dumps({"data": raw}).encode()) == kind.from_dict(raw)


def test_a_field_of_its_own_named_data_is_no_wrapper() -> None:
    """An object with documented fields beside `data` is read as it is."""
    raw = {"id": "c", "data": {"id": "other"}}
    assert StoredConversation.read(json.dumps(raw).encode()) == StoredConversation.from_dict(raw)
    assert StoredConversation.from_dict(raw).id == "c"


@pytest.mark.parametrize(
    ("raw", "shows"),
    [({}, False), ({"messages": None}, False), ({"messages": []}, True), ({"messages": [{"role": "user"}]}, True)],
)
def test_no_messages_and_messages_not_shown_differ(raw: dict[str, Any], shows: bool) -> None:
    """`messages` is a list in either case; `shows_messages` says which, and `to_dict` gives back what came."""
    conversation = StoredConversation.from_dict(raw)
    assert (len(conversation.messages), conversation.shows_messages) == (len(raw.get("messages") or ()), shows)
    assert ("messages" in conversation.to_dict()) is shows


def test_the_id_of_the_request_does_not_count() -> None:
    """Two answers that say the same are equal, whichever request they answer."""
    first, second = StoredConversation(id="c", request_id="1"), StoredConversation(id="c", request_id="2")
    assert first == second != StoredConversation(id="d", request_id="2")
    assert "request_id" not in first.to_dict()


def test_results_are_values() -> None:
    """A result can be pickled, compared, and not changed."""
    conversation = StoredConversation.from_dict(WHOLE)
    assert pickle.loads(pickle.dumps(conversation)) == conversation  # noqa: S301 - our own
    with pytest.raises(AttributeError):
        conversation.id = "other"  # type: ignore[misc]


def test_half_an_emoji_does_not_hide_a_conversation() -> None:
    """JSON that common servers send and strict parsers refuse is read: cut surrogate pairs, NaN."""
    body = rb'{"id": "c", "title": "cut \ud83d", "insights": {"sentimentScore": NaN}}'
    assert StoredConversation.read(body) == StoredConversation(id="c", title="cut ?", insights=Insights())


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b'"words"', b"null", b"5", b'{"id":', b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000],
)
def test_what_is_no_json_object_cannot_be_read(body: bytes) -> None:
    """Only an answer that is no JSON object at all is refused, as a ValueError."""
    with pytest.raises(ValueError):  # noqa: PT011 - which one is the caller's to say
        StoredConversation.read(body)


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def mostly(documented: Any) -> st.SearchStrategy[Any]:
    """A documented value with any part of it missing, replaced or joined by something odd."""
    if isinstance(documented, dict):
        fields = {name: mostly(value) for name, value in documented.items()}
        return ODD | st.fixed_dictionaries({}, optional=fields).flatmap(
            lambda some: st.dictionaries(st.text(), ODD, max_size=2).map(lambda more: {**more, **some})
        )
    if isinstance(documented, list):
        return ODD | st.lists(mostly(documented[0]), max_size=3)
    return ODD | st.just(documented)


@pytest.mark.parametrize(
    ("kind", "documented"),
    [
        (StoredConversation, WHOLE),
        (Insights, WHOLE["insights"]),
        (ConversationPage, {"data": [WHOLE], "pagination": {"total": 1, "limit": 20, "offset": 0}}),
    ],
)
@given(st.data())
def test_any_object_is_read_and_nothing_of_it_lost(kind: type[Answer], documented: Any, data: st.DataObject) -> None:
    """Whatever is missing, new or of another type: reading never raises, and every field can still be had."""
    raw = data.draw(mostly(documented).filter(lambda value: isinstance(value, dict)))
    result = kind.read(json.dumps(raw).encode())
    shown = result.to_dict()
    json.dumps(shown)
    nothing = {"promptId": ""}  # as if it were missing
    assert shown.keys() >= {name for name, value in raw.items() if value is not None and value != nothing.get(name)}
    assert kind.from_dict(shown) == result
