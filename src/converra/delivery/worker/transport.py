"""The way to the API: a connection, made as soon as there is a key for it, and again when the key was refused."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol, TypeVar

from converra.errors import ConverraError
from converra.process import forks
from converra.process.guard import log_limited

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from converra.api.operations import Operation
    from converra.config import Config
    from converra.delivery.stats import Counters

KEY_MISSING = (
    "converra: no API key: set CONVERRA_API_KEY, or pass api_key= to instrument(). Nothing is sent until then; "
    "what is recorded waits, up to the bound of the outbox."
)

WAITS = "converra: what is recorded waits, and is tried again: %s"


T = TypeVar("T")


class Connection(Protocol):
    """What carries a request: `converra.api.connection.Connection`, or a fake."""

    on_headers: Callable[[Mapping[str, str]], None]
    """Told the headers of each answer."""

    def send(self, operation: Operation[T], *, timeout: float | None = None) -> T:
        """Send once and read the answer; raises the errors of `converra.errors`."""

    def close(self) -> None:
        """Close the sockets."""

    def abandon(self) -> None:
        """Forget the sockets of the parent process."""


class Transport:
    """Used by workers only, one at a time."""

    def __init__(
        self,
        config: Config,
        counters: Counters,
        connect: Callable[[str], Connection],
        on_headers: Callable[[Mapping[str, str]], None],
    ) -> None:
        self._config = config
        self._counters = counters
        self._connect = connect
        self._on_headers = on_headers
        self._connection: Connection | None = None
        self._told = False
        forks.watch(_importing)

    def connection(self) -> Connection | None:
        """The connection; None while there is no key.

        Asked for ahead of need: importing httpx takes a while, and is better not done at exit.
        """
        if self._connection is None:
            key = self._config.api_key_now()
            if key is not None:
                self._told = False
                self._open(key)
        return self._connection

    def _open(self, key: str) -> None:
        try:
            self._connection = self._connect(key)
        except ConverraError as error:  # a proxy or a certificate of the environment that cannot be used
            self._counters.last_error = str(error)
            log_limited("unreachable", WAITS, error)
        else:
            self._connection.on_headers = self._on_headers

    def log_key_missing(self) -> None:
        """Say it once, until there is one."""
        if not self._told and self._config.api_key_now() is None:
            log_limited("key", KEY_MISSING)
            self._told = True

    def close(self) -> None:
        """Close the sockets. The next connection is made with the key of that time: it may have been replaced."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def abandon(self) -> None:
        """Leave the sockets to the parent process, after a fork."""
        if self._connection is not None:
            self._connection.abandon()


IMPORT_SECONDS = 30.0
"""Longest wait of a fork for the import of httpx: a child that inherits half of it can never send anything."""


class _Importing:
    """Held while httpx is imported, so that no child is forked meanwhile.

    A fork waits for this longer than for anything else. An import always ends, but takes seconds on a busy machine.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def pause(self, seconds: float) -> bool:
        return self.lock.acquire(timeout=max(seconds, IMPORT_SECONDS))

    def resume(self) -> None:
        self.lock.release()

    def inherited(self, *, paused: bool) -> None:  # noqa: ARG002 - taken or not, it was the parent's
        self.lock = threading.Lock()


_importing = _Importing()


def open_connection(api_key: str, base_url: str, timeout: float) -> Connection:
    """Connect by HTTP. Imports httpx as late as possible: a process that records nothing never pays for it."""
    with _importing.lock:
        from converra.api.connection import Connection as HTTPConnection  # noqa: PLC0415 - see the docstring

        connection = HTTPConnection(api_key, base_url, timeout)
        connection.be_silent()
        connection.open()
    return connection
