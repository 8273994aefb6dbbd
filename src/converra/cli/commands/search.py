"""`converra search`: conversations of this machine by their words."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

import click

from converra.capture.console import visible
from converra.cli.ids import labels
from converra.cli.local import recorded
from converra.cli.output import Column, print_json, print_table
from converra.cli.source import db_option, json_option
from converra.server.store.catalogue import Filters

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from converra.server.store.conversations import Store
    from converra.server.store.records import Conversation

AROUND = 40
"""Characters that are shown before and after the first word that was found."""


class Hit(NamedTuple):
    """A conversation, and the words around what was looked for; none where it was found by an id."""

    conversation: Conversation
    excerpt: str


@click.command()
@click.argument("words", nargs=-1, required=True)
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="The most conversations to find.")
@db_option
@json_option
def search(*, words: tuple[str, ...], limit: int, db: str | None, as_json: bool) -> None:
    """Find conversations that `converra dev` recorded with all WORDS in one message, newest first.

    The last word may be the beginning of one. The id of a conversation or a session is found, too.
    """
    query = " ".join(words)
    if not query.strip():
        raise click.UsageError("give at least one word; `converra conversations list --local` lists all")
    with closing(recorded(db)) as store:
        hits = list(_hits(store, query, limit))
    if as_json:
        print_json([_plain(hit) for hit in hits])
    else:
        _print(hits)
    if not hits:  # the status is grep's
        if not as_json:
            click.echo("no message contains all of these words", err=True)
        raise SystemExit(1)


def found(store: Store, words: str, limit: int) -> list[dict[str, str]]:
    """Return the conversations that have all words in one message, newest first, as the option --json prints them."""
    return [_plain(hit) for hit in _hits(store, words, limit)]


def _print(hits: Sequence[Hit]) -> None:
    ids, prompts, found = (
        [visible(cell) for cell in cells]
        for cells in (
            [hit.conversation.id for hit in hits],
            [hit.conversation.prompt_id for hit in hits],
            [hit.excerpt for hit in hits],
        )
    )
    columns = (
        Column("id", labels(ids)),
        Column("prompt", prompts, drop=1),
        Column("found", found, elastic=True),
    )
    print_table(columns, list(zip(ids, prompts, found, strict=True)))


def _hits(store: Store, query: str, limit: int) -> Iterator[Hit]:
    page = store.catalogue.page(Filters(q=query), limit=limit)
    for conversation in page.conversations:
        place = page.places.get(conversation.number)
        said = "" if place is None else store.catalogue.said(place)
        yield Hit(conversation, excerpt(said, next(iter(query.split()), "")))


def excerpt(text: str, word: str) -> str:
    """The words around the first place where one stands, on one line."""
    line = " ".join(text.split())
    at = max(0, line.casefold().find(word.casefold()))
    start, end = max(0, at - AROUND), at + len(word) + AROUND
    return f"{'…' if start else ''}{line[start:end].strip()}{'…' if end < len(line) else ''}"


def _plain(hit: Hit) -> dict[str, str]:
    known = hit.conversation
    return {"id": known.id, "promptId": known.prompt_id, "status": known.status, "excerpt": hit.excerpt}
