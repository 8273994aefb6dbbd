"""A pytest plugin: openai's own tests with capture switched on, delivered to a local server.

Without `CONVERRA_UPSTREAM` in the environment it does nothing, so that both runs load the same plugins.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import pytest

import converra
from converra.guard import caught
from converra.server.run import serve

if TYPE_CHECKING:
    from collections.abc import Iterator

ON = "CONVERRA_UPSTREAM"


@pytest.fixture(scope="session", autouse=True)
def captured() -> Iterator[None]:
    """Capture switched on for the whole session."""
    with contextlib.ExitStack() as stack:
        if os.environ.get(ON):
            server = stack.enter_context(serve())
            converra.instrument(prompt_id="prompt_upstream", api_key="any", base_url=server.base_url)
        yield
        if os.environ.get(ON):
            delivered = converra.flush(timeout=30)
            print(f"\ncaptured: {converra.stats()}, delivered: {delivered}, held back by the guard: {caught()}")
            converra.uninstrument()
            converra.shutdown(timeout=10)
