"""Reports for the user: which patch points are active, and what has become of the captured messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converra.wire import notebook

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converra.integrations import Patched


class Report:
    """The result of `instrument()`: one row for each patch point. Print it to read it."""

    def __init__(self, rows: list[Patched]) -> None:
        self.rows: list[Patched] = rows

    @property
    def patched(self) -> list[Patched]:
        """Patch points whose calls are captured now."""
        return [row for row in self.rows if row.state == "patched"]

    @property
    def waiting(self) -> list[Patched]:
        """Patch points that are patched once their library is imported."""
        return [row for row in self.rows if row.state == "waiting"]

    @property
    def skipped(self) -> list[Patched]:
        """Patch points that are not captured, each with the reason."""
        return [row for row in self.rows if row.state == "skipped"]

    def __iter__(self) -> Iterator[Patched]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        lines = (f"{row.state:8} {row.target}{f' ({row.why})' if row.why else ''}" for row in self.rows)
        return "\n".join(lines) or "nothing is patched: capture is switched off"

    def _repr_html_(self) -> str:
        """Show the report in a notebook."""
        rows = [[row.state, row.target, row.why or ""] for row in self.rows]
        title = "converra" if rows else "converra: nothing is patched, capture is switched off"
        return notebook.table(title, ("state", "target", "why"), rows)
