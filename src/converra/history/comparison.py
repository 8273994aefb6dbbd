"""Comparison of texts: the longest common subsequence of two lists of them, and a text with its edited copy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

# -- two lists -------------------------------------------------------------------------------------------------------


def lcs(old: Sequence[Hashable], new: Sequence[Hashable]) -> dict[int, int]:
    """Find a longest common subsequence of two short sequences; matches are as late in `old` as possible.

    One row of the textbook's table is one Python integer (Hyyrö 2004), so 400 against 400 items take a fraction of a
    millisecond. Not `difflib`: it finds contiguous blocks first, and may miss a longer match around them.

    Returns:
        Index in `new` → index in `old`.

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


# -- a text and its edited copy --------------------------------------------------------------------------------------
#
# Frameworks resend an assistant's text edited: they trim or quote it, cut its reasoning out, or (ReAct agents) append
# the result of a tool to it.

REASONING_END = "</think>"
OBSERVATION = "Observation"
"""A ReAct agent puts it before a tool's result, without white space in some prompts."""

_FORMATTING = dict.fromkeys(map(ord, " \t\r\n\"'`\\"))


def appended(recorded: str, resent: str) -> str | None:
    """Return what a resent text adds to a recorded one: "" if only formatting differs, None if it is another text.

    Formatting is white space, quotes, backslashes, and reasoning before the text.
    """
    core, text = _strip_reasoning(recorded), _strip_reasoning(resent)
    if core and text.startswith(core):
        rest = text[len(core) :]
        if not rest or rest[0].isspace() or rest.startswith(OBSERVATION):  # else its last word continues: another text
            return rest.strip()
    bare = core.translate(_FORMATTING)
    return "" if bare and bare == text.translate(_FORMATTING) else None


def first_line(text: str) -> str:
    """Return the part of a text that formatting and appended text leave unchanged."""
    return _strip_reasoning(text).partition("\n")[0].translate(_FORMATTING)


def divided(text: str, replies: Iterable[tuple[int, str]]) -> tuple[list[str], list[int]]:
    """Divide an appended text at the later replies that it contains: a scratchpad holds many steps in one message.

    Args:
        text: What was appended to a recorded text.
        replies: Position and text of the replies that were recorded after it, in order.

    Returns:
        The pieces between the replies, and the positions of those replies that were found.

    """
    pieces, found = [], []
    for position, reply in replies:
        core = _strip_reasoning(reply)
        start = _find_whole_words(text, core) if core else -1
        if start >= 0:
            pieces.append(text[:start].strip())
            found.append(position)
            text = text[start + len(core) :]
    return [piece for piece in (*pieces, text.strip()) if piece], found


def _find_whole_words(text: str, core: str) -> int:
    """Find `core` in `text` with white space, or nothing, around it; -1 if it is not there."""
    start = text.find(core)
    while start >= 0:
        before, after = text[start - 1 : start], text[start + len(core) :][:1]
        if not before.strip() and not after.strip():
            return start
        start = text.find(core, start + 1)
    return -1


def _strip_reasoning(text: str) -> str:
    """Cut the reasoning before a text, and the white space around it."""
    return text.rpartition(REASONING_END)[2].strip()
