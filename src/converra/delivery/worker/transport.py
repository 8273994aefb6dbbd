"""The connection to the API: opened once there is a key for it, and again after the key was refused."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Protocol, TypeVar

from converra.errors import ConverraError
from converra.process import lifecycle, waits
from converra.process.guard import log_limited

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from converra.api.operations import Operation
    from converra.config import Config
    from converra.delivery.stats import Counters

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
    """An HTTP connection to the API: that of `converra.api.direct` or `converra.api.connection`, or a fake."""

    limit_headers: Mapping[str, str] | None
    """Headers of the latest answer that describe the rate limit. Their reader sets it to None again."""

    def send(self, operation: Operation[T], *, timeout: float | None = None) -> T:
        """Send a request once and return its decoded answer; `timeout` in seconds. Raises `converra.errors`."""

    def close(self) -> None:
        """Close the sockets."""

    def abandon(self) -> None:
        """Forget the sockets of the parent process, without closing them."""


class Transport:
    """Opens and closes the connection. Used by workers only, one at a time.

    `connect` makes the connection from a key; by default it is `open_connection`.
    """

    def __init__(self, config: Config, counters: Counters, connect: Callable[[str], Connection] | None) -> None:
        self._config = config
        self._counters = counters
        self._connect = connect
        self.connection: Connection | None = None
        """None until it is opened, and while there is no key."""
        self._key_missing_logged = False
        lifecycle.pause_at_fork(_importing)

    def open(self) -> Connection | None:
        """Open the connection if there is a key, and return it.

        Called ahead of need: importing httpx takes a while, and should not happen at exit.
        """
        key = self._config.api_key_now()
        if key is None:
            return None
        self._key_missing_logged = False
        try:
            if self._connect is None:
                self.connection = open_connection(key, self._config.base_url, self._config.timeout)
            else:
                self.connection = self._connect(key)
        except ConverraError as error:  # the environment names an unusable proxy or certificate
            self._counters.last_error = str(error)
            log_limited("unreachable", WAITS, error)
        return self.connection

    def log_key_missing(self) -> None:
        """Log that there is no API key, once until there is one.

        A warning, except with `console`: it is also used alone, to read the turns and send none.
        """
        if not self._key_missing_logged and self._config.api_key_now() is None:
            log_limited("key", KEY_MISSING, level=logging.INFO if self._config.console else logging.WARNING)
            self._key_missing_logged = True

    def close(self) -> None:
        """Close the sockets. The next connection is opened with the key of that time, which may be a new one."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()

    def abandon(self) -> None:
        """Leave the sockets to the parent process, after a fork."""
        if self.connection is not None:
            self.connection.abandon()


class _Importing:
    """The lock held while httpx is imported, so that no child is forked meanwhile.

    A fork waits longer for this than for any other lock: an import always ends, but takes seconds on a busy machine.
    """

    def __init__(self) -> None:
        self.lock: threading.Lock = threading.Lock()

    def pause(self, seconds: float) -> bool:
        return waits.lock(self.lock, max(seconds, IMPORT_SECONDS))

    def resume(self) -> None:
        self.lock.release()

    def inherited(self, *, paused: bool) -> None:  # noqa: ARG002 - taken or not, it was the parent's
        self.lock = threading.Lock()


_importing = _Importing()


def open_connection(api_key: str, base_url: str, timeout: float) -> Connection:
    """Open an HTTP connection; one through a proxy if the environment names one for this URL.

    HTTP is imported here, so that a process that records nothing never pays for it.
    """
    with _importing.lock:
        from urllib.request import getproxies  # noqa: PLC0415 - see the docstring

        proxies = getproxies()
        if proxies.get(base_url.partition(":")[0].lower()) or proxies.get("all"):
            from converra.api.connection import Connection as HTTPConnection  # noqa: PLC0415 - as above

            proxied = HTTPConnection(api_key, base_url, timeout)
            proxied.be_silent()
            proxied.open()
            return proxied
        from converra.api.direct import DirectConnection  # noqa: PLC0415 - as above

        connection = DirectConnection(api_key, base_url, timeout)
        connection.open()
    return connection
