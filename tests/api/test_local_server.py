"""The client against the local API: what is written is read back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from converra.api.client import AsyncConverra, Converra
from converra.api.results import StoredMessage, StoredToolCall, StoredUsage
from converra.errors import APIConnectionError, NotFoundError, PayloadTooLargeError, ValidationError
from converra.server.run import serve
from tests.api.callers import KEY, Caller, both

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converra.server.run import LocalServer


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with serve() as running:
        yield running


TURNS: list[Any] = [
    {"role": "user", "content": "Where is my order?"},
    {
        "role": "tool",
        "content": "",
        "tool_calls": [{"id": "c1", "name": "order", "arguments": {"id": 7}}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 4},
        "latency_ms": 310.5,
    },
    {"role": "assistant", "content": "On its way.", "model": "gpt-4o", "tokens": 4, "metadata": {"messageId": "m3"}},
]
STORED = [
    StoredMessage(role="user", content="Where is my order?"),
    StoredMessage(
        role="tool",
        content="",
        tool_calls=[StoredToolCall(id="c1", name="order", arguments={"id": 7})],
        usage=StoredUsage(prompt_tokens=20, completion_tokens=4),
        latency_ms=310.5,
    ),
    StoredMessage(role="assistant", content="On its way.", model="gpt-4o", tokens=4, metadata={"messageId": "m3"}),
]


def _told(client: Converra, prompt_id: str) -> list[Any]:
    opened = client.conversations.create(
        prompt_id=prompt_id, content=[{"role": "system", "content": "Be kind."}], status="active"
    )
    id_ = opened.id
    appended = client.conversations.append_messages(id_, messages=TURNS, status="completed", metadata={"a": 1})
    listed = client.conversations.list(prompt_id=prompt_id, status="completed", has_insights=True)
    return [
        opened,
        appended,
        [row.id for row in listed],
        client.conversations.get(id_),
        client.conversations.insights(id_),
    ]


async def _told_async(client: AsyncConverra, prompt_id: str) -> list[Any]:
    opened = await client.conversations.create(
        prompt_id=prompt_id, content=[{"role": "system", "content": "Be kind."}], status="active"
    )
    id_ = opened.id
    appended = await client.conversations.append_messages(id_, messages=TURNS, status="completed", metadata={"a": 1})
    listed = client.conversations.list(prompt_id=prompt_id, status="completed", has_insights=True)
    return [
        opened,
        appended,
        [row.id async for row in listed],
        await client.conversations.get(id_),
        await client.conversations.insights(id_),
    ]


def _check(outcome: list[Any]) -> None:
    opened, appended, listed, got, insights = outcome
    assert (opened.status, appended.status, got.status) == ("active", "completed", "completed")
    assert appended.messages[1:] == got.messages[1:] == STORED
    assert (appended.metadata, listed, insights.conversation_id) == ({"a": 1}, [opened.id], opened.id)
    assert got.insights.summary == insights.summary


def test_a_conversation_is_told_and_read_back(server: LocalServer) -> None:
    """Create, append, list, get and insights agree on one conversation, field by field."""
    with Converra(api_key=KEY, base_url=server.base_url) as client:
        _check(_told(client, "sync"))


def test_a_conversation_is_told_and_read_back_in_an_event_loop(server: LocalServer) -> None:
    """The same with the async client."""

    async def main() -> list[Any]:
        async with AsyncConverra(api_key=KEY, base_url=server.base_url) as client:
            return await _told_async(client, "async")

    _check(asyncio.run(main()))


@both
def test_a_create_whose_answer_was_lost_creates_once(server: LocalServer, caller: Caller) -> None:
    """The idempotency key that is made up makes a retry find the first conversation."""
    server.faults.add("create", "reset", when="after")
    prompt_id = f"lost-{caller}"
    created = caller(server.base_url, lambda c: c.conversations.create(prompt_id=prompt_id, content="User: x"))
    page = caller(server.base_url, lambda c: c.conversations.list(prompt_id=prompt_id))
    assert [row.id for row in page.data] == [created.id]


@both
def test_an_append_whose_answer_was_lost_is_stored_once(server: LocalServer, caller: Caller) -> None:
    """The client tells instead of sending again; reading back shows what happened."""
    created = caller(server.base_url, lambda c: c.conversations.create(prompt_id="p", content="User: x"))
    server.faults.add("append", "reset", when="after")
    with pytest.raises(APIConnectionError):
        caller(server.base_url, lambda c: c.conversations.append_messages(created.id, messages=TURNS[:1]))
    got = caller(server.base_url, lambda c: c.conversations.get(created.id))
    assert got.messages[1:] == STORED[:1]


@both
def test_refusals_of_the_api_are_typed(server: LocalServer, caller: Caller) -> None:
    """What the API refuses arrives with its own code and words."""
    with pytest.raises(NotFoundError, match="404 NOT_FOUND: "):
        caller(server.base_url, lambda c: c.conversations.get("conv_nobody/../x"))
    with pytest.raises(ValidationError, match="400 VALIDATION_ERROR: "):
        caller(server.base_url, lambda c: c.conversations.create(prompt_id="p", content="no label"))
    created = caller(server.base_url, lambda c: c.conversations.create(prompt_id="p", content="User: x"))
    long = [{"role": "user", "content": "x" * (100 * 1024 + 1)}]
    with pytest.raises(PayloadTooLargeError):
        caller(server.base_url, lambda c: c.conversations.append_messages(created.id, messages=long))
