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
from rich.rule import Rule

from converra.api.client import Converra
from converra.cli.chat import chat
from converra.cli.output import print_json, print_rich
from converra.cli.source import json_option
from converra.server.run import LOOPBACK, serve

if TYPE_CHECKING:
    from typing import TextIO

    from converra.api.results import StoredConversation
    from converra.server.run import LocalServer

_SHIPPED = Path(__file__).parents[1] / "quickstart.py"
QUICKSTART = _SHIPPED if _SHIPPED.exists() else Path(__file__).parents[4] / "examples" / "quickstart.py"
"""The example itself: in the wheel a copy of it lies beside this file, in a checkout it is where it always is."""

_TIMEOUT = 60.0
"""Seconds that the quickstart may take; it takes about two."""


@click.command()
@click.option("--stay", is_flag=True, help="Keep the viewer running until Ctrl-C.")
@json_option
def demo(*, stay: bool, as_json: bool) -> None:
    """Run the quickstart against this machine alone, and show the conversation that it left."""
    with serve() as server:
        _point_at(server)
        if as_json:
            _run_quickstart(sys.stderr)
            arrived = _arrived()
            viewer = _viewer(server, arrived) if stay else None
            print_json({"conversation": arrived.to_dict(), "requests": _posts(server), "viewer": viewer})
        else:
            _tell(server, stay=stay)
        if stay:
            with suppress(KeyboardInterrupt):
                threading.Event().wait()


def _tell(server: LocalServer, *, stay: bool) -> None:
    print_rich(Rule("examples/quickstart.py", align="left"))
    _run_quickstart(None)
    print_rich(Rule("what the Conversations API holds", align="left"))
    arrived = _arrived()
    print_rich(chat(arrived))
    print_rich(f"Delivered in {_posts(server)} requests.")
    if stay:
        print_rich(f"In the viewer: {_viewer(server, arrived)}", wrap=False)
        print_rich("Ctrl-C ends it.")
    else:
        print_rich("With --stay (make demo KEEP=1) the viewer stays up.")


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


def _run_quickstart(output: TextIO | None) -> None:
    program = [sys.executable, "-P", str(QUICKSTART)]  # -P: its folder hides no module of Python
    try:
        finished = subprocess.run(program, stdout=output, timeout=_TIMEOUT, check=False)  # noqa: S603 - our own file, this interpreter
    except subprocess.TimeoutExpired as error:
        raise click.ClickException(f"the quickstart has not ended within {_TIMEOUT:.0f} s") from error
    if finished.returncode:
        raise click.ClickException(f"the quickstart ended with status {finished.returncode}")


def _arrived() -> StoredConversation:
    with Converra() as client:
        newest = next(iter(client.conversations.list(limit=1)), None)
        if newest is None or not newest.id:
            raise click.ClickException("no conversation arrived")
        return client.conversations.get(newest.id)


def _viewer(server: LocalServer, conversation: StoredConversation) -> str:
    return f"{server.url}/conversations/{conversation.id}"


def _posts(server: LocalServer) -> int:
    return sum(request.method == "POST" and request.path.startswith("/api/") for request in server.requests)


if __name__ == "__main__":
    demo()
