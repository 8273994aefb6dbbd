"""Opens pages of the viewer of `converra dev` in the browser."""

from __future__ import annotations

from urllib.parse import urlencode

import click

from converra.cli.paths import default_path
from converra.cli.running import running


def open_viewer(page: str, *, local: bool, db: str | None) -> None:
    """Print the address of a page of the running viewer, and open it; an error if none runs."""
    if not (local or db):
        raise click.UsageError("--web opens the viewer of `converra dev`: add --local or --db")
    path = db or default_path()
    there = running(path)
    if there is None:
        command = f"converra dev --db {db}" if db else "converra dev"
        raise click.ClickException(f"no viewer serves {path}; `{command}` starts one")
    url = f"{there.url}{page}"
    if there.asks:
        url += f"{'&' if '?' in page else '?'}{urlencode({'token': there.key})}"
    click.echo(url)
    click.launch(url)
