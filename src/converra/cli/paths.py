"""The place where the conversations of `converra dev` are kept. Needs no extra."""

from __future__ import annotations

import os
from pathlib import Path

from converra.errors import InvalidArgumentError


def default_path() -> str:
    """Return the file in the folder where programs keep a user's data.

    Raises:
        InvalidArgumentError: This user has no such folder, like some users of containers.

    """
    base = os.environ.get("XDG_DATA_HOME")
    try:
        return str(Path(base or Path.home() / ".local" / "share") / "converra" / "local.sqlite3")
    except RuntimeError as error:
        raise InvalidArgumentError("this user has no home folder: set XDG_DATA_HOME or HOME, or give --db") from error


def is_default(path: str) -> bool:
    """Report whether a path is that of the default file."""
    try:
        return path == default_path()
    except InvalidArgumentError:
        return False
