"""The SQLite file of the local server: its owner's alone, and of the version that is read here."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Protocol

from converra.process import private_file

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator, Sequence

_logger = logging.getLogger("converra")

SCHEMA_VERSION = 3

_MIGRATED_FROM = 2
"""The version that is made the present one when a file is opened."""

APPLICATION_ID = 0x43764C6F
"""Tells the file from databases of other programs: "CvLo"."""

IN_MEMORY = ":memory:"

DatabaseError = sqlite3.Error
"""The file cannot be read or written: the disk is full, or it is damaged."""


class Database(Protocol):
    """Access to the file for the parts of the store. `Store` implements it."""

    def now(self) -> int:
        """Return the store's clock, in milliseconds since the epoch."""
        ...

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        """Begin a transaction, or join the one under way."""
        ...

    def touch(self, topics: Collection[str]) -> None:
        """Note topics that the transaction changes."""

    def execute(self, sql: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Execute a statement that writes."""
        ...

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """Read all rows of a query."""
        ...

    def each(self, sql: str, values: Sequence[Any] = ()) -> Generator[Any]:
        """Read the rows of a query one by one."""
        ...


class StoreError(Exception):
    """The file cannot be used; the message says why."""


def connect(path: str) -> sqlite3.Connection:
    """Open or make the file; StoreError where that is impossible."""
    try:
        if path != IN_MEMORY:
            private_file.create(path)
        with contextlib.ExitStack() as on_failure:
            db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            on_failure.callback(db.close)
            _prepare(db, path)
            on_failure.pop_all()
    except (OSError, sqlite3.Error, StoreError) as error:
        raise StoreError(f"cannot use {path}: {error}") from error
    return db


def connect_to_read(path: str) -> sqlite3.Connection:
    """Another connection to a file that is open already: it reads while the other one writes."""
    db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    db.execute("PRAGMA query_only = ON")
    return db


def newest_texts(path: str, most: int) -> Iterator[str]:
    """Yield what the newest messages of a file hold, without changing it: content, and other fields as JSON."""
    try:
        with contextlib.closing(connect_to_read(path)) as db:
            for row in db.execute("SELECT content, rest FROM messages ORDER BY number DESC LIMIT ?", (most,)):
                yield from row
    except sqlite3.Error as error:
        raise StoreError(f"cannot use {path}: {error}") from error


def _prepare(db: sqlite3.Connection, path: str) -> None:
    if private_file.is_foreign(db, APPLICATION_ID):
        raise StoreError("it is no file of `converra dev`, and was left as it is")
    if path != IN_MEMORY:
        private_file.keep_private(path)
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # of a new file: an old one keeps what it has
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("PRAGMA secure_delete = ON")  # what is forgotten is overwritten, whichever process frees its pages
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version == 0:
        ours = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION}"
        db.executescript(f"BEGIN; {_sql('schema.sql')}; {ours}; COMMIT;")
    elif version == _MIGRATED_FROM:
        _migrate(db)
    elif version != SCHEMA_VERSION:
        raise StoreError(
            f"it has schema version {version} and this version of converra reads {SCHEMA_VERSION}; use another file"
        )


def _migrate(db: sqlite3.Connection) -> None:
    """Bring a file to the present version, unless another process has done so meanwhile."""
    _logger.info(
        "converra: making the search index of a file of an earlier version, which takes minutes if it is large"
    )
    db.execute("BEGIN IMMEDIATE")
    try:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version == _MIGRATED_FROM:
            for statement in _statements(_sql(f"schema_from_{_MIGRATED_FROM}.sql")):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _sql(name: str) -> str:
    return files("converra.server").joinpath(name).read_text("utf-8")


def _statements(script: str) -> Iterator[str]:
    """Split a script: `executescript` would commit the transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
