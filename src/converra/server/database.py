"""The SQLite file of the local server: its owner's alone, and of the version that is read here."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from importlib.resources import files
from pathlib import Path

SCHEMA_VERSION = 2


class StoreError(Exception):
    """The file cannot be used; the message says why."""


def connect(path: str) -> sqlite3.Connection:
    """Open or make the file; StoreError where that is impossible."""
    try:
        if path != ":memory:":
            _keep_private(path)
        with contextlib.ExitStack() as on_failure:
            db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            on_failure.callback(db.close)
            _prepare(db)
            on_failure.pop_all()
    except (OSError, sqlite3.Error, StoreError) as error:
        raise StoreError(f"cannot use {path}: {error}") from error
    return db


def _keep_private(path: str) -> None:
    """The owner's alone, also where the file was there before and open to others."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    Path(path).chmod(0o600)


def _prepare(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA foreign_keys = ON")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version == 0:
        schema = files("converra.server").joinpath("schema.sql").read_text("utf-8")
        db.executescript(f"BEGIN; {schema}; PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
    elif version != SCHEMA_VERSION:
        raise StoreError(
            f"it has schema version {version} and this version of converra reads {SCHEMA_VERSION}; use another file"
        )
