"""What a type checker tells the user. Checked by mypy, never run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import assert_type

from starlette.applications import Starlette

import converra
from converra import AsyncConverra, Converra, Conversation
from converra.asgi import lifespan
from converra.types import AsyncPage, Insights, Page, Report, Stats, StoredConversation


def capture() -> None:
    """Capture is typed throughout."""
    assert_type(converra.instrument("prompt_1", redact=lambda message: message, flush_interval=1), Report)
    assert_type(converra.instrument(lambda request: request.model), Report)
    assert_type(converra.current_conversation(), Conversation | None)
    assert_type(converra.flush(timeout=1), bool)
    assert_type(converra.stats(), Stats)
    with converra.conversation("prompt_1", session_id="session_1", keep_open=True) as conversation:
        assert_type(conversation, Conversation)
        assert_type(conversation.id, str | None)
        conversation.add_message("user", "Hello!", latency_ms=1, usage={"prompt_tokens": 1})
        conversation.add_message("bot", "Hello!")  # type: ignore[arg-type] # no such role
    converra.conversation()  # type: ignore[call-arg]
    converra.instrument(flush_intervall=1)  # type: ignore[call-arg]


async def capture_async() -> None:
    """The same block serves asyncio."""
    async with converra.conversation("prompt_1") as conversation:
        assert_type(conversation, Conversation)


@converra.conversation("prompt_1")
def shout(text: str, *, times: int = 1) -> str:
    """A decorated function keeps its signature."""
    return text.upper() * times


@converra.conversation("prompt_1")
async def whisper(text: str) -> str:
    """A decorated coroutine function keeps its signature."""
    return text.lower()


async def decorated() -> None:
    """What is decorated has the types it had."""
    assert_type(shout("a", times=2), str)
    assert_type(await whisper("A"), str)
    shout(1)  # type: ignore[arg-type]


def client() -> None:
    """Results are typed, and so is iterating over a page."""
    with Converra(api_key="k", timeout=1, max_retries=0) as api:
        assert_type(api.conversations.create(prompt_id="prompt_1", content="User: Hello!"), StoredConversation)
        assert_type(api.conversations.list(status="completed"), Page)
        for stored in api.conversations.list():
            assert_type(stored, StoredConversation)
        assert_type(api.conversations.insights("conv_1"), Insights)
        api.conversations.create(prompt_id="prompt_1", content="", status="done")  # type: ignore[arg-type]


async def async_client() -> None:
    """As the synchronous client."""
    async with AsyncConverra() as api:
        assert_type(await api.conversations.get("conv_1"), StoredConversation)
        assert_type(await api.conversations.list(), AsyncPage)
        async for stored in api.conversations.list():
            assert_type(stored, StoredConversation)


def deployment(own: Callable[[Starlette], AbstractAsyncContextManager[dict[str, int]]]) -> None:
    """The lifespan fits where a framework wants one, and keeps the type of the one that it wraps."""
    Starlette(lifespan=lifespan)
    Starlette(lifespan=lifespan(own))
    assert_type(lifespan(own), Callable[[Starlette], AbstractAsyncContextManager[dict[str, int]]])
    assert_type(lifespan(object()), AbstractAsyncContextManager[None])
