"""What the client's tests share."""

from __future__ import annotations

import pytest

from converra.api import _httpx


@pytest.fixture
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The HTTP library by one of its names, as if the process had only that."""
    name: str = request.param
    pytest.importorskip(name)
    monkeypatch.setattr(_httpx, "NAMES", (name,))
    return name
