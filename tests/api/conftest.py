"""What the client's tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import certifi
import pytest

from converra.api import _httpx

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def one_authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    first, end, _ = certifi.contents().partition("-----END CERTIFICATE-----")
    path = tmp_path_factory.mktemp("certificates") / "one.pem"
    path.write_text(first + end + "\n")
    return path


@pytest.fixture(autouse=True)
def quick_clients(one_authority: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Load one certificate per client instead of all: most of what a client costs, and nothing here uses TLS."""
    monkeypatch.setenv("SSL_CERT_FILE", str(one_authority))


@pytest.fixture
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The HTTP library by one of its names, as if the process had only that."""
    name: str = request.param
    pytest.importorskip(name)
    monkeypatch.setattr(_httpx, "NAMES", (name,))
    return name
