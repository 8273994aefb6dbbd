"""`Converra` and `AsyncConverra`, the clients of the API; they differ only in how they wait."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar, cast

from converra import config
from converra.api.connection import AsyncConnection, Connection
from converra.api.conversations import AsyncConversations, Conversations
from converra.api.operations import Operation
from converra.api.retry import exchange
from converra.errors import ConverraError, InvalidArgumentError, MissingAPIKeyError

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")


class Converra:
    """Client of the Conversations API.

    Args:
        api_key: The API key. Default: the variable `CONVERRA_API_KEY`.
        base_url: The URL of the API. Default: `CONVERRA_BASE_URL`, else `https://converra.ai/api/v1`.
        timeout: Seconds that one request may take. Default: `CONVERRA_TIMEOUT`, else 10.
        max_retries: How often a request that is safe to send again is retried. Default: 2.
        http_client: An `httpx.Client` to send with; closing it stays your task. Default: one of its own.

    Raises:
        MissingAPIKeyError: There is no key, neither as an argument nor in the environment.
        InvalidArgumentError: An argument can never work, such as a `base_url` that is no URL.

    Example::

        with Converra() as client:
            conversation = client.conversations.get("conv_456")

    """

    conversations: Conversations

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout: float | None = None,
        max_retries: int = 2,
        http_client: httpx.Client | None = None,
    ) -> None:
        self._max_retries = _retries(max_retries)
        self._connection = Connection(*_settings(api_key, base_url, timeout), http_client=http_client)
        self.conversations = Conversations(self._run)

    def __repr__(self) -> str:
        return f"Converra(base_url={self._connection.base_url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; they open again if the client is used again."""
        self._connection.close()

    def _run(self, operation: Operation[T], /) -> T:
        flow = exchange(operation, max_retries=self._max_retries, jitter=random.random, now=time.time)
        step = next(flow)
        try:
            while True:
                outcome = self._perform(step)
                step = flow.send(outcome)
        except StopIteration as done:
            return cast("T", done.value)

    def _perform(self, step: Operation[T] | float) -> T | ConverraError | None:
        if not isinstance(step, Operation):
            time.sleep(step)
            return None
        try:
            return self._connection.send(step)
        except ConverraError as error:
            return error


class AsyncConverra:
    """Client of the Conversations API for asyncio, with the arguments of `Converra`.

    Args:
        api_key: As in `Converra`.
        base_url: As in `Converra`.
        timeout: As in `Converra`, in seconds.
        max_retries: As in `Converra`.
        http_client: An `httpx.AsyncClient` to send with; closing it stays your task.

    Example::

        async with AsyncConverra() as client:
            async for conversation in client.conversations.list(prompt_id="prompt_123"):
                print(conversation.id)

    """

    conversations: AsyncConversations

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout: float | None = None,
        max_retries: int = 2,
        http_client: httpx.AsyncClient | None = None,
    ) -> None:
        self._max_retries = _retries(max_retries)
        self._connection = AsyncConnection(*_settings(api_key, base_url, timeout), http_client=http_client)
        self.conversations = AsyncConversations(self._run)

    def __repr__(self) -> str:
        return f"AsyncConverra(base_url={self._connection.base_url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; they open again if the client is used again."""
        await self._connection.close()

    async def _run(self, operation: Operation[T], /) -> T:
        flow = exchange(operation, max_retries=self._max_retries, jitter=random.random, now=time.time)
        step = next(flow)
        try:
            while True:
                outcome = await self._perform(step)
                step = flow.send(outcome)
        except StopIteration as done:
            return cast("T", done.value)

    async def _perform(self, step: Operation[T] | float) -> T | ConverraError | None:
        if not isinstance(step, Operation):
            await asyncio.sleep(step)
            return None
        try:
            return await self._connection.send(step)
        except ConverraError as error:
            return error


class _Settings(NamedTuple):
    """Settings of a connection; `timeout` is in seconds."""

    api_key: str
    base_url: str
    timeout: float


def _settings(api_key: str | None, base_url: str | None, timeout: float | None) -> _Settings:
    """Read the settings of a client; raises MissingAPIKeyError without a key."""
    found = config.load({"api_key": api_key, "base_url": base_url, "timeout": timeout})
    if found.api_key is None:
        raise MissingAPIKeyError("no API key: pass api_key=, or set CONVERRA_API_KEY in the environment")
    return _Settings(found.api_key, found.base_url, found.timeout)


def _retries(max_retries: Any) -> int:
    """Check the number of retries."""
    if not isinstance(max_retries, int) or isinstance(max_retries, bool) or max_retries < 0:
        raise InvalidArgumentError(f"max_retries is {max_retries!r}, expected a whole number of at least 0")
    return max_retries
