"""Output of commands: JSON for programs, tables for terminals, tab-separated lines for everything else."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType


_GAP = 2
_ELASTIC = 24


def print_json(value: Any) -> None:
    """Print indented JSON."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def is_terminal() -> bool:
    """Return True if standard output is a terminal; only then is rich used."""
    return sys.stdout.isatty()


def print_rich(shown: RenderableType, *, wrap: bool = True, paged: bool = False) -> None:
    """Print what rich lays out for this terminal; through click, which can print any character on any stream.

    With `paged`, what is longer than the screen goes through the pager: `$PAGER`, else `less`.
    """
    from rich.console import Console  # noqa: PLC0415 - it takes a while to import

    console = Console(highlight=False)
    with console.capture() as captured:
        console.print(shown, soft_wrap=not wrap)
    text = captured.get()
    if paged and _needs_pager(text.count("\n")):
        os.environ.setdefault("LESS", "FRX")  # as git: colours, and what was shown stays on the screen
        click.echo_via_pager(text)
    else:
        click.echo(text, nl=False)


def _needs_pager(lines: int) -> bool:
    """Return True if somebody can turn the pages, and there is more than one."""
    able = sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    return able and lines >= shutil.get_terminal_size().lines


class Column(NamedTuple):
    """A column of a table."""

    name: str
    cells: Sequence[str]
    drop: int = 0
    """Columns of the highest number are left out first where a terminal is narrow; 0 is never left out."""
    elastic: bool = False
    """Takes the room that is left; longer cells are cut there."""
    right: bool = False

    @property
    def width(self) -> int:
        """Cells that it needs; an elastic one can do with fewer."""
        from rich.cells import cell_len  # noqa: PLC0415 - only for terminals

        natural = max(map(cell_len, (self.name, *self.cells)))
        return min(natural, _ELASTIC) if self.elastic else natural


def fitting(columns: Sequence[Column], width: int) -> list[Column]:
    """Return the columns that have content and fit into a width."""
    kept = [column for column in columns if any(column.cells) or not column.drop]
    while _width(kept) > width and any(column.drop for column in kept):
        kept.remove(max(kept, key=lambda column: column.drop))
    return kept


def _width(columns: Sequence[Column]) -> int:
    return sum(column.width for column in columns) + _GAP * (len(columns) - 1)


def print_table(columns: Sequence[Column], plain: Sequence[Sequence[str]]) -> None:
    """A table that fits on a terminal, a row a line; else the `plain` rows, tab-separated, without a head."""
    if not is_terminal():
        for row in plain:
            click.echo("\t".join(row))
        return
    from rich.console import Console  # noqa: PLC0415 - only for terminals
    from rich.table import Table  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415 - as above

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, _GAP, 0, 0))
    width = Console().width
    kept = fitting(columns, width)
    room = width - _width([column for column in kept if not column.elastic]) - _GAP
    for column in kept:
        table.add_column(
            column.name,
            no_wrap=True,
            overflow="ellipsis",
            justify="right" if column.right else "left",
            max_width=max(1, room) if column.elastic else None,
        )
    for row in zip(*(column.cells for column in kept), strict=True):
        table.add_row(*map(Text, row))
    print_rich(table)
