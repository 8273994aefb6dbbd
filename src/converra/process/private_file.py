"""Private database files: readable by their owner only, and never mixed up with those of other programs.

POSIX drops all locks of a process on a file when the process closes any descriptor of it. So only SQLite opens an
existing file. Otherwise another process would believe that it is the only user, and remove the WAL while we use it.
"""

from __future__ import annotations

import errno
import os
import sqlite3


def create(path: str) -> None:
    """Create an empty file unless it exists.

    Raises:
        OSError: The file cannot be created, for instance because `path` is a folder.

    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        if os.path.isdir(path):  # noqa: PTH112 - `path` is a string; SQLite would only say that it cannot open it
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path) from None


def is_foreign(db: sqlite3.Connection, application_id: int) -> bool:
    """Return True if another program has written to the file, or it is no database. Changes nothing in it.

    Our files have `application_id` in their header (sqlite.org/fileformat.html, "The Database Header").
    """
    db.execute("BEGIN")  # reads one state: another process may be initialising the file just now
    try:
        (application,) = db.execute("PRAGMA application_id").fetchone()
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
            return True
        raise
    finally:
        db.execute("ROLLBACK")
    return bool(application != application_id and (application or version or tables))


def keep_private(path: str) -> None:
    """Make a file readable and writable by its owner only; it may have been created by hand."""
    os.chmod(path, 0o600)  # noqa: PTH101 - `path` is a string
