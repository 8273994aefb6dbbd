"""Runs one and the same call through both clients."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from converra.api.client import AsyncConverra, Converra

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = "sk-very-secret"


class Caller(Protocol):
    """Opens a client, calls, closes it."""

    def __call__(self, base_url: str, call: Callable[[Any], Any], /, **options: Any) -> Any:
        """Give back what the call returned."""


def call_sync(base_url: str, call: Callable[[Any], Any], /, **options: Any) -> Any:
    with Converra(api_key=KEY, base_url=base_url, **options) as client:
        return call(client)


def call_async(base_url: str, call: Callable[[Any], Any], /, **options: Any) -> Any:
    async def main() -> Any:
        async with AsyncConverra(api_key=KEY, base_url=base_url, **options) as client:
            return await call(client)

    return asyncio.run(main())


both = pytest.mark.parametrize("caller", [pytest.param(call_sync, id="sync"), pytest.param(call_async, id="async")])
