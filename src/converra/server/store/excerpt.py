"""Where a text says what was looked for: the same words that the index finds, in a few words of what is around."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_WORD = re.compile(r"[^\W_]+")
_BEFORE = 40
_LENGTH = 160

Piece = tuple[str, bool]
"""Some text, and whether it was looked for."""


def excerpt(text: str, q: str) -> list[Piece]:
    """A line around the first of the words, cut into what was looked for and what was not."""
    wanted = [_plain(word[0]) for word in _WORD.finditer(q)]
    hits: list[tuple[int, int]] = []
    for word in _WORD.finditer(text):
        if hits and word.start() > hits[0][0] + _LENGTH:  # what follows is not shown
            break
        if _is_wanted(_plain(word[0]), wanted):
            hits.append(word.span())
    if not hits:
        return []
    start = max(0, hits[0][0] - _BEFORE)
    end = start + _LENGTH
    pieces: list[Piece] = [("…", False)] if start else []
    at = start
    for left, right in hits:
        if right > end:
            break
        pieces += [(text[at:left], False), (text[left:right], True)]
        at = right
    pieces.append((text[at:end] + ("…" if end < len(text) else ""), False))
    return [(" ".join(f"[{words}]".split())[1:-1], hit) for words, hit in pieces if words]


def _is_wanted(word: str, wanted: Sequence[str]) -> bool:
    return word in wanted or word.startswith(tuple(wanted[-1:]))


def _plain(word: str) -> str:
    """Without case and accents, as the index has it."""
    if word.isascii():
        return word.lower()
    folded = unicodedata.normalize("NFKD", word.casefold())
    return "".join(character for character in folded if not unicodedata.combining(character))
