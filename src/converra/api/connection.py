"""The connections that carry requests: one for threads, one for an event loop.

What happens to a request is written once, here and in the modules beside; of the two classes, each only does its own
kind of waiting. Redirects are not followed: a moved API is for the programmer to know, and the key must not travel.
Proxies and certificates come from the environment, as httpx reads it.
"""

from __future__ import annotations

import asyncio
import os
import sys
import weakref
from contextlib import aclosing, closing, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, cast

from converra.api._httpx import classes, errors, install_filter, library
from converra.api.answers import Body, answer_from
from converra.api.base_connection import BaseConnection, disconnect, in_words
from converra.api.deadline import GRACE, AsyncAttempt, Attempt, under_way
from converra.errors import APIConnectionError, InvalidArgumentError
from converra.process import lifecycle
from converra.process.telemetry import CONTEXT, suppressed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping

    import httpx

    from converra.api.operations import Operation

T = TypeVar("T")
Client = TypeVar("Client", bound="httpx.Client | httpx.AsyncClient")


class _Owner(NamedTuple):
    """Process and event loop that may use an HTTP client's sockets."""

    pid: int
    loop: asyncio.AbstractEventLoop | None


class _HTTPXConnection(BaseConnection, Generic[Client]):
    """Common part of both connections: the HTTP client of this process and loop."""

    _kind: str
    """The name of the client's class."""
    closed: bool = False
    """True once the typed client that uses it was closed. Delivery does not set it: its connection opens again."""

    def __init__(self, api_key: str, base_url: str, timeout: float, *, http_client: Client | None = None) -> None:
        if http_client is not None and not isinstance(http_client, classes(self._kind)):
            raise InvalidArgumentError(f"http_client is {http_client!r}, expected an httpx.{self._kind}")
        super().__init__(api_key, base_url, timeout)
        self._given: Client | None = http_client
        self._built: dict[_Owner, Client] = {}

    @contextmanager
    def _sending(self, operation: Operation[Any], attempt: Attempt) -> Iterator[None]:
        """Make an attempt: its streams are bounded, nothing traces it, and its failures are the API's errors.

        RuntimeError is what httpx raises for a closed client, and UnicodeError for a host that is no name.
        """
        handled, outer = sys.exception(), under_way.get()
        under_way.set(attempt)
        try:
            with suppressed() if CONTEXT in sys.modules else nullcontext():
                yield
        except errors("HTTPError", "InvalidURL", also=(OSError, RuntimeError, UnicodeError)) as error:
            raise self._failure(error, operation, attempt, handled) from error
        finally:
            under_way.set(outer)  # not `reset`, which raises where a coroutine is closed in another context

    def _client(self, loop: asyncio.AbstractEventLoop | None = None) -> Client:
        """The given client, or our own: each process and each event loop has one."""
        if self._given is not None:
            return self._given
        owner = _Owner(os.getpid(), loop)
        return self._built.get(owner) or self._built.setdefault(owner, self._opened(owner.pid))

    def _opened(self, pid: int) -> Client:
        """Build a client, and forget those of loops that are closed and of the parent process."""
        for owner in list(self._built):
            if owner.pid != pid or (owner.loop is not None and owner.loop.is_closed()):
                self._built.pop(owner, None)
        build = cast("type[Client]", getattr(library(), self._kind))
        try:
            return build()
        except errors("InvalidURL", also=(ImportError, OSError, ValueError)) as error:
            reason = f"proxies or certificates of the environment cannot be used: {in_words(error)}"
            raise APIConnectionError(reason, sent=False) from error

    def _closed(self) -> list[Client]:
        """Give up the clients that are ours, for closing."""
        built, self._built = self._built, {}
        return list(built.values())

    def _request(
        self, client: Client, operation: Operation[Any], attempt: Attempt, trace: Callable[..., Any]
    ) -> httpx.Request:
        content = {} if operation.body is None else {"Content-Type": "application/json"}
        return client.build_request(
            operation.method,
            f"{self.base_url}{operation.path}",
            params=operation.query or None,
            headers={**operation.headers, **self._headers, **content},
            content=operation.body,
            timeout=attempt.left(),
            extensions={"trace": trace},
        )

    def _authorized(self, request: httpx.Request) -> httpx.Request:
        """Set the key last, so that nothing in a user's client replaces it."""
        request.headers["Authorization"] = self._authorization
        return request


