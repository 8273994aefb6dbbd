"""The file of the durable outbox: SQLite in WAL mode, shared by any number of processes."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import ExitStack

from converra.delivery.outbox.ledger import Ledger
from converra.process import private_file
from converra.process.lockfile import ProcessLock

SCHEMA_VERSION = 1

APPLICATION_ID = 0x43764F62
"""Tells the file from databases of other programs: "CvOb"."""

MAX_BYTES = 1024 * 1024 * 1024
"""Bound of the file; past it new messages wait in memory."""

CALLER_SECONDS = 2.0
"""Longest wait of a caller for other processes' writes. Each takes a millisecond, but a machine may be short of CPU."""

WORKER_SECONDS = 5.0
"""Longest wait of a worker, whom nobody waits for."""

_STEP = 0.1
"""Longest single wait while the file is being opened, in seconds."""

_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS owner (id INTEGER PRIMARY KEY AUTOINCREMENT, token TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS conversation (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    owner INTEGER NOT NULL,
    header BLOB NOT NULL,
    writer TEXT NOT NULL,
    state BLOB,
    ended INTEGER NOT NULL DEFAULT 0,
    always INTEGER NOT NULL DEFAULT 0,
    touched REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS conversation_owner ON conversation (owner);
CREATE TABLE IF NOT EXISTS message (
    id INTEGER PRIMARY KEY,
    conversation INTEGER NOT NULL,
    place INTEGER NOT NULL DEFAULT 0,
    piece TEXT NOT NULL DEFAULT '',
    whole INTEGER NOT NULL,
    learned INTEGER NOT NULL,
    since REAL NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS message_conversation ON message (conversation);
CREATE TABLE IF NOT EXISTS note (id INTEGER PRIMARY KEY, conversation INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS note_conversation ON note (conversation);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""


_inherited: set[str] = set()
"""Files that a parent process was using while it forked: SQLite's memory of their locks is wrong here, for ever."""


class UnusableError(sqlite3.DatabaseError):
    """The file will not do as an outbox, however long one waits."""


def connect(path: str, *, recording: bool, until: float) -> sqlite3.Connection:
    """A connection for one side. The recording side is bounded, and leaves tidying the WAL to the sending side.

    Where others are opening or closing the file it waits, until a time of the monotonic clock.
    """
    if os.path.realpath(path) in _inherited:
        raise UnusableError("the parent process was in the middle of using it when it forked")
    private_file.create(path)
    db = sqlite3.connect(path, timeout=_STEP, isolation_level=None, check_same_thread=False)
    try:
        _patiently(db, path, until)
        seconds = CALLER_SECONDS if recording else WORKER_SECONDS
        db.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")
        if recording:
            db.execute("PRAGMA wal_autocheckpoint = 0")
            (page,) = db.execute("PRAGMA page_size").fetchone()
            db.execute(f"PRAGMA max_page_count = {MAX_BYTES // page}")
    except BaseException:
        db.close()
        raise
    return db


def leave_alone(path: str) -> None:
    """Never open this file in this process."""
    _inherited.add(os.path.realpath(path))


def _patiently(db: sqlite3.Connection, path: str, until: float) -> None:
    """Prepare the file while others may do so too: SQLite does not always wait by itself for a change to WAL mode."""
    while True:
        try:
            return _prepare(db, path)
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.01)


def _prepare(db: sqlite3.Connection, path: str) -> None:
    if private_file.is_foreign(db, APPLICATION_ID):
        raise UnusableError("it is no outbox, and was left as it is")
    private_file.keep_private(path)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise UnusableError(f"the file has schema version {version}, this version of converra knows {SCHEMA_VERSION}")
    if version < SCHEMA_VERSION:
        db.executescript(_SCHEMA)


_never_closed: list[object] = []
"""Connections of a parent process. SQLite forbids using or closing them in a child, so they are never let go."""


class OpenFile:
    """`front` is for callers, `ledger` for workers: neither side ever waits for the other within this process."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.broken = False
        token = os.urandom(8).hex()
        with ExitStack() as undo:
            self._connect()
            undo.callback(self._disconnect)
            process_lock = ProcessLock.take(path, token)
            if process_lock is None:
                raise OSError(f"the lock of {path} is taken")
            self._process_lock = process_lock
            undo.callback(process_lock.end)
            self.owner = self.front.execute("INSERT INTO owner (token) VALUES (?)", (token,)).lastrowid or 0
            undo.pop_all()
        self.ledger = Ledger(self._back, path, self.owner)

    def close(self) -> None:
        """Close; what waits in the file is for whoever opens it next."""
        left = self.ledger.release_ownership()
        self._disconnect()
        if left:
            self._process_lock.abandon()
        else:
            self._process_lock.end()

    def pause(self, seconds: float) -> bool:
        """Close both connections until `resume`; no caller is at it. False where workers take too long to finish."""
        if not self.ledger.pause(seconds):
            return False
        self.front.close()
        return True

    def resume(self) -> None:
        """Open them again. Raises what SQLite raises; it is `broken` then, and left to the next process."""
        try:
            self._connect()
        except BaseException:
            self.broken = True
            raise
        finally:
            self.ledger.resume(self._back)

    def _disconnect(self) -> None:
        self.front.close()
        self._back.close()

    def _connect(self) -> None:
        until = time.monotonic() + CALLER_SECONDS
        self.front = connect(self._path, recording=True, until=until)
        try:
            self._back = connect(self._path, recording=False, until=until)
        except BaseException:
            self.front.close()
            raise

    def inherited(self, *, paused: bool) -> None:
        """Leave it to the parent process, after a fork."""
        self._process_lock.abandon()
        if not paused:
            _never_closed.extend((self.front, self._back))
