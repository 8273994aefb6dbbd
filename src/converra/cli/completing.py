"""Completes ids in the shell: `last`, and the newest conversations of where the command will read."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from converra.api.client import Converra
from converra.cli.ids import LAST, matching
from converra.cli.source import APISource, source_of
from converra.errors import ConverraError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from converra.cli.source import Listed

OFFERED = 50
"""Number of newest conversations among which ids are completed."""

API_SECONDS = 2.0
"""Longest wait for the API: somebody has pressed a key."""


def id_argument(name: str, *, local: bool = False, **more: Any) -> Callable[..., Any]:
    """Make an argument whose ids are completed; `local` for commands that read this machine only."""

    def complete(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        found: Sequence[Listed] = ()
        with suppress(ConverraError, click.ClickException, ModuleNotFoundError):  # a shell has no place for errors
            found = _newest(ctx.params.get("db"), local=local or bool(ctx.params.get("local")))
        titles = {each.conversation.id: each.title for each in found}
        ids = [LAST, *titles]
        chosen = [each for each in ids if each.startswith(incomplete)] or matching(incomplete, ids)
        return [CompletionItem(each, help=" ".join((titles.get(each) or "").split())) for each in chosen]

    return click.argument(name, shell_complete=complete, **more)


def _newest(db: str | None, *, local: bool) -> Sequence[Listed]:
    if local or db:
        with source_of(local=local, db=db) as source:
            return source.list(limit=OFFERED)
    with Converra(timeout=API_SECONDS, max_retries=0) as client:
        return APISource(client).list(limit=OFFERED)
