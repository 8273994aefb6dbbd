"""Connections that only read, for threads that make pages: SQLite lets them read while another connection writes."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from converra.server.store.database import IN_MEMORY, connect_to_read

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator


class _Mine(threading.local):
    connection: sqlite3.Connection | None = None


class Readers:
    """Lends a connection to a thread, and keeps it for the next one.

    A database in memory has only the connection that writes: nothing is lent then.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        self._mine = _Mine()

    @property
    def mine(self) -> sqlite3.Connection | None:
        """The connection lent to the current thread."""
        return self._mine.connection

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """Have the current thread read through a connection of its own meanwhile."""
        if self._path == IN_MEMORY:
            yield
            return
        self._mine.connection = connection = self._take()
        try:
            yield
        finally:
            self._mine.connection = None
            self._give_back(connection)

    def close(self) -> None:
        """Close the idle connections; the others close when they are given back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _take(self) -> sqlite3.Connection:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return connect_to_read(self._path)

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()
