"""The connection to the API: opened once there is a key for it, and again after the key was refused."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Protocol, TypeVar

from converra.api import rate, retry
from converra.errors import ConverraError
from converra.process import lifecycle
from converra.process.guard import log_limited

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from converra.api.operations import Operation
    from converra.config import Config
    from converra.delivery.stats import Counters
    from converra.delivery.worker.schedule import RateLimiter

KEY_MISSING = (
    "converra: no API key: set CONVERRA_API_KEY, or pass api_key= to instrument(). Nothing is sent until then; "
    "messages wait, up to the bound of the outbox."
)

WAITS = "converra: delivery failed; messages wait and are retried: %s"
"""Logged while the API cannot be reached, with the error."""

IMPORT_SECONDS = 30.0
"""Longest wait of a fork for the import of httpx, in seconds: a child that inherits half of it can never send."""


T = TypeVar("T")


class Connection(Protocol):
    """An HTTP connection to the API: `converra.api.connection.Connection`, or a fake."""

    on_headers: Callable[[Mapping[str, str]], None]
    """Called with the headers of each answer."""

    def send(self, operation: Operation[T], *, timeout: float | None = None) -> T:
        """Send a request once and return its decoded answer; `timeout` in seconds. Raises `converra.errors`."""

    def close(self) -> None:
        """Close the sockets."""

    def abandon(self) -> None:
        """Forget the sockets of the parent process, without closing them."""


class Transport:
    """Opens and closes the connection. Used by workers only, one at a time.

    Headers that tell what is left of the rate limit go to `rate_limiter`, under `lock`. `connect` makes the connection
    from a key; by default it is `open_connection`.
    """

    def __init__(
        self,
        config: Config,
        counters: Counters,
        connect: Callable[[str], Connection] | None,
        rate_limiter: RateLimiter,
        lock: threading.Lock,
    ) -> None:
        self._config = config
        self._counters = counters
        self._connect = connect
        self._rate_limiter = rate_limiter
        self._lock = lock
        self._connection: Connection | None = None
        self._key_missing_logged = False
        lifecycle.pause_at_fork(_importing)

    def connection(self) -> Connection | None:
        """Return the connection; None while there is no key.

        Called ahead of need: importing httpx takes a while, and should not happen at exit.
        """
        if self._connection is None:
            key = self._config.api_key_now()
            if key is not None:
                self._key_missing_logged = False
                self._open(key)
        return self._connection

    def _open(self, key: str) -> None:
        try:
            if self._connect is None:
                self._connection = open_connection(key, self._config.base_url, self._config.timeout)
            else:
                self._connection = self._connect(key)
        except ConverraError as error:  # the environment names an unusable proxy or certificate
            self._counters.last_error = str(error)
            log_limited("unreachable", WAITS, error)
        else:
            self._connection.on_headers = self._on_headers

    def _on_headers(self, headers: Mapping[str, str]) -> None:
        """Note how much of the rate limit an answer has left."""
        left = rate.left(headers)
        if left is not None:
            resets_in = rate.resets_in(headers, time.time())
            seconds = None if resets_in is None else min(resets_in, retry.MAX_RETRY_AFTER)
            with self._lock:
                self._rate_limiter.note_left(time.monotonic(), left, seconds)

    def log_key_missing(self) -> None:
        """Log that there is no API key, once until there is one.

        A warning, except with `console`: it is also used alone, to read the turns and send none.
        """
        if not self._key_missing_logged and self._config.api_key_now() is None:
            log_limited("key", KEY_MISSING, level=logging.INFO if self._config.console else logging.WARNING)
            self._key_missing_logged = True

    def close(self) -> None:
        """Close the sockets. The next connection is opened with the key of that time, which may be a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def abandon(self) -> None:
        """Leave the sockets to the parent process, after a fork."""
        if self._connection is not None:
            self._connection.abandon()


class _Importing:
    """The lock held while httpx is imported, so that no child is forked meanwhile.

    A fork waits longer for this than for any other lock: an import always ends, but takes seconds on a busy machine.
    """

    def __init__(self) -> None:
        self.lock: threading.Lock = threading.Lock()

    def pause(self, seconds: float) -> bool:
        return self.lock.acquire(timeout=max(seconds, IMPORT_SECONDS))

    def resume(self) -> None:
        self.lock.release()

    def inherited(self, *, paused: bool) -> None:  # noqa: ARG002 - taken or not, it was the parent's
        self.lock = threading.Lock()


_importing = _Importing()


def open_connection(api_key: str, base_url: str, timeout: float) -> Connection:
    """Open an HTTP connection. httpx is imported here, so that a process that records nothing never pays for it."""
    with _importing.lock:
        from converra.api.connection import Connection as HTTPConnection  # noqa: PLC0415 - see the docstring

        connection = HTTPConnection(api_key, base_url, timeout)
        connection.be_silent()
        connection.open()
    return connection
