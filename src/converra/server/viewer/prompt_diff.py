"""Line-by-line difference of two system prompts, in a bounded number of steps.

`difflib` compares each line with every line like it, again for each match that it finds: prompts of 90 KB whose lines
repeat took it seconds. Here lines that both begin and end with are left out first, and steps are counted; where there
are too many, the page says how much has changed instead.
"""

from __future__ import annotations

import difflib
from functools import lru_cache
from itertools import accumulate, islice, takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

STEPS = 2_000
"""Steps that any two prompts may take, …"""

STEPS_PER_LINE = 64
"""… those for each of their lines, …"""

MOST_STEPS = 500_000
"""… and those of the longest prompts; a step is less than a tenth of a microsecond."""

MOST_LINES = 1_000
"""Longer changes are no help to anybody."""

_KEPT = 64


class _TooDifferentError(Exception):
    """The comparison would take too long, or show too much."""


@lru_cache(maxsize=_KEPT)
def changes(before: str, after: str) -> str:
    """The changes as hunks of a unified diff with one line around each; a sentence where that takes too long.

    Kept for pairs that were compared lately: an open page asks again with each message.
    """
    old, new = before.splitlines(), after.splitlines()
    try:
        lines = list(islice(_hunks(old, new), MOST_LINES + 1))
        if len(lines) <= MOST_LINES:
            return "\n".join(lines)
    except _TooDifferentError:
        lines = []
    return f"{len(old):,} lines became {len(new):,}: too much of it is different to be shown here"


def _hunks(old: Sequence[str], new: Sequence[str]) -> Iterator[str]:
    """One line of context is kept at both ends, and numbers count from the beginning of the prompt."""
    start = max(0, _alike(old, new) - 1)
    cut = max(0, _alike(old[start:][::-1], new[start:][::-1]) - 1)
    kept_old, kept_new = old[start : len(old) - cut], new[start : len(new) - cut]
    matcher = _Matcher(kept_old, kept_new)
    for group in matcher.get_grouped_opcodes(1):
        (_, from_old, _, from_new, _), (_, _, to_old, _, to_new) = group[0], group[-1]
        yield f"@@ -{_span(start + from_old, start + to_old)} +{_span(start + from_new, start + to_new)} @@"
        for kind, first, last, new_first, new_last in group:
            if kind == "equal":
                yield from (f" {line}" for line in kept_old[first:last])
                continue
            yield from (f"-{line}" for line in kept_old[first:last])
            yield from (f"+{line}" for line in kept_new[new_first:new_last])


def _alike(old: Sequence[str], new: Sequence[str]) -> int:
    """Count the leading lines that both share."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False)))


def _span(start: int, end: int) -> str:
    """Lines as a unified diff numbers them."""
    if end - start == 1:
        return str(start + 1)
    return f"{start + (end > start)},{end - start}"


class _Matcher(difflib.SequenceMatcher[str]):
    """Counts ahead what each search for the longest match will take."""

    def __init__(self, old: Sequence[str], new: Sequence[str]) -> None:
        super().__init__(None, old, new)
        where: dict[str, list[int]] = self.b2j  # type: ignore[attr-defined]  # documented, and missing in the stubs
        self._until = list(accumulate((1 + len(where.get(line, ())) for line in old), initial=0))
        self._left = min(MOST_STEPS, STEPS + STEPS_PER_LINE * (len(old) + len(new)))

    def find_longest_match(
        self, alo: int = 0, ahi: int | None = None, blo: int = 0, bhi: int | None = None
    ) -> difflib.Match:
        """As in `difflib`."""
        end = len(self._until) - 1 if ahi is None else ahi
        self._left -= self._until[end] - self._until[alo]
        if self._left < 0:
            raise _TooDifferentError
        return super().find_longest_match(alo, ahi, blo, bhi)
