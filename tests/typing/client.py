"""What a type checker knows about the client. Never run: mypy reads it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, assert_type

from converra import AsyncConverra, Converra
from converra.api.pages import AsyncPage, Page
from converra.api.results import Conversation, Insights, StoredMessage
from converra.wire.models import Message


def sync(client: Converra) -> None:
    created = client.conversations.create(
        prompt_id="p", content=[{"role": "user", "content": "Hello"}, Message(role="assistant", content="Hi!")]
    )
    assert_type(created, Conversation)
    assert_type(created.id, str | None)
    assert_type(created.messages, list[StoredMessage] | None)
    assert_type(created.created_at, datetime | None)
    assert_type(created.extra, dict[str, Any])
    client.conversations.append_messages("c", messages=[{"role": "tool", "content": ""}], status="completed")
    client.conversations.append_messages("c", messages=[], status="abandoned")  # type: ignore[arg-type] # no such status
    client.conversations.create(prompt_id="p")  # type: ignore[call-arg] # content is required
    page = client.conversations.list(limit=5)
    assert_type(page, Page)
    for conversation in page:
        assert_type(conversation, Conversation)
    assert_type(client.conversations.insights("c"), Insights)


async def asynchronous(client: AsyncConverra) -> None:
    assert_type(await client.conversations.get("c"), Conversation)
    assert_type(await client.conversations.list(), AsyncPage)
    async for conversation in client.conversations.list():
        assert_type(conversation, Conversation)
    async with client as entered:
        assert_type(entered, AsyncConverra)
