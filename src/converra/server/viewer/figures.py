"""Numbers as a person reads them: times, sizes, counts and ages."""

from __future__ import annotations

_EXACT = 100_000
"""Counts from here on are rounded in narrow places."""
_UNITS = ((1_000, "k"), (1_000_000, "M"), (1_000_000_000, "G"))


def count(number: int) -> str:
    """A count in few characters: exact while it is short, then in thousands, millions and so on."""
    if number < _EXACT:
        return f"{number:,}"
    size, unit = next((each for each in _UNITS if number < each[0] * 999.5), _UNITS[-1])  # 1,000k is 1.0M
    scaled = number / size
    return f"{scaled:.1f}{unit}" if scaled < 99.95 else f"{scaled:,.0f}{unit}"  # noqa: PLR2004 - three digits


def duration(ms: float | None) -> str | None:
    """Milliseconds in the unit that a person would use; None where there are none."""
    if ms is None:
        return None
    if ms < 1000:  # noqa: PLR2004 - a second
        return f"{ms:.0f} ms" if ms >= 9.95 else f"{ms:.1f} ms"  # noqa: PLR2004 - fewer have a decimal
    return f"{ms / 1000:.1f} s" if ms < 60_000 else f"{ms / 60_000:.1f} min"  # noqa: PLR2004 - a minute


def size(count: int) -> str:
    """Bytes in the unit that a person would use."""
    if count < 1024:  # noqa: PLR2004 - a KB
        return f"{count} B"
    return f"{count / 1024:.1f} KB" if count < 1024 * 1024 else f"{count / 1024 / 1024:.1f} MB"


def ago(then_ms: int, now_ms: int) -> str:
    """Format an age."""
    seconds = max(0, now_ms - then_ms) // 1000
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds // length} {unit} ago"
    return "just now" if seconds < 10 else f"{seconds} s ago"  # noqa: PLR2004 - younger is now
