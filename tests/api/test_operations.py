"""Requests are made of arguments alone, the same for every client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from converra.api import operations
from converra.errors import ContentLimitError, InvalidArgumentError

if TYPE_CHECKING:
    from converra.api.operations import Operation
    from converra.wire.models import MessageParam

HELLO: list[MessageParam] = [{"role": "user", "content": "Hello"}]


def shown(operation: Operation[Any]) -> tuple[Any, ...]:
    """What a request consists of, without how it is read."""
    return operation.method, operation.path, operation.query, operation.body, operation.idempotent


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        pytest.param(
            operations.create_conversation(prompt_id="p", content="User: x"),
            ("POST", "/conversations", {}, b'{"promptId":"p","content":"User: x"}', False),
            id="create",
        ),
        pytest.param(
            operations.create_conversation(prompt_id="p", content="User: x", idempotency_key="k"),
            ("POST", "/conversations", {}, b'{"promptId":"p","content":"User: x","idempotencyKey":"k"}', True),
            id="create with a key",
        ),
        pytest.param(
            operations.append_messages("c", HELLO),
            ("POST", "/conversations/c/messages", {}, b'{"messages":[{"role":"user","content":"Hello"}]}', False),
            id="append",
        ),
        pytest.param(
            operations.append_encoded(
                "c", [b'{"role":"user","content":"Hello"}'], status="completed", metadata={"a": 1}
            ),
            (
                "POST",
                "/conversations/c/messages",
                {},
                b'{"messages":[{"role":"user","content":"Hello"}],"status":"completed","metadata":{"a":1}}',
                False,
            ),
            id="append what is encoded",
        ),
        pytest.param(operations.list_conversations(), ("GET", "/conversations", {}, None, True), id="list"),
        pytest.param(
            operations.get_conversation("c", include_insights=True),
            ("GET", "/conversations/c", {"includeInsights": "true"}, None, True),
            id="get",
        ),
        pytest.param(operations.get_insights("c"), ("GET", "/conversations/c/insights", {}, None, True), id="insights"),
    ],
)
def test_a_request_holds_what_was_given_and_no_null(operation: Operation[Any], expected: tuple[Any, ...]) -> None:
    """What is not given is not sent; only what can be sent twice is called idempotent."""
    assert shown(operation) == expected


@pytest.mark.parametrize("content", ['{"messages": [', '{"messages": [{"role": "robot"}]}', "no labels", "{}"])
def test_a_transcript_is_the_apis_to_judge(content: str) -> None:
    """A content string is sent as it is, unless it is empty or over a limit."""
    operation = operations.create_conversation(prompt_id="p", content=content)
    assert msgspec.json.decode(operation.body or b"")["content"] == content


def test_limits_count_utf8_bytes() -> None:
    """What fits in characters may not fit in bytes."""
    operations.create_conversation(prompt_id="p", content="User: " + "x" * 100 * 1024)
    with pytest.raises(ContentLimitError) as caught:
        operations.create_conversation(prompt_id="p", content="User: " + "ü" * 60 * 1024)
    assert caught.value.details["limit"] == "max message length"


@given(st.text(min_size=1))
def test_any_id_stays_one_part_of_the_path(conversation_id: str) -> None:
    """No id can reach another endpoint: it is encoded, or refused."""
    try:
        path = operations.append_messages(conversation_id, HELLO).path
    except InvalidArgumentError:
        assert conversation_id in {".", ".."} or not conversation_id.strip()
        return
    root, first, part, last = path.split("/")
    assert (root, first, unquote(part), last) == ("", "conversations", conversation_id, "messages")
    assert path.isascii()
    assert not set(path) & set("?#&; ")
