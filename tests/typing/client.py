"""What a type checker knows about the client. Never run: mypy reads it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, assert_type

from converra import AsyncConverra, Converra
from converra.transcript import build, parse
from converra.types import (
    AsyncPage,
    Insights,
    Message,
    MessageParam,
    Page,
    Role,
    Status,
    StoredConversation,
    StoredMessage,
    Transcript,
)


def sync(client: Converra) -> None:
    created = client.conversations.create(
        prompt_id="p", content=[{"role": "user", "content": "Hello"}, Message(role="assistant", content="Hi!")]
    )
    assert_type(created, StoredConversation)
    assert_type(created.id, str)
    assert_type(created.status, Status | Literal[""])
    assert_type(client.conversations.list().pagination.total, int)
    assert_type(created.messages, list[StoredMessage])
    assert_type(created.created_at, datetime)
    assert_type(created.extra, dict[str, Any])
    client.conversations.append_messages("c", messages=[{"role": "tool", "content": ""}], status="completed")
    client.conversations.append_messages("c", messages=[], status="abandoned")  # type: ignore[arg-type] # no such status
    client.conversations.create(prompt_id="p")  # type: ignore[call-arg] # content is required
    page = client.conversations.list(limit=5)
    assert_type(page, Page)
    client.conversations.create(prompt_id="p", content=[{"role": "bot", "content": "x"}])  # type: ignore[list-item] # no such role
    client.conversations.create(prompt_id="p", content=[{"role": "user", "content": 3}])  # type: ignore[list-item] # no text
    assert_type(client.with_options(timeout=5), Converra)
    assert_type(client.conversations.get("c", timeout=5, extra_headers={"X": "y"}).request_id, str | None)
    for conversation in page:
        assert_type(conversation, StoredConversation)
    assert_type(client.conversations.insights("c"), Insights)


def messages(message: StoredMessage) -> None:
    assert_type(message.role, Role | Literal[""])
    assert_type(message.content, str)
    given: MessageParam = {"role": "assistant", "content": "Hi!", "latency_ms": 12.5, "usage": {"prompt_tokens": 3}}
    assert_type(build([given, {"role": "user", "content": "Bye"}], "text"), str)
    assert_type(parse("User: Hello"), Transcript)
    MessageParam(role="robot", content="Hi!")  # type: ignore[typeddict-item] # no such role
    MessageParam(role="user")  # type: ignore[typeddict-item] # content is required
    build([given], "html")  # type: ignore[arg-type] # no such form


async def asynchronous(client: AsyncConverra) -> None:
    assert_type(await client.conversations.get("c"), StoredConversation)
    assert_type(await client.conversations.list(), AsyncPage)
    async for conversation in client.conversations.list():
        assert_type(conversation, StoredConversation)
    async with client as entered:
        assert_type(entered, AsyncConverra)
