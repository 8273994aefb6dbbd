"""`converra forget`: deletes what was recorded on this machine, so that the file no longer holds the words."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import click

from converra.cli.completing import id_argument
from converra.cli.ids import found_in
from converra.cli.local import recorded
from converra.cli.source import EVERYTHING, LocalSource, Wanted, db_option
from converra.cli.times import moment
from converra.cli.wording import plural

if TYPE_CHECKING:
    from datetime import datetime

    from converra.server.store.conversations import Store
    from converra.server.store.records import Conversation


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
        found = {found_in(store, each).number for each in ids} if ids else _chosen(store, wanted, user, before)
        if not found:
            click.echo("no conversations match", err=True)
            return
        what = plural(len(found), "conversation")
        if not yes:
            click.confirm(f"Delete {what} and the log of requests from {store.path}?", abort=True, err=True)
        store.pruning.forget(sorted(found))
    click.echo(f"{what} deleted")


def _chosen(store: Store, wanted: Wanted, user: str | None, before: datetime | None) -> set[int]:
    moment_ms = None if before is None else before.timestamp() * 1000
    return {
        row.number
        for row in LocalSource(store).rows(wanted)
        if (moment_ms is None or row.created_at < moment_ms) and (user is None or _user(row) == user)
    }


def _user(row: Conversation) -> str | None:
    """Return the user of a conversation, also where the app gave a number."""
    user = row.metadata.get("userId")
    return None if user is None else str(user)
