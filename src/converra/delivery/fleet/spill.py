"""The spill file: keeps the entries of a process while the engine is away, in SQLite; any number of processes share it.

Each process has rows of its own, and locks a small file beside the spill file while it has any. When it dies, the
system releases that lock, and the next process that looks takes its rows over.

The file is open only during a call, and a fork waits for that call: SQLite must not be inherited.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from converra.process import lifecycle, private_file, waits
from converra.process.lockfile import ProcessLock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

APPLICATION_ID = 0x43765370
""""CvSp": distinguishes the file from databases of other programs."""

MAX_BYTES = 4 * 1024 * 1024 * 1024
"""Most bytes of the file; beyond them entries wait in memory."""

BUSY_SECONDS = 5.0
"""Longest wait for other processes' writes, in seconds."""

_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS entry (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    owner TEXT NOT NULL,
    place INTEGER NOT NULL,
    producer TEXT NOT NULL,
    messages INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS entry_owner ON entry (owner, id);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = 1;
COMMIT;
"""

FAILURES = (sqlite3.Error, OSError)
"""Exceptions by which the file shows that it cannot be used."""


class Row(NamedTuple):
    """An entry in the file; `messages` counts the recorded messages in it."""

    place: int
    producer: str
    messages: int
    body: bytes
    number: int = 0


class Spill:
    """The spill file at `path`. Its methods raise one of `FAILURES`. One worker at a time uses it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._owner = os.urandom(8).hex()
        self._process_lock: ProcessLock | None = None
        self._lock = threading.Lock()
        self._usable = True
        self.size: int = 0
        """Rows of this process in the file."""
        lifecycle.pause_at_fork(self)

    def add(self, rows: Sequence[Row]) -> None:
        """Write entries, in order."""
        with self._opened() as db:
            if self._process_lock is None:
                self._process_lock = ProcessLock.take(self._path, self._owner)
            db.execute("BEGIN IMMEDIATE")
            db.executemany(
                "INSERT INTO entry (owner, place, producer, messages, body) VALUES (?, ?, ?, ?, ?)",
                [(self._owner, row.place, row.producer, row.messages, row.body) for row in rows],
            )
            db.execute("COMMIT")
            self.size += len(rows)

    def first(self, most: int) -> list[Row]:
        """Return the first entries of this process."""
        with self._opened() as db:
            found = db.execute(
                "SELECT place, producer, messages, body, id FROM entry WHERE owner = ? ORDER BY id LIMIT ?",
                (self._owner, most),
            ).fetchall()
        return [Row(*row) for row in found]

    def remove(self, rows: Sequence[Row]) -> None:
        """Delete entries that the engine has."""
        with self._opened() as db:
            db.execute("BEGIN IMMEDIATE")
            db.executemany("DELETE FROM entry WHERE id = ?", [(row.number,) for row in rows])
            db.execute("COMMIT")
            self.size -= len(rows)
            if not self.size:
                self._unlock()

    def adopt(self) -> int:
        """Take over the entries of dead processes; return the number of recorded messages in them."""
        if not os.path.exists(self._path):  # noqa: PTH110 - the path is a string
            return 0
        messages = 0
        with self._opened() as db:
            for (owner,) in db.execute("SELECT DISTINCT owner FROM entry WHERE owner != ?", (self._owner,)).fetchall():
                dead = ProcessLock.take(self._path, owner)
                if dead is None:
                    continue
                if self._process_lock is None:
                    self._process_lock = ProcessLock.take(self._path, self._owner)
                (found, rows) = db.execute(
                    "SELECT coalesce(sum(messages), 0), count(*) FROM entry WHERE owner = ?", (owner,)
                ).fetchone()
                db.execute("UPDATE entry SET owner = ? WHERE owner = ?", (self._owner, owner))
                messages, self.size = messages + found, self.size + rows
                dead.end()
        return messages

    def close(self) -> None:
        """Leave the entries to the next process."""
        with self._lock:
            if self._process_lock is not None:
                if self.size:
                    self._process_lock.abandon()
                    self._process_lock = None
                else:
                    self._unlock()

    def _unlock(self) -> None:
        if self._process_lock is not None:
            self._process_lock.end()
            self._process_lock = None

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if not self._usable:
                raise sqlite3.OperationalError("the parent process was in the middle of using it when it forked")
            private_file.create(self._path)
            db = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None)
            try:
                _prepare(db, self._path)
                yield db
            finally:
                db.close()

    # -- forks ---------------------------------------------------------------------------------------------------------

    def pause(self, seconds: float) -> bool:
        """Wait until no thread uses the file, and keep it so."""
        return waits.lock(self._lock, seconds)

    def resume(self) -> None:
        """Let threads use it again, in the parent."""
        self._lock.release()

    def inherited(self, *, paused: bool) -> None:
        """Leave the parent's entries and its lock alone, in the child."""
        if self._process_lock is not None:
            self._process_lock.abandon()
            self._process_lock = None
        self._usable = False
        self._lock = threading.Lock()
        if not paused:
            _unusable.add(os.path.realpath(self._path))


_unusable: set[str] = set()
"""Files that a parent was using while it forked: SQLite's record of their locks is wrong in this process."""


def _prepare(db: sqlite3.Connection, path: str) -> None:
    if os.path.realpath(path) in _unusable:
        raise sqlite3.OperationalError("the parent process was in the middle of using it when it forked")
    (application,) = db.execute("PRAGMA application_id").fetchone()
    if application == APPLICATION_ID:
        return
    if private_file.is_foreign(db, APPLICATION_ID):
        raise sqlite3.OperationalError("it is not a spill file, and was left unchanged")
    private_file.keep_private(path)
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError:  # the busy timeout does not cover this change
            if time.monotonic() > until:
                raise
            time.sleep(0.01)
    db.executescript(_SCHEMA)
    (page,) = db.execute("PRAGMA page_size").fetchone()
    db.execute(f"PRAGMA max_page_count = {MAX_BYTES // page}")
