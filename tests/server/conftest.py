"""A local server per test, and a plain HTTP client for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from converra.server.run import serve
from tests.patience import LONG

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converra.server.run import LocalServer


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with serve() as running:
        yield running


@pytest.fixture
def http(server: LocalServer) -> Iterator[httpx.Client]:
    with client(server) as opened:
        yield opened


def client(server: LocalServer, key: str = "key-of-a-test") -> httpx.Client:
    """Without certificates, which take 50 ms to load and are of no use on loopback."""
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.Client(base_url=server.base_url, headers=headers, timeout=LONG, trust_env=False, verify=False)  # noqa: S501
