"""`converra conversations`: list, show and insights, of the API or of what was recorded on this machine."""

from __future__ import annotations

import time
from datetime import UTC
from typing import TYPE_CHECKING, Any, get_args
from urllib.parse import quote, urlencode

import click

from converra.api.results import StoredConversation
from converra.capture.console import visible
from converra.cli.completing import id_argument
from converra.cli.ids import labels
from converra.cli.output import Column, is_terminal, print_json, print_rich, print_table
from converra.cli.plain import conversation_lines
from converra.cli.source import EVERYTHING, Wanted, begun, json_option, source_of, source_options
from converra.cli.times import moment
from converra.cli.web import open_viewer
from converra.errors import InvalidArgumentError
from converra.server.viewer import figures
from converra.wire.models import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converra.cli.source import Listed
    from converra.server.store.totals import Totals


class _InOrder(click.Group):
    """Lists its commands as they are written here, and after them `tail`, which is loaded only when it runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return [*self.commands, "tail"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name != "tail":
            return super().get_command(ctx, cmd_name)
        from converra.cli.commands.tail import tail  # noqa: PLC0415 - it loads the store, which the others do without

        return tail


@click.group(cls=_InOrder)
def conversations() -> None:
    """Read conversations from the API, or with --local those that `converra dev` recorded."""


@conversations.command(name="list")
@click.option("--prompt-id", metavar="ID", help="Only those of this prompt.")
@click.option("--status", type=click.Choice(get_args(Status)), help="Only those with this status.")
@click.option("--insights/--no-insights", "has_insights", default=None, help="Only those with insights, or without.")
@click.option(
    "--since", callback=moment, metavar="TIME", help="Only those begun since then: 30m, 2h, 3d, 1w or a date."
)
@click.option("--session", metavar="ID", help="Only those of this session; with --local.")
@click.option("--model", metavar="NAME", help="Only those that this model has answered in; with --local.")
@click.option("--errors", is_flag=True, help="Only those with errors; with --local.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="The most to list.")
@click.option("--web", is_flag=True, help="Open the list in the viewer of `converra dev`.")
@source_options
@json_option
def list_(*, limit: int, web: bool, local: bool, db: str | None, as_json: bool, **filters: Any) -> None:
    """List conversations, newest first."""
    wanted = Wanted(**filters)
    if web:
        open_viewer(_query(wanted), local=local, db=db)
        return
    with source_of(local=local, db=db) as source:
        found = source.list(limit=limit, wanted=wanted)
    if as_json:
        print_json([each.conversation.to_dict() for each in found])
        return
    print_table(_columns(found), [_plain(each) for each in found])
    if not found:
        click.echo("no conversations match" if wanted != EVERYTHING else "no conversations", err=True)


def _query(wanted: Wanted) -> str:
    """The address of the list in the viewer, with the filters that it has."""
    if wanted.since:
        raise click.UsageError("--web knows no --since: the viewer lists the newest first")
    insights = "" if wanted.has_insights is None else "yes" if wanted.has_insights else "no"
    given = {"prompt": wanted.prompt_id, "status": wanted.status, "session": wanted.session, "model": wanted.model}
    given |= {"insights": insights, "errors": "yes" if wanted.errors else ""}
    query = urlencode({name: value for name, value in given.items() if value})
    return f"/?{query}" if query else "/"


def _columns(found: Sequence[Listed]) -> Sequence[Column]:
    """For people, on one line each: what a narrow terminal has no room for is left out."""
    rows = [each.conversation for each in found]
    totals = [each.totals for each in found]
    now = int(time.time() * 1000)
    ages = [figures.ago(int(created.timestamp() * 1000), now) if (created := begun(row)) else "" for row in rows]
    titles = [" ".join(visible(each.title or "").split()) for each in found]
    tokens = [_tokens(each) if each else "" for each in totals]
    models = [visible(", ".join(each.models)) if each else "" for each in totals]
    return (
        Column("id", labels([visible(row.id) for row in rows])),
        Column("title", titles, drop=0 if any(titles) else 1, elastic=True),
        Column("begun", ages, drop=1, right=True),
        Column("status", [visible(row.status) for row in rows], drop=2),
        Column("messages", [f"{each.messages:,}" if each else "" for each in totals], drop=3, right=True),
        Column("errors", [str(each.errors) if each and each.errors else "" for each in totals], drop=4, right=True),
        Column("tokens", tokens, drop=6, right=True),
        Column("model", models, drop=7),
        Column("prompt", [visible(row.prompt_id or "") for row in rows], drop=5),
        Column("insights", ["yes" if row.has_insights else "no" for row in rows], drop=8),
    )


def _tokens(totals: Totals) -> str:
    known = totals.tokens_in or totals.tokens_out
    return f"{figures.count(totals.tokens_in)} → {figures.count(totals.tokens_out)}" if known else ""


def _plain(each: Listed) -> list[str]:
    """For programs: the whole id, and a time that does not change."""
    found, totals = each.conversation, each.totals
    created = f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if (at := begun(found)) else ""
    cells = [found.id, found.status, found.prompt_id or "", "yes" if found.has_insights else "no", created]
    if totals is not None:
        cells += [str(totals.messages), str(totals.tokens_in), str(totals.tokens_out), ", ".join(totals.models)]
        cells.append(" ".join((each.title or "").split()))
    return [visible(cell) for cell in cells]


@conversations.command()
@id_argument("conversation_id", metavar="ID")
@click.option("--last", type=click.IntRange(1), metavar="N", help="Only the last N messages.")
@click.option("--web", is_flag=True, help="Open it in the viewer of `converra dev`.")
@click.option("--reveal", is_flag=True, help="Turn pseudonyms back.")
@click.option(
    "--pseudonym-key",
    metavar="KEY",
    envvar="CONVERRA_PSEUDONYM_KEY",
    help="Their key.  [default: $CONVERRA_PSEUDONYM_KEY, or a prompt]",
)
@source_options
@json_option
def show(
    *,
    conversation_id: str,
    last: int | None,
    web: bool,
    reveal: bool,
    pseudonym_key: str | None,
    local: bool,
    db: str | None,
    as_json: bool,
) -> None:
    """Show one conversation as a chat; the ID `last` is the newest."""
    if web and reveal:
        raise click.UsageError("--reveal works on the terminal only: leave out --web")
    with source_of(local=local or web, db=db) as source:
        found = source.get(conversation_id)
    if reveal:
        found = _revealed(found, pseudonym_key or click.prompt("Key of the pseudonyms", hide_input=True, err=True))
    if web:
        open_viewer(f"/conversations/{quote(found.id, safe='')}", local=True, db=db)
    elif as_json:
        print_json(found.to_dict())
    elif is_terminal():
        from converra.cli.chat import chat  # noqa: PLC0415 - it imports rich, which is for terminals

        print_rich(chat(found, last), paged=True)
    else:
        for line in conversation_lines(found, last):
            click.echo(line)


def _revealed(found: StoredConversation, key: str) -> StoredConversation:
    """Turn the pseudonyms of this key back, wherever they are."""
    from converra.redaction import pseudonyms  # noqa: PLC0415 - of an extra

    try:
        reveal = pseudonyms(key).reveal
    except (InvalidArgumentError, ImportError) as error:
        raise click.ClickException(str(error)) from error

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {reveal(name): plain(each) for name, each in value.items()}
        if isinstance(value, list):
            return [plain(each) for each in value]
        return reveal(value) if isinstance(value, str) else value

    return StoredConversation.from_dict(plain(found.to_dict()))


@conversations.command()
@id_argument("conversation_id", metavar="ID")
@source_options
@json_option
def insights(*, conversation_id: str, local: bool, db: str | None, as_json: bool) -> None:
    """Show what the analysis of a conversation found; the ID `last` is the newest."""
    with source_of(local=local, db=db) as source:
        found = source.insights(conversation_id).to_dict()
    if as_json:
        print_json(found)
    else:
        _print_insights(found)


def _print_insights(found: dict[str, Any]) -> None:
    """For programs the API's names; for people words, without what is empty."""
    if not is_terminal():
        for name, value in found.items():
            click.echo(f"{name}\t{visible(_shown(value))}")
        return
    for name, value in found.items():
        if value not in (None, "", []):
            shown = value[:19].replace("T", " ") + " UTC" if name == "createdAt" else _shown(value)
            click.echo(f"{_words(name):<18}  {visible(shown)}")


def _words(name: str) -> str:
    """`taskCompleted` as `task completed`."""
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name)


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)
