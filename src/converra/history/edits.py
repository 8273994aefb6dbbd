"""Texts of an assistant that come back edited: dressed otherwise, or with something appended."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

THOUGHT = "</think>"
OBSERVATION = "Observation"
_DRESS = dict.fromkeys(map(ord, " \t\r\n\"'`\\"))


def appended(recorded: str, resent: str) -> str | None:
    """Say what a resent text adds to a recorded one: "" if it is the same but for its dress, None if it is another.

    Dress is white space, quotes and their escapes, and thinking that was wrapped around it or cut out of it.
    """
    core, text = _strip_reasoning(recorded), _strip_reasoning(resent)
    if core and text.startswith(core):
        rest = text[len(core) :]
        if not rest or rest[0].isspace() or rest.startswith(OBSERVATION):  # else a word goes on: it is another text
            return rest.strip()
    bare = core.translate(_DRESS)
    return "" if bare and bare == text.translate(_DRESS) else None


def first_line(text: str) -> str:
    """What of a text is left whatever was done to its dress, or appended to it."""
    return _strip_reasoning(text).partition("\n")[0].translate(_DRESS)


def divided(text: str, replies: Iterable[tuple[int, str]]) -> tuple[list[str], list[int]]:
    """Cut what was appended where later replies stand in it: a scratchpad may hold many steps in one message.

    Gives the pieces between them, and the positions of those replies.
    """
    pieces, found = [], []
    for at, reply in replies:
        core = _strip_reasoning(reply)
        start = _line_start(text, core) if core else -1
        if start >= 0:
            pieces.append(text[:start].strip())
            found.append(at)
            text = text[start + len(core) :]
    return [piece for piece in (*pieces, text.strip()) if piece], found


def _line_start(text: str, core: str) -> int:
    """Where `core` stands in `text` as words of its own; -1 if nowhere."""
    start = text.find(core)
    while start >= 0:
        before, after = text[start - 1 : start], text[start + len(core) :][:1]
        if not before.strip() and not after.strip():
            return start
        start = text.find(core, start + 1)
    return -1


def _strip_reasoning(text: str) -> str:
    """Cut what stands before the end of the thinking."""
    return text.rpartition(THOUGHT)[2].strip()
