"""Where the conversations of `converra dev` are kept, and how a command opens them."""

from __future__ import annotations

import os
from pathlib import Path

import click

from converra.server.database import StoreError
from converra.server.store import Store

_DATABASE = b"SQLite format 3\0"
"""How a file of SQLite begins."""

_HEAD = 100
_PAGE_SIZE, _VERSION = (16, 2), (60, 4)
"""Places and lengths in it."""


def default_path() -> str:
    """The file in the folder where programs keep a user's data."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return str(Path(base) / "converra" / "local.sqlite3")


def opened(path: str, *, keep_conversations: int | None = None, keep_days: float | None = None) -> Store:
    """The store, new where there was none; a click error where it cannot be used. It forgets nothing unless told to."""
    try:
        if _is_foreign(path):
            raise click.ClickException(f"{path} is no file of `converra dev`; it was left as it is")
        if path == default_path():  # the folder is ours, and nobody else's to enter
            Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Store(path, keep_conversations=keep_conversations, keep_days=keep_days)
    except (OSError, StoreError) as error:
        raise click.ClickException(str(error)) from error


def _is_foreign(path: str) -> bool:
    """Whether the file holds something else: to open it would take it from everybody but its owner, and write to it.

    SQLite cannot be asked without opening it. A database of ours has a version in its head from its second page on
    (sqlite.org/fileformat.html, "The Database Header").
    """
    try:
        with Path(path).open("rb") as file:
            head = file.read(_HEAD)
            size = file.seek(0, os.SEEK_END)
    except OSError:  # there is none, or the store will say why it cannot be read
        return False
    page, version = (int.from_bytes(head[at : at + length], "big") for at, length in (_PAGE_SIZE, _VERSION))
    return bool(head) and (not head.startswith(_DATABASE) or (version == 0 and size > 2 * page))


def recorded(path: str | None) -> Store:
    """The store of what was recorded before; a click error where nothing was."""
    found = path or default_path()
    if not Path(found).exists():
        command = f"converra dev --db {path}" if path else "converra dev"
        raise click.ClickException(f"nothing is recorded in {found}; `{command}` records there")
    return opened(found)