class Connection(_HTTPXConnection["httpx.Client"]):
    """Sends operations one at a time or from many threads, once each: retrying is the caller's.

    It survives a fork: the child opens sockets of its own. A closed one opens again when it is used.
    """

    _kind = "Client"
    silent: bool = False
    """True: the HTTP library logs nothing about the requests of this connection."""
    limit_headers: Mapping[str, str] | None = None
    """Headers of the latest answer that describe the rate limit. Their reader sets it to None again."""

    def __init__(self, api_key: str, base_url: str, timeout: float, *, http_client: httpx.Client | None = None) -> None:
        super().__init__(api_key, base_url, timeout, http_client=http_client)
        self._streams: weakref.WeakSet[Any] = weakref.WeakSet()
        """Network streams that the built-in client has opened."""
        self._abandoned = False
        lifecycle.in_child(lifecycle.Phase.DELIVERY, self)

    def open(self) -> None:
        """Load what the first request needs (modules, certificates), ahead of it; nothing is connected."""
        self._client()

    def be_silent(self) -> None:
        """Keep the requests out of the app's log, which did not ask for them."""
        install_filter()
        self.silent = True

    def send(self, operation: Operation[T], *, timeout: float | None = None) -> T:
        """Send a request and read its answer, all within `timeout` seconds; raises the errors of `converra.errors`."""
        streams = self._streams if self._given is None else None
        attempt = Attempt(operation.seconds(timeout, self._timeout), streams, silent=self.silent)
        with self._sending(operation, attempt):
            if self._abandoned:
                raise ConnectionError("this connection belongs to the parent process")
            client = self._client()
            request = self._request(client, operation, attempt, attempt.trace)
            response = client.send(request, stream=True, auth=self._authorized, follow_redirects=False)
            body = Body(
                response.status_code, response.headers, decoded=response.is_stream_consumed, skimmed=operation.skims
            )
            with closing(response), _as_far_as_needed(response), closing(_chunks(response)) as chunks:
                while (chunk := next(chunks, None)) is not None and body.feed(chunk):
                    attempt.left()
        if any("ratelimit" in name for name in response.headers):
            self.limit_headers = response.headers
        return answer_from(operation, response.status_code, response.headers, body, url=str(request.url))

    def close(self) -> None:
        """Close the sockets; a client that was given stays open, it is its owner's."""
        for client in self._closed():
            client.close()

    def abandon(self) -> None:
        """Leave it to the parent process, after a fork: nothing can be sent any more."""
        self._abandoned = True
        self.after_fork()

    def after_fork(self) -> None:
        """Close the sockets of the parent process without a word to the server, and forget them."""
        disconnect([sock for stream in list(self._streams) if (sock := stream.get_extra_info("socket"))])
        self._streams.clear()
        self._built = {}


class AsyncConnection(_HTTPXConnection["httpx.AsyncClient"]):
    """As `Connection`, in an event loop; each loop gets sockets of its own."""

    _kind = "AsyncClient"

    async def send(self, operation: Operation[T], *, timeout: float | None = None) -> T:  # noqa: ASYNC109 - as sync
        """Send a request and read its answer, all within `timeout` seconds; raises the errors of `converra.errors`."""
        attempt = AsyncAttempt(operation.seconds(timeout, self._timeout))
        with self._sending(operation, attempt):
            client = self._client(asyncio.get_running_loop())
            request = self._request(client, operation, attempt, attempt.hear)
            async with attempt.limit():
                response = await client.send(request, stream=True, auth=self._authorized, follow_redirects=False)
            body = Body(
                response.status_code, response.headers, decoded=response.is_stream_consumed, skimmed=operation.skims
            )
            async with aclosing(response), aclosing(_async_chunks(response)) as chunks:
                with _as_far_as_needed(response):
                    async with asyncio.timeout(attempt.left() + GRACE):
                        while (chunk := await anext(chunks, None)) is not None and body.feed(chunk):
                            pass
        return answer_from(operation, response.status_code, response.headers, body, url=str(request.url))

    async def close(self) -> None:
        """Close the sockets; a client that was given stays open, it is its owner's."""
        for client in self._closed():
            await client.aclose()


def _chunks(response: httpx.Response) -> Generator[bytes]:
    """As they came from the network; decoded where a hook of the user's client has read them already."""
    return cast("Generator[bytes]", response.iter_bytes() if response.is_stream_consumed else response.iter_raw())


def _async_chunks(response: httpx.Response) -> AsyncGenerator[bytes]:
    return cast(
        "AsyncGenerator[bytes]", response.aiter_bytes() if response.is_stream_consumed else response.aiter_raw()
    )


@contextmanager
def _as_far_as_needed(response: httpx.Response) -> Iterator[None]:
    """Let an answer count without the rest of its body where its status says enough, or where it cannot be decoded."""
    try:
        yield
    except errors("DecodingError"):
        return
    except errors("HTTPError", also=(TimeoutError,)):
        if response.is_success:
            raise
