"""HTML for notebooks: tables whose every word is escaped, without scripts, styles of their own or anything to fetch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MAX_TEXT = 10_000
"""Characters of a cell; notebooks keep what they show in their file."""

MAX_ROWS = 100
"""Rows of a table."""


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Make a table with a title; of a long one, the first rows and the number of the others."""
    body = "".join(_row("td", row) for row in rows[:MAX_ROWS])
    rest = len(rows) - MAX_ROWS
    more = f"<p>and {rest:,} more</p>" if rest > 0 else ""
    return f"<div><p><b>{_shown(title)}</b></p><table>{_row('th', head)}{body}</table>{more}</div>"


def _row(tag: str, cells: Iterable[str]) -> str:
    style = 'style="text-align: start; vertical-align: top; white-space: pre-wrap"'
    return "<tr>" + "".join(f'<{tag} dir="auto" {style}>{_shown(cell)}</{tag}>' for cell in cells) + "</tr>"


def _shown(text: str) -> str:
    from html import escape  # noqa: PLC0415 - it brings a large table of entities, and few processes have a notebook

    cut = text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}… ({len(text):,} characters)"
    return escape(cut)
