"""Opening the file with the conversations of `converra dev`, for a command."""

from __future__ import annotations

from pathlib import Path

import click

from converra.cli.failures import readable
from converra.cli.paths import default_path, is_default
from converra.server.store.conversations import Store
from converra.server.store.database import StoreError


def opened(path: str, *, keep_conversations: int | None = None, keep_days: float | None = None) -> Store:
    """The store, new where there was none; a click error where it cannot be used. It prunes nothing unless asked to."""
    try:
        if is_default(path):  # the default folder belongs to this user alone
            Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Store(path, keep_conversations=keep_conversations, keep_days=keep_days)
    except (OSError, StoreError) as error:
        raise click.ClickException(readable(str(error))) from error


def recorded(path: str | None) -> Store:
    """The store of what was recorded before; a click error where nothing was."""
    found = path or default_path()
    if not Path(found).exists():
        command = f"converra dev --db {path}" if path else "converra dev"
        raise click.ClickException(f"nothing is recorded in {found}; `{command}` records there")
    return opened(found)
