"""`converra dev`: the local API, its viewer and the stand-in model, on loopback; and a command that it records."""

from __future__ import annotations

import os
import secrets
import shlex
import sys
import time
from contextlib import ExitStack, closing, suppress
from typing import TYPE_CHECKING, NamedTuple, TextIO

import click
import msgspec

from converra.cli import child, sightings
from converra.cli.live import LOOK_SECONDS, Live
from converra.cli.local import opened
from converra.cli.paths import default_path, is_default
from converra.cli.running import Running, announced, running
from converra.cli.source import json_option
from converra.cli.wording import plural
from converra.server.run import EVERYWHERE, LOOPBACK, LocalServer, address, listen, run, serve
from converra.server.store.database import IN_MEMORY

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping, Sequence

    from converra.cli.sightings import Sightings
    from converra.server.store.conversations import Store

PORT = 8787
KEPT = 100_000
KEY = "dev"
"""Any word is a key of a server without a token."""


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--port", type=click.IntRange(0, 65535), help=f"0 takes a free one.  [default: {PORT}, or a free one]")
@click.option(
    "--db", metavar="PATH", help='Where conversations are kept; ":memory:" forgets them.  [default: your data folder]'
)
@click.option(
    "--fake-llm",
    is_flag=True,
    help="Have the stand-in model answer the command's calls to OpenAI, Anthropic and others.",
)
@click.option(
    "--prompt-id",
    metavar="ID",
    help="Prompt of the command's calls outside a conversation().  [default: $CONVERRA_PROMPT_ID, or dev]",
)
@click.option("--stay", is_flag=True, help="Keep the viewer running after the command, until Ctrl-C.")
@click.option("--quiet", "-q", is_flag=True, help="Print neither turns nor rejected requests.")
@click.option(
    "--log",
    metavar="FILE",
    type=click.File("a", encoding="utf-8", lazy=False),
    help="Append turns and rejected requests to a file, and leave the terminal to the app.",
)
@click.option(
    "--keep", metavar="N", type=click.IntRange(1), help=f"Keep the newest N conversations.  [default: {KEPT}]"
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
    stay: bool,
    quiet: bool,
    log: TextIO | None,
    keep: int | None,
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
    if (fake_llm or prompt_id or stay) and not command:
        raise click.UsageError(
            "--fake-llm, --prompt-id and --stay are for a command: converra dev --fake-llm -- python app.py"
        )
    if token and not allow_remote:
        raise click.UsageError("--token is for --allow-remote")
    if allow_remote and command:
        raise click.UsageError("--allow-remote is for a server of its own, without a command")
    path = db or default_path()
    there = None if (port is not None or allow_remote or keep or keep_days) else running(path)
    if there is not None and not command:
        click.echo(_encoded(_addresses(there, path)) if as_json else _already(_addresses(there, path)))
        return
    with closing(opened(path, keep_conversations=keep or KEPT, keep_days=keep_days)) as store:
        if command:
            wish = _Wish(command, fake_llm=fake_llm, prompt_id=prompt_id, stay=stay, as_json=as_json)
            live = Live(store, as_json=as_json, quiet=quiet, shared=True, log=log)
            sys.exit(_recorded(wish, store, live, there, port))
        secret = (token or secrets.token_urlsafe()) if allow_remote else None
        with closing(_listening(port, EVERYWHERE if allow_remote else LOOPBACK)) as listener:
            live = Live(store, as_json=as_json, quiet=quiet, log=log)
            _serve(store, listener, secret, live, note=_taken(listener.getsockname()[1], port), as_json=as_json)


class _Wish(NamedTuple):
    """A command to run, and the options for it."""

    command: Sequence[str]
    fake_llm: bool
    prompt_id: str | None
    stay: bool
    as_json: bool


def _serve(store: Store, listener: socket.socket, token: str | None, live: Live, *, note: str, as_json: bool) -> None:
    """Serve until Ctrl-C, and print what comes."""
    here = Running(address(listener), token or KEY)
    where = _addresses(here, store.path, token)
    local = Running(f"http://{LOOPBACK}:{listener.getsockname()[1]}", here.key, asks=token is not None)
    with announced(store.path, local), suppress(KeyboardInterrupt):
        click.echo(_encoded(where) if as_json else _greeting(where, note))
        with live.showing():
            run(store, listener, token=token)


def _recorded(wish: _Wish, store: Store, live: Live, there: Running | None, port: int | None) -> int:
    """Run a command whose conversations arrive here; its exit status. All own lines go to standard error."""
    with ExitStack() as stack:
        server, note = (there, "") if there else _started(stack, store, port, stay=wish.stay)
        where = _addresses(server, store.path)
        said = f"converra dev: conversations of this command are at {where['viewer']}{note}"
        live.say(_encoded(where) if wish.as_json else said)
        file = stack.enter_context(sightings.sighting())
        environ = child.environment(
            os.environ,
            base_url=where["api"],
            openai_url=where["model"] if wish.fake_llm else None,
            prompt_id=wish.prompt_id,
            key=server.key,
            sightings=file,
        )
        try:
            status = child.run(wish.command, environ, live.show)
        except OSError as error:
            why, status = child.not_run(wish.command, error)
            live.say(f"converra dev: {why}")
            return status
        live.show()
        stays = wish.stay or there is not None
        live.say(_result(live, sightings.read(file), store.path, where["viewer"] if stays else None, wish))
        if wish.stay and there is None:
            _stay(live)
        return status


def _stay(live: Live) -> None:
    """Go on printing until Ctrl-C."""
    with suppress(KeyboardInterrupt):
        while True:
            live.show()
            time.sleep(LOOK_SECONDS)


def _result(live: Live, seen: Sightings, path: str, viewer: str | None, wish: _Wish) -> str:
    """Count what was recorded, with what to do next; or say why nothing was."""
    reason = None if live.conversations else _reason(live, seen)
    if wish.as_json:
        counts = {"turns": live.turns, "conversations": len(live.conversations), "rejected": live.rejected}
        return msgspec.json.encode({"result": counts | ({"reason": reason} if reason else {})}).decode()
    if reason:
        return f"converra dev: nothing was recorded, because {reason}. `converra doctor` checks the setup."
    rejected = f" {plural(live.rejected, 'request')} rejected." if live.rejected else ""
    turns = f"{plural(live.turns, 'turn')} in {plural(len(live.conversations), 'conversation')}."
    end = " Ctrl-C ends the viewer." if wish.stay else ""
    return f"converra dev: {turns}{rejected}{_look(live.conversations, path, viewer)}{end}"


def _reason(live: Live, seen: Sightings) -> str:
    if live.rejected:
        return f"{plural(live.rejected, 'request')} of this command {'was' if live.rejected == 1 else 'were'} rejected"
    return seen.reason(child.libraries())


def _look(conversations: Mapping[str, str], path: str, viewer: str | None) -> str:
    """Say where the conversations are from now on."""
    (newest, label), alone = list(conversations.items())[-1], len(conversations) == 1
    if viewer is not None:
        return f" Look: {viewer}/conversations/{newest}" if alone else f" Look: {viewer}"
    if path == IN_MEMORY:
        return ""
    db = "" if is_default(path) else f" --db {shlex.quote(path)}"
    what = f"show {label}" if alone else "list"
    return f" Look: converra conversations {what}{db or ' --local'}, or converra dev{db}"


def _started(stack: ExitStack, store: Store, port: int | None, *, stay: bool) -> tuple[Running, str]:
    """Start a server of this process, with a note on its port; announce it to other commands if it is to stay."""
    server = _serving(stack, store, port)
    started = Running(server.url, KEY)
    if stay:
        stack.enter_context(announced(store.path, started))
    return started, _taken(server.port, port)


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


def _taken(got: int, asked: int | None) -> str:
    """Say why the usual port is not the one that is used."""
    return f" (port {PORT} is taken)" if asked is None and got != PORT else ""


def _addresses(server: Running, path: str, token: str | None = None) -> dict[str, str]:
    url = server.url
    viewer = f"{url}/?token={token}" if token else url
    return {
        "viewer": viewer,
        "api": f"{url}/api/v1",
        "model": f"{url}/openai/v1",
        "otlp": url,
        "key": server.key,
        "db": path,
    }


def _encoded(where: Mapping[str, str]) -> str:
    return msgspec.json.encode(where).decode()


def _already(where: Mapping[str, str]) -> str:
    return f"{_shown(where)}\n\nThis server was running already: another `converra dev` serves the same file."


def _shown(where: Mapping[str, str], note: str = "") -> str:
    return "\n".join(
        (
            f"Viewer      {where['viewer']}{note}",
            f"API         {where['api']}",
            f"Model       {where['model']}   (a stand-in, in the form of OpenAI's API)",
            f"Kept in     {where['db']}",
        )
    )


def _greeting(where: Mapping[str, str], note: str) -> str:
    return "\n".join(
        (
            _shown(where, note),
            "",
            "To record an app here, without a change of its code:",
            "  converra dev -- python app.py      (--fake-llm does without a model's key)",
            "For an app that you start yourself:",
            f"  export CONVERRA_BASE_URL={where['api']} CONVERRA_API_KEY={where['key']}",
            "For an app in any language that exports OpenTelemetry spans:",
            f"  export OTEL_EXPORTER_OTLP_ENDPOINT={where['otlp']}",
            "  export OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
            *_key_of_exporters(where),
            "And to do without a model's key:",
            f"  export OPENAI_BASE_URL={where['model']} OPENAI_API_KEY={where['key']}",
            "",
            "Ctrl-C ends it.",
        )
    )


def _key_of_exporters(where: Mapping[str, str]) -> list[str]:
    """Return the line with the token, for a server that asks for one."""
    if where["key"] == KEY:
        return []
    return [f"  export OTEL_EXPORTER_OTLP_HEADERS=Authorization=Bearer%20{where['key']}"]
