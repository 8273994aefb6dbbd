"""Reports for the user: which patch points are active, and what has become of the captured messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import msgspec

from converra.process.guard import caught

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converra.delivery.delivery import DeliveryStats
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


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """Counters of captured messages: captured = pending + delivered + rejected + dropped."""

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
    """Exceptions of converra itself that were held back from the app."""

    @classmethod
    def of(cls, delivery: DeliveryStats) -> Self:
        """Add the totals to the counters of a delivery."""
        return cls(
            captured=delivery.pending + delivery.delivered + delivery.rejected + delivery.dropped,
            pending=delivery.pending,
            delivered=delivery.delivered,
            rejected=delivery.rejected,
            dropped=delivery.dropped,
            duplicated_risk=delivery.duplicated_risk,
            retries=delivery.retries,
            bytes=delivery.bytes,
            last_error=delivery.last_error,
            failures=caught(),
        )
