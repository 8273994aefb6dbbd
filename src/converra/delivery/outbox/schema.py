"""The file of the durable outbox: its schema, and its connections. SQLite in WAL mode, shared by processes."""

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
""""CvOb": distinguishes the file from databases of other programs."""

MAX_BYTES = 1024 * 1024 * 1024
"""Most bytes of the file; beyond them new messages wait in memory."""

CALLER_SECONDS = 2.0
"""Longest wait of a caller for other processes' writes, in seconds. One takes a millisecond on an idle machine."""

WORKER_SECONDS = 5.0
"""Longest wait of a worker for other processes' writes, in seconds."""

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
"""Files that a parent process was using while it forked: SQLite's record of their locks is wrong in this process."""


class UnusableError(sqlite3.DatabaseError):
    """The file can never be used as an outbox."""


def connect(path: str, *, recording: bool, until: float) -> sqlite3.Connection:
    """Open a connection for the recording or the sending side.

    The recording side bounds the size of the file, and leaves WAL checkpoints to the sending side. While other
    processes open or close the file, it is tried again `until` a time of the monotonic clock. Raises sqlite3.Error.
    """
    if os.path.realpath(path) in _inherited:
        raise UnusableError("the parent process was in the middle of using it when it forked")
    private_file.create(path)
    db = sqlite3.connect(path, timeout=_STEP, isolation_level=None, check_same_thread=False)
    try:
        _prepare_patiently(db, path, until)
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
    """Never open this file in this process again."""
    _inherited.add(os.path.realpath(path))


def _prepare_patiently(db: sqlite3.Connection, path: str, until: float) -> None:
    """Prepare the file while others may do so too: SQLite's busy timeout does not cover a change to WAL mode."""
    while True:
        try:
            return _prepare(db, path)
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.01)


def _prepare(db: sqlite3.Connection, path: str) -> None:
    if private_file.is_foreign(db, APPLICATION_ID):
        raise UnusableError("it is not an outbox, and was left unchanged")
    private_file.keep_private(path)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise UnusableError(f"the file has schema version {version}, this version of converra knows {SCHEMA_VERSION}")
    if version < SCHEMA_VERSION:
        db.executescript(_SCHEMA)


_never_closed: list[object] = []
"""Connections of a parent process, kept alive: SQLite forbids using or closing them in a child."""


class OpenFile:
    """The outbox file while this process has it open, with a connection for each side and the lock of this process.

    Callers use `front` and workers `ledger`, so neither side waits for the other within this process.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self.broken: bool = False
        token = os.urandom(8).hex()
        with ExitStack() as undo:
            self._connect()
            undo.callback(self._disconnect)
            process_lock = ProcessLock.take(path, token)
            if process_lock is None:
                raise OSError(f"the lock of {path} is taken")
            self._process_lock = process_lock
            undo.callback(process_lock.end)
            self.owner: int = self.front.execute("INSERT INTO owner (token) VALUES (?)", (token,)).lastrowid or 0
            undo.pop_all()
        self.ledger: Ledger = Ledger(self._back, path, self.owner)

    def close(self) -> None:
        """Close the file. The next process that opens it delivers the rest."""
        try:
            self.ledger.release_ownership(self._process_lock)
        finally:
            self._disconnect()
            self._process_lock.abandon()

    def pause(self, seconds: float) -> bool:
        """Close both connections until `resume`, with no caller inside. Returns False if workers take too long."""
        if not self.ledger.pause(seconds):
            return False
        self.front.close()
        return True

    def resume(self) -> None:
        """Open them again. Raises sqlite3.Error; the file is `broken` then, and left to the next process."""
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
        self.front: sqlite3.Connection = connect(self._path, recording=True, until=until)
        try:
            self._back = connect(self._path, recording=False, until=until)
        except BaseException:
            self.front.close()
            raise

    def inherited(self, *, paused: bool) -> None:
        """Leave the file to the parent process, after a fork."""
        self._process_lock.abandon()
        if not paused:
            _never_closed.extend((self.front, self._back))
