"""A real `openai` client for the stand-in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from openai import AsyncOpenAI, OpenAI

from tests.patience import LONG

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converra.server.run import LocalServer


@pytest.fixture
def openai(server: LocalServer) -> Iterator[OpenAI]:
    with OpenAI(base_url=server.openai_url, api_key="any", max_retries=0, timeout=LONG) as client:
        yield client


@pytest.fixture
def async_openai(server: LocalServer) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=server.openai_url, api_key="any", max_retries=0, timeout=LONG)
