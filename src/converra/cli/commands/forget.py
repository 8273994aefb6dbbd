"""`converra forget`: deletes what was recorded on this machine, so that the file no longer holds the words."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import click

from converra.cli.completing import id_argument
from converra.cli.ids import found_in
from converra.cli.local import recorded
from converra.cli.source import EVERYTHING, LocalSource, Wanted, begun, db_option
from converra.cli.times import moment
from converra.cli.wording import plural

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from converra.server.store.conversations import Store

_AT_A_TIME = 500
_MOST = 10_000_000


@click.command()
@id_argument("ids", metavar="[ID]...", nargs=-1, local=True)
@click.option("--all", "everything", is_flag=True, help="All conversations.")
@click.option("--prompt-id", metavar="ID", help="Those of this prompt.")
@click.option("--session", metavar="ID", help="Those of this session.")
@click.option("--user", metavar="ID", help="Those of this user: the `userId` of their metadata.")
@click.option("--before", callback=moment, metavar="TIME", help="Only those begun before: 30d, 1w or a date.")
@click.option("--yes", "-y", is_flag=True, help="Delete without asking.")
@db_option
def forget(
    *,
    ids: tuple[str, ...],
    everything: bool,
    prompt_id: str | None,
    session: str | None,
    user: str | None,
    before: datetime | None,
    yes: bool,
    db: str | None,
) -> None:
    """Delete conversations from the file of `converra dev`, and with them its log of requests.

    What was sent to the API stays there.
    """
    wanted = Wanted(prompt_id=prompt_id, session=session)
    chosen = everything or before is not None or user is not None or wanted != EVERYTHING
    if bool(ids) == chosen:
        raise click.UsageError("give either IDs or some of --all, --prompt-id, --session, --user and --before")
    with closing(recorded(db)) as store:
        found = [found_in(store, each).id for each in ids] if ids else _chosen(store, wanted, user, before)
        if not found:
            click.echo("no conversations match", err=True)
            return
        what = plural(len(set(found)), "conversation")
        if not yes:
            click.confirm(f"Delete {what} and the log of requests from {store.path}?", abort=True, err=True)
        _delete(store, found)
    click.echo(f"{what} deleted")


def _chosen(store: Store, wanted: Wanted, user: str | None, before: datetime | None) -> list[str]:
    rows = (each.conversation for each in LocalSource(store).list(limit=_MOST, wanted=wanted))
    ids = [row.id for row in rows if before is None or ((created := begun(row)) and created < before)]
    return ids if user is None else [each for each in ids if _user(store, each) == user]


def _user(store: Store, conversation_id: str) -> str | None:
    """Return the user of a conversation, also where the app gave a number."""
    found = store.find(None, conversation_id)
    user = found.metadata.get("userId") if found else None
    return None if user is None else str(user)


def _delete(store: Store, ids: Sequence[str]) -> None:
    """Delete, then rewrite the search index and the file: both keep deleted words otherwise."""
    with store.transaction():
        for start in range(0, len(ids), _AT_A_TIME):
            part = ids[start : start + _AT_A_TIME]
            marks = ", ".join("?" * len(part))
            store.execute(f"DELETE FROM conversations WHERE id IN ({marks})", part)  # noqa: S608 - marks
        store.execute("DELETE FROM requests")  # their bodies hold the words, too
        store.execute("INSERT INTO message_text (message_text) VALUES ('rebuild')")
    store.execute("VACUUM")
    store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
