"""`Converra` and `AsyncConverra`, the clients of the API; they differ only in how they wait."""

from __future__ import annotations

import asyncio
import random
import time
from copy import copy
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Self, TypeVar, cast

import msgspec

from converra import config
from converra.api.connection import AsyncConnection, Connection
from converra.api.conversations import AsyncConversations, Conversations
from converra.api.operations import Operation, checked_headers, checked_timeout
from converra.api.retry import exchange
from converra.errors import ClientClosedError, ConverraError, InvalidArgumentError, MissingAPIKeyError
from converra.process import waits

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    import httpx

T = TypeVar("T")
C = TypeVar("C", Connection, AsyncConnection)


class _Options(NamedTuple):
    """Options of the requests of a client; a timeout of None is the connection's."""

    max_retries: int
    timeout: float | None = None
    headers: Mapping[str, str] = {}

    def but(self, timeout: Any, max_retries: Any, extra_headers: Any) -> _Options:
        """Return the options with those that are given in their place."""
        return _Options(
            self.max_retries if max_retries is None else _retries(max_retries),
            self.timeout if timeout is None else checked_timeout(timeout),
            {**self.headers, **checked_headers(extra_headers)},
        )

    def flow(self, operation: Operation[T]) -> Generator[Operation[T] | float, T | ConverraError | None, T]:
        """Begin the exchange of an operation under these options."""
        operation = msgspec.structs.replace(operation, timeout=self.timeout, headers=dict(self.headers))
        return exchange(operation, max_retries=self.max_retries, jitter=random.random, now=time.time)


class _BaseClient(Generic[C]):
    """Common part of both clients."""

    _options: _Options
    _connection: C

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self._connection.base_url!r})"

    def _but(self, timeout: float | None, max_retries: int | None, extra_headers: Mapping[str, str] | None) -> Self:
        other = copy(self)
        other._options = self._options.but(timeout, max_retries, extra_headers)  # noqa: SLF001 - of its own class
        return other

    def _check_open(self) -> None:
        if self._connection.closed:
            raise ClientClosedError(f"this {type(self).__name__} client was closed; make a new one")


class Converra(_BaseClient[Connection]):
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
        self._options = _Options(_retries(max_retries))
        self._connection = Connection(*_settings(api_key, base_url, timeout), http_client=http_client)
        self.conversations = Conversations(self._run)

    def with_options(
        self,
        *,
        timeout: float | None = None,
        max_retries: int | None = None,
        extra_headers: Mapping[str, str] | None = None,
    ) -> Self:
        """Return a client with other options, for example for one slow call.

        It shares the connections of this one: closing either closes both.

        Args:
            timeout: Seconds that one request may take. Default: as in this client.
            max_retries: How often a request that is safe to send again is retried. Default: as in this client.
            extra_headers: Headers that are sent with every request, in addition to those of this client. Names are
                not case-sensitive; those that the client sets itself, such as `Authorization`, are refused.

        Raises:
            InvalidArgumentError: An option can never work.

        Example::

            patient = client.with_options(timeout=60, max_retries=5)

        """
        other = self._but(timeout, max_retries, extra_headers)
        other.conversations = Conversations(other._run)  # noqa: SLF001 - of its own class
        return other

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; a client that was given as `http_client` stays open.

        Every later call raises ClientClosedError. Closing again does nothing.
        """
        self._connection.closed = True
        self._connection.close()

    def _run(
        self, operation: Operation[T], /, timeout: float | None = None, extra_headers: Mapping[str, str] | None = None
    ) -> T:
        flow = self._options.but(timeout, None, extra_headers).flow(operation)
        step = next(flow)
        try:
            while True:
                outcome = self._perform(step)
                step = flow.send(outcome)
        except StopIteration as done:
            return cast("T", done.value)

    def _perform(self, step: Operation[T] | float) -> T | ConverraError | None:
        if not isinstance(step, Operation):
            waits.sleep(step)
            return None
        self._check_open()
        try:
            return self._connection.send(step)
        except ConverraError as error:
            return error


class AsyncConverra(_BaseClient[AsyncConnection]):
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
        self._options = _Options(_retries(max_retries))
        self._connection = AsyncConnection(*_settings(api_key, base_url, timeout), http_client=http_client)
        self.conversations = AsyncConversations(self._run)

    def with_options(
        self,
        *,
        timeout: float | None = None,
        max_retries: int | None = None,
        extra_headers: Mapping[str, str] | None = None,
    ) -> Self:
        """Return a client with other options; see `Converra.with_options`."""
        other = self._but(timeout, max_retries, extra_headers)
        other.conversations = AsyncConversations(other._run)  # noqa: SLF001 - of its own class
        return other

    async def __aenter__(self) -> Self:
        self._check_open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; a client that was given as `http_client` stays open.

        Every later call raises ClientClosedError. Closing again does nothing.
        """
        self._connection.closed = True
        await self._connection.close()

    async def _run(
        self,
        operation: Operation[T],
        /,
        timeout: float | None = None,  # noqa: ASYNC109 - as sync
        extra_headers: Mapping[str, str] | None = None,
    ) -> T:
        flow = self._options.but(timeout, None, extra_headers).flow(operation)
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
        self._check_open()
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
