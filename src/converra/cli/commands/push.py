"""`converra push`: what was recorded on this machine goes to the real API, once."""

from __future__ import annotations

import sys
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, NamedTuple

import click

from converra import config
from converra.api.client import Converra
from converra.capture.console import visible
from converra.cli.completing import id_argument
from converra.cli.failures import FAILED, INTERRUPTED, exit_status, explained
from converra.cli.ids import found_in
from converra.cli.local import recorded
from converra.cli.output import print_json
from converra.cli.paths import default_path
from converra.cli.pushed import Place, Pushed
from converra.cli.pushing import Push, Recorded
from converra.cli.source import db_option, json_option
from converra.errors import (
    APIConnectionError,
    AuthenticationError,
    ConverraError,
    MissingAPIKeyError,
    PermissionDeniedError,
    RateLimitError,
)
from converra.process.lockfile import ProcessLock
from converra.server.store.records import fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from converra.server.store.conversations import Store
    from converra.server.store.records import Conversation

RETRIES = 8
"""Per request: a push may wait for a rate limit to let it through."""

_STOPS = (APIConnectionError, AuthenticationError, PermissionDeniedError, RateLimitError)
"""Errors that the next conversation would meet as well."""

_PAGE = 200


class Result(NamedTuple):
    """Result of pushing one conversation."""

    id: str
    remote_id: str | None
    sent: int
    error: str | None = None


class Run(NamedTuple):
    """Results of the conversations that were tried, and the error that stopped the rest."""

    results: Sequence[Result]
    stopped: str | None = None
    status: int = 0


@click.command()
@id_argument("ids", metavar="[ID]...", nargs=-1, local=True)
@click.option("--prompt-id", metavar="ID", help="Only conversations of this prompt.")
@click.option("--open", "also_open", is_flag=True, help="Also those that are not completed; they stay open.")
@click.option("--dry-run", is_flag=True, help="List what would be sent; needs no key.")
@db_option
@json_option
def push(
    *, ids: tuple[str, ...], prompt_id: str | None, also_open: bool, dry_run: bool, db: str | None, as_json: bool
) -> None:
    """Send recorded conversations (all, or those of the IDs) to the API of the settings, each once.

    Progress is recorded: an interrupted push resumes where it stopped.
    """
    settings = config.load({})
    path = db or default_path()
    if settings.api_key is None and not dry_run:
        raise MissingAPIKeyError("no API key: set CONVERRA_API_KEY to that of the account to push to")
    with closing(recorded(path)) as store, _alone(path):
        pushed = Pushed(path, f"{settings.base_url} {fingerprint(settings.api_key or '')}")
        chosen = _chosen(store, ids, prompt_id, also_open=also_open)
        waiting = [each for each in chosen if not pushed.of(each.id).done]
        if dry_run:
            run = Run([Result(each.id, pushed.of(each.id).remote_id, 0) for each in waiting])
            if not as_json:
                _preview(waiting, has_key=settings.api_key is not None)
        else:
            with _bar(waiting, shown=not as_json) as advance, Converra(max_retries=RETRIES) as client:
                run = _run(client, store, waiting, pushed, advance)
    done = f"{'would be sent' if dry_run else 'sent'} to {settings.base_url}"
    _report(run, done, already=len(chosen) - len(waiting), waiting=len(waiting), as_json=as_json)


def _preview(waiting: Sequence[Conversation], *, has_key: bool) -> None:
    """List what would be sent, oldest first."""
    for each in waiting:
        title = " ".join((each.title or "").split())
        click.echo(visible("\t".join((each.id, each.status, each.prompt_id, str(each.totals.messages), title))))
    if not has_key:
        click.echo("no API key: conversations that an earlier push has sent are listed as well", err=True)


@contextmanager
def _alone(path: str) -> Iterator[None]:
    """Keep a second push of this file out: each knows only what it has sent itself."""
    try:
        process_lock = ProcessLock.take(path, "push")
    except OSError as error:
        raise click.ClickException(f"cannot write beside {path}: {error.strerror}") from error
    if process_lock is None:
        raise click.ClickException(f"another push of {path} is under way; wait for its end")
    try:
        yield
    finally:
        process_lock.abandon()  # the file stays: to remove it would let two others in


def _chosen(store: Store, ids: Sequence[str], prompt_id: str | None, *, also_open: bool) -> list[Conversation]:
    """The conversations to push, oldest first."""
    if ids:
        return [found_in(store, each) for each in ids]
    found: list[Conversation] = []
    total = 1
    while len(found) < total:
        page, total = store.conversations(prompt_id=prompt_id, limit=_PAGE, offset=len(found))
        found += page
        total = total if page else 0
    return [each for each in reversed(found) if also_open or each.status in ("completed", "abandoned")]


def _run(
    client: Converra, store: Store, waiting: Sequence[Conversation], pushed: Pushed, advance: Callable[[], None]
) -> Run:
    """Push one after the other, until the end or what would meet all the others as well."""
    results: list[Result] = []
    try:
        for each in waiting:
            results.append(_pushed(client, store, each, pushed))
            advance()
    except _STOPS as error:
        return Run(results, explained(error), exit_status(error))
    except KeyboardInterrupt:
        return Run(results, "stopped", INTERRUPTED)
    return Run(results)


def _pushed(client: Converra, store: Store, row: Conversation, pushed: Pushed) -> Result:
    """Push one. An error that concerns it alone is a result, others are raised."""
    place = pushed.of(row.id)
    messages = store.messages(row)
    whole = Recorded(row.id, row.prompt_id, row.status, row.company_name, row.llm_model, row.metadata, messages)
    ended = row.status in ("completed", "abandoned")
    one = Push(
        client.conversations, whole, begun=place.begun, remote_id=place.remote_id, sent=place.sent, sleep=time.sleep
    )

    def note(one: Push) -> None:
        pushed.note(row.id, Place(one.remote_id, one.sent, done=ended and one.sent >= one.total))

    try:
        one.run(note)
        note(one)
    except _STOPS:
        raise
    except ConverraError as error:
        return Result(row.id, one.remote_id, one.sent, explained(error))
    return Result(row.id, one.remote_id, one.sent)


@contextmanager
def _bar(waiting: Sequence[Conversation], *, shown: bool) -> Iterator[Callable[[], None]]:
    """A progress bar, for terminals alone."""
    if not (shown and _at_terminal()):
        yield lambda: None
        return
    from rich.console import Console  # noqa: PLC0415 - only for terminals
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn  # noqa: PLC0415 - as above

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("push", total=len(waiting))
        yield lambda: progress.advance(task)


def _at_terminal() -> bool:
    return sys.stderr.isatty()


def _report(run: Run, done: str, *, already: int, waiting: int, as_json: bool) -> None:
    failed = [result for result in run.results if result.error]
    left = waiting - len(run.results)
    if as_json:
        fields = [{name: value for name, value in each._asdict().items() if value is not None} for each in run.results]
        stopped = {"stopped": run.stopped} if run.stopped else {}
        print_json({"conversations": fields, "already": already, "failed": len(failed), "left": left, **stopped})
    else:
        for result in failed:
            click.echo(f"{result.id}: {result.error}", err=True)
        click.echo(f"{len(run.results) - len(failed)} {done}, {len(failed)} failed, {already} sent before")
    if run.stopped:
        click.echo(f"Error: {run.stopped}; {left} left: run the same command again to resume", err=True)
    if run.stopped or failed:
        raise SystemExit(run.status or FAILED)
