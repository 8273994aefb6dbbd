from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

import pytest

from converra.api import retry
from converra.delivery.fleet import lanes, stream
from converra.process import guard
from converra.server.run import LocalServer, serve
from tests.fleet.redis_server import PROGRAM, RedisServer, redis_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_numbers = itertools.count()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip where there is no server to test against; continuous integration installs one.

    Tests with the mark `fleet` wait for seconds: `make test-fleet` runs them.
    """
    if "FLEET_KILLS" not in os.environ:
        for item in items:
            if item.get_closest_marker("fleet"):
                item.add_marker(pytest.mark.skip(reason="it waits for seconds: make test-fleet"))
    if PROGRAM is None:
        for item in items:
            if "tests/fleet/" in item.nodeid and not item.get_closest_marker("without_redis"):
                item.add_marker(pytest.mark.skip(reason="redis-server is not installed: apt-get install redis-server"))


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def outbox(shared_redis: RedisServer) -> str:
    """The URL of a fleet of four lanes that no other test uses."""
    return f"{shared_redis.url}?lanes=4&prefix=t{next(_numbers)}"


@pytest.fixture
def api() -> Iterator[LocalServer]:
    with serve() as server:
        yield server


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Retries, readings and rounds come after hundredths of a second, and every warning is given."""
    monkeypatch.setattr(retry, "FIRST_DELAY", 0.02)
    monkeypatch.setattr(retry, "MAX_DELAY", 0.2)
    monkeypatch.setattr(lanes, "ROUND_SECONDS", 0.05)
    monkeypatch.setattr(stream, "IDLE_POLL_SECONDS", 0.02)
    monkeypatch.setattr(stream, "IDLE_LOOK_SECONDS", 0.1)
    monkeypatch.setattr(stream, "SETTLING_SECONDS", 0.1)
    guard.reset_log_limits()
    yield
    guard.reset_log_limits()


@pytest.fixture
def closing() -> Iterator[Callable[[Callable[[], object]], None]]:
    """Take functions that are called when the test ends."""
    found: list[Callable[[], object]] = []
    yield found.append
    for each in reversed(found):
        each()
