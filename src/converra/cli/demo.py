"""The demo: a real `openai` client talks to the stand-in model, and its chat turns up in a local Conversations API."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from converra.api.client import Converra
from converra.cli.chat import chat
from converra.server.run import LOOPBACK, serve

if TYPE_CHECKING:
    from converra.server.run import LocalServer

_SHIPPED = Path(__file__).with_name("quickstart.py")
QUICKSTART = _SHIPPED if _SHIPPED.exists() else Path(__file__).parents[3] / "examples" / "quickstart.py"
"""The example itself: in the wheel a copy of it lies beside this file, in a checkout it is where it always is."""

_TIMEOUT = 60.0
"""Seconds that the quickstart may take; it takes about two."""


@click.command()
@click.option("--keep", is_flag=True, help="Leave the viewer up until Ctrl-C.")
def demo(*, keep: bool) -> None:
    """Run the quickstart against this machine alone, and show the conversation that it left."""
    console = Console(highlight=False)
    with serve() as server:
        _point_at(server)
        console.rule("examples/quickstart.py", align="left")
        _run_quickstart()
        console.rule("what the Conversations API holds", align="left")
        _show_conversation(server, console)
        if keep:
            _wait_for_interrupt(console)


def _point_at(server: LocalServer) -> None:
    """From here on this process and its children know no other API and no other model, whatever was set before."""
    for name in [name for name in os.environ if name.startswith(("CONVERRA_", "OPENAI_"))]:
        del os.environ[name]
    os.environ |= {
        "CONVERRA_BASE_URL": server.base_url,
        "CONVERRA_API_KEY": "demo",
        "OPENAI_BASE_URL": server.openai_url,
        "OPENAI_API_KEY": "demo",
        "NO_PROXY": LOOPBACK,
        "no_proxy": LOOPBACK,
    }


def _run_quickstart() -> None:
    program = [sys.executable, str(QUICKSTART)]
    finished = subprocess.run(program, timeout=_TIMEOUT, check=False)  # noqa: S603 - our own file, this interpreter
    if finished.returncode:
        raise click.ClickException(f"the quickstart ended with status {finished.returncode}")


def _show_conversation(server: LocalServer, console: Console) -> None:
    with Converra() as client:
        newest = next(iter(client.conversations.list(limit=1)), None)
        if newest is None or newest.id is None:
            raise click.ClickException("no conversation arrived")
        console.print(chat(client.conversations.get(newest.id)))
    posts = sum(request.method == "POST" and request.path.startswith("/api/") for request in server.requests)
    console.print(
        f"Delivered in {posts} requests. In the viewer: {server.url}/conversations/{newest.id}", soft_wrap=True
    )


def _wait_for_interrupt(console: Console) -> None:
    console.print("Ctrl-C ends it.")
    with suppress(KeyboardInterrupt):
        threading.Event().wait()


if __name__ == "__main__":
    demo()
