"""What the recorder tells its user: what was patched, and what has become of the messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converra.integrations import Patched


class Report:
    """What `instrument()` did: one row for each patch point, which one can print."""

    def __init__(self, rows: list[Patched]) -> None:
        self.rows = rows

    @property
    def patched(self) -> list[Patched]:
        """What is captured now."""
        return [row for row in self.rows if row.state == "patched"]

    @property
    def waiting(self) -> list[Patched]:
        """What will be captured once it is imported."""
        return [row for row in self.rows if row.state == "waiting"]

    @property
    def skipped(self) -> list[Patched]:
        """What is not captured, and why."""
        return [row for row in self.rows if row.state == "skipped"]

    def __iter__(self) -> Iterator[Patched]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        lines = (f"{row.state:8} {row.target}{f' ({row.why})' if row.why else ''}" for row in self.rows)
        return "\n".join(lines) or "nothing is patched: capture is switched off"


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """What has become of the captured messages: captured = pending + delivered + rejected + dropped."""

    captured: int
    pending: int
    delivered: int
    rejected: int
    dropped: int
    duplicated_risk: int
    """Messages sent again although the API could not say whether it had stored them."""
    retries: int
    bytes: int
    """Bytes of request bodies that were sent."""
    last_error: str | None
    failures: int
    """Failures of our own code that were held back."""
