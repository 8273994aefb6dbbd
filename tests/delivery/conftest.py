from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from converra.api import retry
from converra.process import guard
from converra.server.run import LocalServer, serve

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with serve() as running:
        yield running


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Retries come after hundredths of a second, and every warning is given, as in a new process."""
    monkeypatch.setattr(retry, "FIRST_DELAY", 0.02)
    monkeypatch.setattr(retry, "MAX_DELAY", 0.2)
    guard.reset_log_limits()
    yield
    guard.reset_log_limits()
