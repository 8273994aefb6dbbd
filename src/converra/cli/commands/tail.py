"""`converra tail`: turns as they are recorded on this machine."""

from __future__ import annotations

import sys
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import click

from converra.capture.console import in_colour
from converra.cli.feed import Feed, FeedMessage
from converra.cli.lines import json_line, line
from converra.cli.local import recorded
from converra.cli.plain import markdown
from converra.cli.source import db_option

if TYPE_CHECKING:
    from collections.abc import Callable

LOOK_SECONDS = 0.1


@click.command()
@click.option(
    "--last", type=click.IntRange(0), default=0, show_default=True, help="Begin with this many earlier messages."
)
@click.option("--prompt-id", metavar="ID", help="Only those of this prompt.")
@click.option("--format", "style", type=click.Choice(("line", "md")), default="line", help="A line each, or Markdown.")
@db_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line, for programs.")
@click.option("--no-follow", is_flag=True, help="End when everything that is there is printed.")
def tail(*, last: int, prompt_id: str | None, style: str, db: str | None, as_json: bool, no_follow: bool) -> None:
    """Show turns as `converra dev` records them, until Ctrl-C."""
    show = json_line if as_json else {"line": _line, "md": _markdown}[style]
    with closing(recorded(db)) as store, suppress(KeyboardInterrupt):
        feed = Feed(store, last=last)
        if sys.stderr.isatty() and not no_follow:
            click.echo(f"Turns as they come to {store.path}; Ctrl-C ends it.", err=True)
        while True:
            for said in feed.new():
                if prompt_id in (None, said.conversation.prompt_id):
                    _print(said, show)
            if no_follow:
                return
            time.sleep(LOOK_SECONDS)


def _print(said: FeedMessage, show: Callable[[FeedMessage], str | None]) -> None:
    text = show(said)
    if text is not None:
        click.echo(text)
        sys.stdout.flush()  # a pipe shows it at once, too


def _line(said: FeedMessage) -> str:
    return line(said, colour=in_colour(sys.stdout))


def _markdown(said: FeedMessage) -> str | None:
    return None if said.message is None else markdown(said.message)
