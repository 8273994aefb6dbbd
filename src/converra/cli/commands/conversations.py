"""`converra conversations`: list, show and insights, of the API or of what was recorded on this machine."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any, get_args

import click

from converra.capture.console import visible
from converra.cli.output import is_terminal, print_json, print_rich, print_table
from converra.cli.plain import conversation_lines
from converra.cli.source import json_option, source_of, source_options
from converra.wire.models import Status

if TYPE_CHECKING:
    from converra.api.results import StoredConversation


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
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="The most to list.")
@source_options
@json_option
def list_(
    *,
    prompt_id: str | None,
    status: Status | None,
    has_insights: bool | None,
    limit: int,
    local: bool,
    db: str | None,
    as_json: bool,
) -> None:
    """List conversations, newest first."""
    with source_of(local=local, db=db) as source:
        found = source.list(limit=limit, prompt_id=prompt_id, status=status, has_insights=has_insights)
    if as_json:
        print_json([each.to_dict() for each in found])
    else:
        print_table(("id", "status", "prompt", "insights", "created"), [_row(each) for each in found])


def _row(found: StoredConversation) -> list[str]:
    created = f"{found.created_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if found.created_at else ""
    cells = (found.id, found.status, found.prompt_id, "yes" if found.has_insights else "no", created)
    return [visible(cell or "") for cell in cells]


@conversations.command()
@click.argument("conversation_id", metavar="ID")
@source_options
@json_option
def show(*, conversation_id: str, local: bool, db: str | None, as_json: bool) -> None:
    """Show one conversation as a chat; the ID `last` is the newest."""
    with source_of(local=local, db=db) as source:
        found = source.get(conversation_id)
    if as_json:
        print_json(found.to_dict())
    elif is_terminal():
        from converra.cli.chat import chat  # noqa: PLC0415 - it imports rich, which is for terminals

        print_rich(chat(found))
    else:
        for line in conversation_lines(found):
            click.echo(line)


@conversations.command()
@click.argument("conversation_id", metavar="ID")
@source_options
@json_option
def insights(*, conversation_id: str, local: bool, db: str | None, as_json: bool) -> None:
    """Show what the analysis of a conversation found; the ID `last` is the newest."""
    with source_of(local=local, db=db) as source:
        found = source.insights(conversation_id).to_dict()
    if as_json:
        print_json(found)
    else:
        print_table(("", ""), [[name, visible(_shown(value))] for name, value in found.items()])


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)
