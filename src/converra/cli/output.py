"""Output of commands: JSON for programs, tables for terminals, tab-separated lines for everything else."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click
import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType


def print_json(value: Any) -> None:
    """Print indented JSON."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def is_terminal() -> bool:
    """Return True if standard output is a terminal; only then is rich used."""
    return sys.stdout.isatty()


def print_rich(shown: RenderableType, *, wrap: bool = True) -> None:
    """Print what rich lays out for this terminal; through click, which can print any character on any stream."""
    from rich.console import Console  # noqa: PLC0415 - it takes a while to import

    console = Console(highlight=False)
    with console.capture() as captured:
        console.print(shown, soft_wrap=not wrap)
    click.echo(captured.get(), nl=False)


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on a terminal; else tab-separated lines without a head."""
    if not is_terminal():
        for row in rows:
            click.echo("\t".join(row))
        return
    from rich.table import Table  # noqa: PLC0415 - only for terminals
    from rich.text import Text  # noqa: PLC0415 - as above

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in head:
        table.add_column(name, overflow="fold", no_wrap=name == "id")  # an id is there to be copied
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    print_rich(table)
