from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from converra.server.run import LocalServer, serve
from tests import warm
from tests.patience import LONG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
FORKING = "ignore:This process:DeprecationWarning"
"""Python 3.12 and later warn of every fork of a process that has threads, whoever has started them."""

HEAD = """
import atexit, os, signal, sys, threading, time
from tests.patience import LONG, until
from tests.process.child import record, started, unhurried
"""


class Ended(NamedTuple):
    """How a child process ended."""

    status: int
    out: str
    err: str


class Child:
    """A child process that runs a few lines and says "ready" when a test may act on it."""

    def __init__(self, code: str, environ: dict[str, str], modules: tuple[str, ...] | None) -> None:
        source = HEAD + textwrap.dedent(code)
        start = subprocess.Popen if modules is None else functools.partial(warm.Popen, modules=modules)
        self._process = start(
            [sys.executable, "-c", source],
            cwd=ROOT,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ready(self) -> Child:
        """Wait for the word, byte by byte: a buffer would keep from `ended` what comes after it."""
        assert self._process.stdout is not None
        line = b""
        while byte := os.read(self._process.stdout.fileno(), 1):
            if byte == b"\n" and line == b"ready":
                return self
            line = b"" if byte == b"\n" else line + byte
        raise AssertionError(self.ended().err)

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def ended(self, timeout: float = LONG) -> Ended:
        try:
            out, err = self._process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        return Ended(self._process.returncode, out, err)


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with serve() as running:
        yield running


@pytest.fixture
def start(server: LocalServer) -> Iterator[Callable[..., Child]]:
    """Starts a child process against the server; settings are given as in the environment.

    One that a signal may interrupt anywhere must not be `measured`: coverage takes a lock of its own on every thread,
    and a handler that waits for another thread while it has interrupted just that would wait in vain. A `cold` one is
    an interpreter of its own; the others have imported `modules`, see `tests/warm.py`.
    """
    children: list[Child] = []

    def begin(
        code: str,
        *,
        measured: bool = True,
        cold: bool = False,
        modules: tuple[str, ...] = warm.PLAIN,
        **settings: Any,
    ) -> Child:
        given = {"API_KEY": "k", "BASE_URL": server.base_url, "FLUSH_INTERVAL": "3600", "TIMEOUT": LONG}
        usual = {**given, "SHUTDOWN_TIMEOUT": LONG, **settings}
        own = {f"CONVERRA_{name}": str(value) for name, value in usual.items() if value is not None}
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        inherited = {name: value for name, value in os.environ.items() if measured or not name.startswith("COVERAGE_")}
        environ = {**inherited, **own, "PYTHONPATH": path, "PYTHONWARNINGS": FORKING}
        child = Child(code, environ, None if cold else modules)
        children.append(child)
        return child

    yield begin
    for child in children:
        child.signal(signal.SIGKILL)
        child.ended()


@pytest.fixture
def stopwatch() -> Callable[[], float]:
    """Seconds since the test began."""
    began = time.monotonic()
    return lambda: time.monotonic() - began
