"""`client.conversations`: the endpoints as methods, sync and async.

Both only name their arguments and hand them to `operations`; everything else is written once.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from converra.api import operations
from converra.api.pages import AsyncPage, AsyncPages, Page

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from converra.api.operations import AppendStatus, Operation
    from converra.api.results import Insights, StoredConversation
    from converra.wire.models import MessageLike, Status

T = TypeVar("T")


class Run(Protocol):
    """What sends an operation, with retries."""

    def __call__(self, operation: Operation[T], /) -> T:
        """Send it and give back its answer."""


class AsyncRun(Protocol):
    """What sends an operation from the event loop, with retries."""

    async def __call__(self, operation: Operation[T], /) -> T:
        """Send it and give back its answer."""


def _new_key() -> str:
    """A key that nobody else has, so that sending a create again gives the same conversation."""
    return f"converra-{uuid.uuid4().hex}"


class Conversations:
    """The endpoints of conversations. Every method raises the errors of `converra.errors`."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def create(
        self,
        *,
        prompt_id: str,
        content: str | Sequence[MessageLike],
        status: Status | None = None,
        llm_model: str | None = None,
        company_name: str | None = None,
        idempotency_key: str | None = None,
    ) -> StoredConversation:
        """Create a conversation from a transcript in either form, or from messages.

        Without an `idempotency_key` one is made up, so that a retry creates nothing twice. A second create with the
        same key gives the first conversation back, for 24 hours.
        """
        return self._run(
            operations.create_conversation(
                prompt_id=prompt_id,
                content=content,
                status=status,
                llm_model=llm_model,
                company_name=company_name,
                idempotency_key=_new_key() if idempotency_key is None else idempotency_key,
            )
        )

    def append_messages(
        self,
        conversation_id: str,
        *,
        messages: Sequence[MessageLike],
        status: AppendStatus | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> StoredConversation:
        """Append messages; status "completed" ends the conversation and starts its analysis, once.

        An append whose outcome is unknown (a lost connection, a time-out, a 5xx) is not retried: it has no
        idempotency key. Read the conversation back before sending it again.
        """
        return self._run(operations.append_messages(conversation_id, messages, status=status, metadata=metadata))

    def list(
        self,
        *,
        prompt_id: str | None = None,
        status: Status | None = None,
        has_insights: bool | None = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> Page:
        """List conversations: one page, which iterates over all that follow. `limit` is the size of a page."""

        def fetch(offset: int | None) -> Page:
            operation = operations.list_conversations(
                prompt_id=prompt_id, status=status, has_insights=has_insights, limit=limit, offset=offset
            )
            return Page(self._run(operation), offset=offset or 0, limit=limit, fetch=fetch)

        return fetch(offset)

    def get(self, conversation_id: str, *, include_insights: bool | None = None) -> StoredConversation:
        """Get a conversation with its content and, unless declined, its insights."""
        return self._run(operations.get_conversation(conversation_id, include_insights=include_insights))

    def insights(self, conversation_id: str) -> Insights:
        """Get what the analysis of a conversation found."""
        return self._run(operations.get_insights(conversation_id))


class AsyncConversations:
    """The endpoints of conversations. Every method raises the errors of `converra.errors`."""

    def __init__(self, run: AsyncRun) -> None:
        self._run = run

    async def create(
        self,
        *,
        prompt_id: str,
        content: str | Sequence[MessageLike],
        status: Status | None = None,
        llm_model: str | None = None,
        company_name: str | None = None,
        idempotency_key: str | None = None,
    ) -> StoredConversation:
        """Create a conversation; see `Conversations.create`."""
        return await self._run(
            operations.create_conversation(
                prompt_id=prompt_id,
                content=content,
                status=status,
                llm_model=llm_model,
                company_name=company_name,
                idempotency_key=_new_key() if idempotency_key is None else idempotency_key,
            )
        )

    async def append_messages(
        self,
        conversation_id: str,
        *,
        messages: Sequence[MessageLike],
        status: AppendStatus | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> StoredConversation:
        """Append messages; see `Conversations.append_messages`."""
        return await self._run(operations.append_messages(conversation_id, messages, status=status, metadata=metadata))

    def list(
        self,
        *,
        prompt_id: str | None = None,
        status: Status | None = None,
        has_insights: bool | None = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> AsyncPages:
        """List conversations: await it for a page, or iterate over it with `async for` for all of them."""

        async def fetch(offset: int | None) -> AsyncPage:
            operation = operations.list_conversations(
                prompt_id=prompt_id, status=status, has_insights=has_insights, limit=limit, offset=offset
            )
            return AsyncPage(await self._run(operation), offset=offset or 0, limit=limit, fetch=fetch)

        return AsyncPages(lambda: fetch(offset))

    async def get(self, conversation_id: str, *, include_insights: bool | None = None) -> StoredConversation:
        """Get a conversation; see `Conversations.get`."""
        return await self._run(operations.get_conversation(conversation_id, include_insights=include_insights))

    async def insights(self, conversation_id: str) -> Insights:
        """Get what the analysis of a conversation found."""
        return await self._run(operations.get_insights(conversation_id))
