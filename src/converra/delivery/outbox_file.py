"""The file of the durable outbox: SQLite in WAL mode, for its owner's eyes only, shared by any number of processes.

No transaction of the recording side is longer than one statement, so a process that is stopped or killed anywhere
holds nobody up.
"""

from __future__ import annotations

import os
import sqlite3
import time

SCHEMA_VERSION = 1

MAX_BYTES = 1024 * 1024 * 1024
"""Bound of the file; past it new messages wait in memory."""

BUSY_SECONDS = 0.25
"""Longest wait for another process's write."""

OPEN_SECONDS = 2.0
"""Longest wait for others who open the file at the same time."""

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
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""


class VersionError(sqlite3.DatabaseError):
    """The file was written by a newer version of this package."""


def connect(path: str, *, recording: bool) -> sqlite3.Connection:
    """A connection for one side. The recording side is bounded, and leaves tidying the WAL to the sending side."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    os.chmod(path, 0o600)  # noqa: PTH101 - `path` is a string; the file may have been made by hand
    db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        _patiently(db)
        if recording:
            db.execute("PRAGMA wal_autocheckpoint = 0")
            (page,) = db.execute("PRAGMA page_size").fetchone()
            db.execute(f"PRAGMA max_page_count = {MAX_BYTES // page}")
    except BaseException:
        db.close()
        raise
    return db


def _patiently(db: sqlite3.Connection) -> None:
    """Prepare the file while others may do so too: SQLite does not wait by itself for a change to WAL mode."""
    until = time.monotonic() + OPEN_SECONDS
    while True:
        try:
            return _prepare(db)
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.01)


def _prepare(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise VersionError(f"the file has schema version {version}, this version of converra knows {SCHEMA_VERSION}")
    if version < SCHEMA_VERSION:
        db.executescript(_SCHEMA)
