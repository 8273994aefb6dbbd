"""`converra dev`: the local API, its viewer and the stand-in model, on loopback."""

from __future__ import annotations

import os
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from converra.server.run import address, listen, run
from converra.server.store import Store, StoreError

if TYPE_CHECKING:
    import socket

PORT = 8787


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), help=f"0 takes a free one.  [default: {PORT}, or a free one]")
@click.option(
    "--db", metavar="PATH", help='Where conversations are kept; ":memory:" forgets them.  [default: your data folder]'
)
def dev(*, port: int | None, db: str | None) -> None:
    """Serve a local Conversations API, its viewer and a stand-in model on this machine alone."""
    path = db or str(_data_folder() / "local.sqlite3")
    with closing(_listening(port)) as listener, closing(_opened(path)) as store:
        click.echo(_greeting(address(listener), path))
        with suppress(KeyboardInterrupt):
            run(store, listener)


def _data_folder() -> Path:
    """Where programs keep a user's data; made if it is not there."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    folder = Path(base) / "converra"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _listening(port: int | None) -> socket.socket:
    """The port asked for; without one the usual port, or a free one where that is taken."""
    if port is None:
        with suppress(OSError):
            return listen(PORT)
    try:
        return listen(port or 0)
    except OSError as error:
        raise click.ClickException(
            f"port {port} cannot be used: {error.strerror}; --port 0 takes a free one"
        ) from error


def _opened(path: str) -> Store:
    try:
        return Store(path)
    except StoreError as error:
        raise click.ClickException(str(error)) from error


def _greeting(url: str, path: str) -> str:
    return "\n".join(
        (
            f"Viewer      {url}",
            f"API         {url}/api/v1",
            f"Model       {url}/openai/v1   (a stand-in; for the openai package)",
            f"Kept in     {path}",
            "",
            "For your app:",
            f"  export CONVERRA_BASE_URL={url}/api/v1 CONVERRA_API_KEY=dev",
            "And to do without a model's key:",
            f"  export OPENAI_BASE_URL={url}/openai/v1 OPENAI_API_KEY=dev",
            "",
            "Ctrl-C ends it.",
        )
    )
