"""The place where the conversations of `converra dev` are kept. Needs no extra."""

from __future__ import annotations

import os
from pathlib import Path


def default_path() -> str:
    """The file in the folder where programs keep a user's data."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return str(Path(base) / "converra" / "local.sqlite3")
