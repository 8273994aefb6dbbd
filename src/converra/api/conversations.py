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
    """Sends an operation, with retries."""

    def __call__(
        self, operation: Operation[T], /, timeout: float | None = None, extra_headers: Mapping[str, str] | None = None
    ) -> T:
        """Send it and return its result."""


class AsyncRun(Protocol):
    """Sends an operation from the event loop, with retries."""

    async def __call__(
        self,
        operation: Operation[T],
        /,
        timeout: float | None = None,  # noqa: ASYNC109 - as sync
        extra_headers: Mapping[str, str] | None = None,
    ) -> T:
        """Send it and return its result."""


def _new_key() -> str:
    """Make a unique idempotency key, with which a repeated create returns the same conversation."""
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
        timeout: float | None = None,
        extra_headers: Mapping[str, str] | None = None,
    ) -> StoredConversation:
        """Create a conversation (API document, "Create Conversation").

        Args:
            prompt_id: The prompt that the conversation belongs to.
            content: A transcript in either form of the content field, or a list of messages.
            status: "completed" where nothing will be appended; "active" to append later. Default: the API's.
            llm_model: The model, for example "gpt-4o".
            company_name: The customer's company.
            idempotency_key: A second create with the same key returns the first conversation, for 24 hours.
                Default: a new random key, so that a retry creates nothing twice.
            timeout: Seconds that one attempt may take. Default: the client's.
            extra_headers: Headers that are sent in addition to the client's own.

        Returns:
            The new conversation, or the earlier one with this key.

        Raises:
            InvalidArgumentError: An argument can never work; nothing was sent.
            ContentLimitError: The content is over a limit of the API; nothing was sent.
            ConverraError: The request failed; see `converra.errors`.

        """
        return self._run(
            operations.create_conversation(
                prompt_id=prompt_id,
                content=content,
                status=status,
                llm_model=llm_model,
                company_name=company_name,
                idempotency_key=_new_key() if idempotency_key is None else idempotency_key,
            ),
            timeout,
            extra_headers,
        )

    def append_messages(
        self,
        conversation_id: str,
        *,
        messages: Sequence[MessageLike],
        status: AppendStatus | None = None,
        metadata: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        extra_headers: Mapping[str, str] | None = None,
    ) -> StoredConversation:
        """Append messages to a conversation (API document, "Append Messages").

        An append whose outcome is unknown (a lost connection, a timeout, a 5xx) is not retried, since it has no
        idempotency key. Read the conversation back before you send it again.

        Args:
            conversation_id: The id that `create` returned.
            messages: At least one message, as `converra.types.Message` or as a dict.
            status: "completed" ends the conversation and starts its analysis; send it once. Default: unchanged.
            metadata: Merged into the conversation's metadata, key by key.
            timeout: Seconds that one attempt may take. Default: the client's.
            extra_headers: Headers that are sent in addition to the client's own.

        Returns:
            The conversation as it is now.

        Raises:
            InvalidArgumentError: An argument can never work; nothing was sent.
            NotFoundError: There is no such conversation, or it belongs to another account.
            ConverraError: The request failed; see `converra.errors`.

        """
        return self._run(
            operations.append_messages(conversation_id, messages, status=status, metadata=metadata),
            timeout,
            extra_headers,
        )

    def list(
        self,
        *,
        prompt_id: str | None = None,
        status: Status | None = None,
        has_insights: bool | None = None,
        limit: int | None = None,
        offset: int | None = None,
        timeout: float | None = None,
        extra_headers: Mapping[str, str] | None = None,
    ) -> Page:
        """List conversations (API document, "List Conversations").

        Args:
            prompt_id: Only conversations of this prompt.
            status: Only conversations with this status.
            has_insights: Only conversations with insights (True) or without (False).
            limit: Conversations on a page. Default: the API's, 20.
            offset: How many conversations to skip. Default: 0.
            timeout: Seconds that one attempt may take, for each page. Default: the client's.
            extra_headers: Headers that are sent in addition to the client's own, for each page.

        Returns:
            One page. Iterating over it fetches the following pages as well.

        Raises:
            InvalidArgumentError: An argument can never work; nothing was sent.
            ConverraError: The request failed; see `converra.errors`.

        """

        def fetch(offset: int | None) -> Page:
            operation = operations.list_conversations(
                prompt_id=prompt_id, status=status, has_insights=has_insights, limit=limit, offset=offset
            )
            return Page(self._run(operation, timeout, extra_headers), offset=offset or 0, limit=limit, fetch=fetch)

        return fetch(offset)

    def get(
        self,
        conversation_id: str,
        *,
        include_insights: bool | None = None,
        timeout: float | None = None,
        extra_headers: Mapping[str, str] | None = None,
    ) -> StoredConversation:
        """Get a conversation with its content (API document, "Get Conversation").

        Args:
            conversation_id: The conversation's id.
            include_insights: False leaves the insights out. Default: the API's, True.
            timeout: Seconds that one attempt may take. Default: the client's.
            extra_headers: Headers that are sent in addition to the client's own.

        Returns:
            The conversation. Which fields it has beyond the documented ones depends on the API.

        Raises:
            InvalidArgumentError: An argument can never work; nothing was sent.
            NotFoundError: There is no such conversation, or it belongs to another account.
            ConverraError: The request failed; see `converra.errors`.

        """
        return self._run(
            operations.get_conversation(conversation_id, include_insights=include_insights), timeout, extra_headers
        )

    def insights(
        self,
        conversation_id: str,
        *,
        timeout: float | None = None,
        extra_headers: Mapping[str, str] | None = None,
    ) -> Insights:
        """Get the results of a conversation's analysis (API document, "Get Conversation Insights").

        Args:
            conversation_id: The conversation's id.
            timeout: Seconds that one attempt may take. Default: the client's.
            extra_headers: Headers that are sent in addition to the client's own.

        Returns:
            The insights. Those that the analysis did not find are None.

        Raises:
            InvalidArgumentError: An argument can never work; nothing was sent.
            NotFoundError: There is no such conversation, or no insights yet.
            ConverraError: The request failed; see `converra.errors`.

        """
        return self._run(operations.get_insights(conversation_id), timeout, extra_headers)


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
        timeout: float | None = None,  # noqa: ASYNC109 - as sync
        extra_headers: Mapping[str, str] | None = None,
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
            ),
            timeout,
            extra_headers,
        )

    async def append_messages(
        self,
        conversation_id: str,
        *,
        messages: Sequence[MessageLike],
        status: AppendStatus | None = None,
        metadata: Mapping[str, Any] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - as sync
        extra_headers: Mapping[str, str] | None = None,
    ) -> StoredConversation:
        """Append messages; see `Conversations.append_messages`."""
        return await self._run(
            operations.append_messages(conversation_id, messages, status=status, metadata=metadata),
            timeout,
            extra_headers,
        )

    def list(
        self,
        *,
        prompt_id: str | None = None,
        status: Status | None = None,
        has_insights: bool | None = None,
        limit: int | None = None,
        offset: int | None = None,
        timeout: float | None = None,
        extra_headers: Mapping[str, str] | None = None,
    ) -> AsyncPages:
        """List conversations: await it for a page, or iterate over it with `async for` for all of them."""

        async def fetch(offset: int | None) -> AsyncPage:
            operation = operations.list_conversations(
                prompt_id=prompt_id, status=status, has_insights=has_insights, limit=limit, offset=offset
            )
            return AsyncPage(
                await self._run(operation, timeout, extra_headers), offset=offset or 0, limit=limit, fetch=fetch
            )

        return AsyncPages(lambda: fetch(offset))

    async def get(
        self,
        conversation_id: str,
        *,
        include_insights: bool | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - as sync
        extra_headers: Mapping[str, str] | None = None,
    ) -> StoredConversation:
        """Get a conversation; see `Conversations.get`."""
        return await self._run(
            operations.get_conversation(conversation_id, include_insights=include_insights), timeout, extra_headers
        )

    async def insights(
        self,
        conversation_id: str,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - as sync
        extra_headers: Mapping[str, str] | None = None,
    ) -> Insights:
        """Get the results of a conversation's analysis; see `Conversations.insights`."""
        return await self._run(operations.get_insights(conversation_id), timeout, extra_headers)
