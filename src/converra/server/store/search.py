"""Walks through the messages that have some words, newest first, only as far as somebody wants to know.

The index hands out its hits by number, and a message's number begins with its conversation's. So the newest
conversations come first without sorting, and hits that are on no page cost nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from converra.server.store.database import Database

PLACE_BITS = 20
"""Bits of a message's number that hold its place in the conversation; the rest is the conversation's number."""

FAR = 100
"""Unwanted conversations in a row after which another query skips them; fewer are stepped over."""

_HITS = "SELECT rowid FROM message_text WHERE message_text MATCH ? AND rowid < ? ORDER BY rowid DESC"
_END = 1 << 62


class Asked:
    """The conversations that other filters let through; None: all.

    `hits` counts the messages with the words that were read meanwhile.
    """

    def __init__(self, numbers: Sequence[int] | None) -> None:
        self.hits: int = 0
        self._ascending = numbers
        self._all = None if numbers is None else frozenset(numbers)

    def __contains__(self, number: int) -> bool:
        return self._all is None or number in self._all

    def below(self, number: int) -> int | None:
        """The newest before a number."""
        if self._ascending is None:
            return number - 1
        place = bisect_left(self._ascending, number)
        return self._ascending[place - 1] if place else None


def conversations(store: Database, words: str, asked: Asked) -> Generator[tuple[int, int]]:
    """The numbers of conversations with these words, newest first, each with its first message that has them.

    `words` is in the language of the index.
    """
    skips = not words.endswith("*")  # for the beginning of a word the index collects all hits ahead of the first
    before: int | None = _END
    while before is not None:
        with closing(_part(store, words, asked, before, skips=skips)) as part:
            before = yield from part


def _part(
    store: Database, words: str, asked: Asked, before: int, *, skips: bool
) -> Generator[tuple[int, int], None, int | None]:
    """Until the next conversation that was asked for is far: returns where to go on, or None at the end."""
    current = place = 0
    with closing(store.each(_HITS, (words, before))) as hits:
        for (hit,) in hits:
            asked.hits += 1
            number = hit >> PLACE_BITS
            if number != current:
                if current and current in asked:
                    yield current, place
                current = number
                following = number if number in asked else asked.below(number)
                if following is None:
                    return None
                if skips and number - following > FAR:
                    return (following + 1) << PLACE_BITS
            place = hit
    if current and current in asked:
        yield current, place
    return None
