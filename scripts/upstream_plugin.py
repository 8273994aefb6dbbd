"""Pytest plugin for other projects' tests: switches on what `CONVERRA_UPSTREAM` names for all of them.

Capture delivers to a local server. An empty handler is attached to LangChain's runs as ours is, through its own hook:
what its mere presence changes is not of our making. All kinds of runs load this plugin, and so the same packages.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import converra
from converra.process.guard import caught

if TYPE_CHECKING:
    from collections.abc import Iterator

KIND = "CONVERRA_UPSTREAM"
FIGURES = "CONVERRA_UPSTREAM_FIGURES"
"""Path of the file that a run with capture writes its figures to."""

EMPTY_HANDLER = "an empty handler"
CAPTURE = "capture"


@pytest.fixture(scope="session", autouse=True)
def _switched_on() -> Iterator[None]:
    """Switch on the requested capture for the whole session."""
    switch_on = {CAPTURE: _capture, EMPTY_HANDLER: _empty_handler}.get(os.environ.get(KIND, ""), contextlib.nullcontext)
    with switch_on():
        yield


SERVER = "from converra.server.run import serve\nwith serve() as server:\n print(server.base_url, flush=True)\n input()"


@contextlib.contextmanager
def _server() -> Iterator[str]:
    """Run the server in a process of its own: some tests measure time, and its work is not the app's."""
    command = [sys.executable, "-c", SERVER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None  # noqa: S101 - a pipe was asked for
        assert server.stdout is not None  # noqa: S101 - a pipe was asked for
        yield server.stdout.readline().strip()
        server.communicate("\n")


@contextlib.contextmanager
def _capture() -> Iterator[None]:
    with _server() as base_url:
        converra.instrument(prompt_id="prompt_upstream", api_key="any", base_url=base_url)
        yield
        delivered = converra.flush(timeout=30)
        stats = converra.stats()
        print(f"\ncaptured: {stats}, delivered: {delivered}, held back by the guard: {caught()}")
        Path(os.environ[FIGURES]).write_text(json.dumps({"messages": stats.captured, "failures": caught()}))
        converra.uninstrument()
        converra.shutdown(timeout=10)


GENAI_SERVER = "GOOGLE_GEMINI_BASE_URL"
GENAI = {name: value for name, value in os.environ.items() if name.startswith("GOOGLE_")}
"""Variables of google-genai's tests, some of which remove them from the environment as they are collected."""


@pytest.fixture(autouse=True)
def _kept_variables() -> None:
    """Put the variables back before each test."""
    os.environ.update(GENAI)


@pytest.fixture(scope="session", autouse=True)
def _asking_our_server() -> None:
    """Have the client of google-genai's tests ask the server that the variable names, as its own client does."""
    if GENAI_SERVER not in GENAI:
        return
    from google.genai._replay_api_client import ReplayApiClient

    make = ReplayApiClient.__init__

    def made(self: Any, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        self._http_options.base_url = GENAI[GENAI_SERVER]

    client: Any = ReplayApiClient
    client.__init__ = made


@contextlib.contextmanager
def _empty_handler() -> Iterator[None]:
    from langchain_core.callbacks import BaseCallbackHandler
    from langchain_core.tracers.context import register_configure_hook

    class Empty(BaseCallbackHandler):
        """Handler that does nothing."""

    handler: ContextVar[Any] = ContextVar("upstream_handler", default=Empty())  # noqa: B039 - it has no state
    register_configure_hook(handler, inheritable=True, handle_class=Empty)
    yield
