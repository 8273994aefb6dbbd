"""The longest common subsequence of two short sequences, by bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence


def lcs(old: Sequence[Hashable], new: Sequence[Hashable]) -> dict[int, int]:
    """Index in `new` → index in `old`, of a longest common subsequence; matches are as late in `old` as they can be.

    One row of the classic table is one Python integer (Hyyrö 2004), so 400 against 400 takes a fraction of a
    millisecond. `difflib` finds contiguous blocks first and may miss a longer match around them.
    """
    bits: dict[Hashable, int] = {}
    for i, key in enumerate(reversed(old)):
        bits[key] = bits.get(key, 0) | (1 << i)
    full = (1 << len(old)) - 1
    row = full
    rows = []
    for key in reversed(new):
        hit = row & bits.get(key, 0)
        row = ((row + hit) | (row - hit)) & full
        rows.append(row)
    pairs = _trace(rows, full, len(old))
    return {len(new) - 1 - j: len(old) - 1 - i for j, i in pairs.items()}


def _trace(rows: list[int], full: int, width: int) -> dict[int, int]:
    """Walk back through the rows; a zero bit marks a column where the common part grew."""
    pairs: dict[int, int] = {}
    column, row = width, len(rows)
    while column and row:
        mark = 1 << (column - 1)
        if rows[row - 1] & mark:
            column -= 1
            continue
        row -= 1
        above = rows[row - 1] if row else full
        if above & mark:
            column -= 1
            pairs[row] = column
    return pairs
