"""Database files of ours: for their owner's eyes only, and told from those of other programs, which are left alone.

POSIX forgets all locks of a process on a file when the process closes any descriptor of it. So an existing file is
never opened but by SQLite: otherwise another process would believe that it is alone, and remove the WAL under us.
"""

from __future__ import annotations

import errno
import os
import sqlite3


def create(path: str) -> None:
    """Make an empty file, unless there is one. Raises OSError where there can be none."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        if os.path.isdir(path):  # noqa: PTH112 - `path` is a string; SQLite would only say that it cannot open it
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path) from None


def is_foreign(db: sqlite3.Connection, application_id: int) -> bool:
    """Whether another program has written to the file, or it is no database. Asking changes nothing in it.

    A file of ours has our number in its head (sqlite.org/fileformat.html, "The Database Header").
    """
    db.execute("BEGIN")  # one moment of it: another process may be making it ours just now
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
    """Close a file of ours to others, which may have been made by hand."""
    os.chmod(path, 0o600)  # noqa: PTH101 - `path` is a string
