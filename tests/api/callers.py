"""Runs one and the same call through both clients."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

import httpx
import pytest

from converra.api.client import AsyncConverra, Converra
from converra.api.direct import DirectConnection

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = "sk-very-secret"


class Caller(Protocol):
    """Opens a client, calls, closes it."""

    def __call__(self, base_url: str, call: Callable[[Any], Any], /, **options: Any) -> Any:
        """Give back what the call returned."""


def call_sync(base_url: str, call: Callable[[Any], Any], /, **options: Any) -> Any:
    """By `Converra`. `given`, if any, makes an HTTP client of the user's, which must stay open."""
    given = options.pop("given", None)
    if given is None:
        with Converra(api_key=KEY, base_url=base_url, **options) as client:
            return call(client)
    with given(httpx.Client) as http_client:
        result = call_sync(base_url, call, http_client=http_client, **options)
        assert not http_client.is_closed
        return result


def call_async(base_url: str, call: Callable[[Any], Any], /, **options: Any) -> Any:
    """By `AsyncConverra`, in an event loop of its own."""
    return asyncio.run(_call_async(base_url, call, **options))


async def _call_async(base_url: str, call: Callable[[Any], Any], **options: Any) -> Any:
    given = options.pop("given", None)
    if given is None:
        async with AsyncConverra(api_key=KEY, base_url=base_url, **options) as client:
            return await call(client)
    async with given(httpx.AsyncClient) as http_client:
        result = await _call_async(base_url, call, http_client=http_client, **options)
        assert not http_client.is_closed
        return result


class Direct(DirectConnection):
    """As a client expects a connection."""

    closed = False


def call_direct(base_url: str, call: Callable[[Any], Any], /, **options: Any) -> Any:
    """By the connection of delivery, under a client."""
    with Converra(api_key=KEY, base_url=base_url, **options) as client:
        opened = client._connection
        client._connection = Direct(KEY, opened.base_url, opened._timeout)  # type: ignore[assignment]
        return call(client)


CALLERS = [pytest.param(call_sync, id="sync"), pytest.param(call_async, id="async")]
both = pytest.mark.parametrize("caller", CALLERS)
each_connection = pytest.mark.parametrize("caller", [*CALLERS, pytest.param(call_direct, id="direct")])
each_library = pytest.mark.parametrize("library", ["httpx", "httpx2"], indirect=True)
