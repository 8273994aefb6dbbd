"""`converra dev`: the local API, its viewer and the stand-in model, on loopback; and a command that it records."""

from __future__ import annotations

import os
import secrets
import sys
from contextlib import ExitStack, closing, suppress
from typing import TYPE_CHECKING

import click
import msgspec

from converra.capture.console import in_colour
from converra.cli import child
from converra.cli.feed import Feed
from converra.cli.lines import json_line, line
from converra.cli.local import default_path, opened
from converra.cli.source import json_option
from converra.server.run import EVERYWHERE, LOOPBACK, LocalServer, address, listen, run, serve

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping, Sequence

    from converra.cli.feed import FeedMessage
    from converra.server.store.conversations import Store

PORT = 8787
NOT_FOUND, NOT_EXECUTABLE = 127, 126
"""The shell's exit statuses for a command that cannot be started."""


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--port", type=click.IntRange(0, 65535), help=f"0 takes a free one.  [default: {PORT}, or a free one]")
@click.option(
    "--db", metavar="PATH", help='Where conversations are kept; ":memory:" forgets them.  [default: your data folder]'
)
@click.option("--fake-llm", is_flag=True, help="Have the stand-in model answer the command's OpenAI calls.")
@click.option(
    "--prompt-id",
    metavar="ID",
    help="Prompt of the command's calls outside a conversation().  [default: $CONVERRA_PROMPT_ID, or dev]",
)
@click.option(
    "--keep",
    metavar="N",
    type=click.IntRange(1),
    default=100_000,
    help="Keep the newest N conversations.  [default: 100000]",
)
@click.option(
    "--keep-days",
    metavar="DAYS",
    type=click.FloatRange(0, min_open=True),
    help="Keep a conversation so long after its last turn.",
)
@click.option("--allow-remote", is_flag=True, help="Serve other machines too: those that bring the token.")
@click.option("--token", metavar="TOKEN", help="What other machines bring.  [default: a new one each time]")
@json_option
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def dev(
    *,
    port: int | None,
    db: str | None,
    fake_llm: bool,
    prompt_id: str | None,
    keep: int,
    keep_days: float | None,
    allow_remote: bool,
    token: str | None,
    as_json: bool,
    command: tuple[str, ...],
) -> None:
    """Serve a local Conversations API, its viewer and a stand-in model on this machine alone.

    With a COMMAND (`converra dev -- python app.py`) run it, record its conversations here without a change of its code,
    show each turn as it comes, and end with its exit status.
    """
    if (fake_llm or prompt_id) and not command:
        raise click.UsageError("--fake-llm and --prompt-id are for a command: converra dev --fake-llm -- python app.py")
    if token and not allow_remote:
        raise click.UsageError("--token is for --allow-remote")
    if allow_remote and command:
        raise click.UsageError("--allow-remote is for a server of its own, without a command")
    path = db or default_path()
    with closing(opened(path, keep_conversations=keep, keep_days=keep_days)) as store:
        if command:
            sys.exit(_recorded(command, store, port, prompt_id=prompt_id, fake_llm=fake_llm, as_json=as_json))
        secret = (token or secrets.token_urlsafe()) if allow_remote else None
        with closing(_listening(port, EVERYWHERE if allow_remote else LOOPBACK)) as listener:
            where = _addresses(address(listener), path, secret)
            click.echo(_encoded(where) if as_json else _greeting(where))
            with suppress(KeyboardInterrupt):
                run(store, listener, token=secret)


def _recorded(
    command: Sequence[str], store: Store, port: int | None, *, prompt_id: str | None, fake_llm: bool, as_json: bool
) -> int:
    """Run a command whose conversations arrive here; its exit status. What is ours goes to standard error."""
    with ExitStack() as stack:
        server = _serving(stack, store, port)
        said = f"converra dev: conversations of this command are at {server.url}"
        click.echo(_encoded(_addresses(server.url, store.path, None)) if as_json else said, err=True)
        show = json_line if as_json else _line
        environ = child.environment(
            os.environ,
            base_url=server.base_url,
            openai_url=server.openai_url if fake_llm else None,
            prompt_id=prompt_id,
        )
        feed = Feed(store)
        try:
            status = child.run(command, environ, lambda: _show(feed, show))
        except OSError as error:
            click.echo(f"converra dev: cannot run {command[0]}: {error.strerror}", err=True)
            return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
        _show(feed, show)
        return status


def _show(feed: Feed, show: Callable[[FeedMessage], str]) -> None:
    for said in feed.new():
        click.echo(show(said), err=True)


def _line(said: FeedMessage) -> str:
    return line(said, colour=in_colour(sys.stderr))


def _serving(stack: ExitStack, store: Store, port: int | None) -> LocalServer:
    if port is None:
        with suppress(OSError):
            return stack.enter_context(serve(port=PORT, store=store))
    try:
        return stack.enter_context(serve(port=port or 0, store=store))
    except OSError as error:
        raise _unusable(port, error) from error


def _listening(port: int | None, host: str) -> socket.socket:
    """The port asked for; without one the usual port, or a free one where that is taken."""
    if port is None:
        with suppress(OSError):
            return listen(PORT, host)
    try:
        return listen(port or 0, host)
    except OSError as error:
        raise _unusable(port, error) from error


def _unusable(port: int | None, error: OSError) -> click.ClickException:
    return click.ClickException(f"port {port} cannot be used: {error.strerror}; --port 0 takes a free one")


def _addresses(url: str, path: str, token: str | None) -> dict[str, str]:
    viewer = f"{url}/?token={token}" if token else url
    return {"viewer": viewer, "api": f"{url}/api/v1", "model": f"{url}/openai/v1", "key": token or "dev", "db": path}


def _encoded(where: Mapping[str, str]) -> str:
    return msgspec.json.encode(where).decode()


def _greeting(where: Mapping[str, str]) -> str:
    return "\n".join(
        (
            f"Viewer      {where['viewer']}",
            f"API         {where['api']}",
            f"Model       {where['model']}   (a stand-in; for the openai package)",
            f"Kept in     {where['db']}",
            "",
            "To record an app here, without a change of its code:",
            "  converra dev -- python app.py      (--fake-llm does without a model's key)",
            "For an app that you start yourself:",
            f"  export CONVERRA_BASE_URL={where['api']} CONVERRA_API_KEY={where['key']}",
            "And to do without a model's key:",
            f"  export OPENAI_BASE_URL={where['model']} OPENAI_API_KEY={where['key']}",
            "",
            "Ctrl-C ends it.",
        )
    )
