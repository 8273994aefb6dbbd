"""A request as it was when its call began."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from converra.conversation.record import Trail, atoms_of
from converra.conversation.turn import Dialect, Said

if TYPE_CHECKING:
    from converra.conversation.record import Atoms, Record
    from converra.conversation.turn import Request


class View(msgspec.Struct, kw_only=True):
    """The messages of a request, and what its new ones said: later changes of the app's own list are not seen."""

    dialect: Dialect
    messages: Sequence[Any]
    looks: list[int]
    read: dict[int, tuple[Said, ...]]
    instructions: str | None
    previous: str | None
    version: int
    """The record's, when the call began."""
    trail: Trail | None
    """What the request extended then."""
    prefix: list[int]
    """The looks of that trail: they are not those of it any more when another call has moved it on."""

    def said(self, index: int) -> tuple[Said, ...]:
        """What the message at `index` says; read now if the record knew it when the call began."""
        found = self.read.get(index)
        if found is None:
            found = self.read[index] = self.dialect.read(self.messages[index])
        return found

    def atoms(self, index: int, record: Record) -> tuple[Atoms, ...]:
        """The atoms of each thing that the message at `index` says."""
        look = self.looks[index]
        parts = record.known.get(look)
        if parts is None or index in self.read:
            parts = record.known[look] = tuple(map(atoms_of, self.said(index)))
        return parts


def freeze(record: Record, request: Request, looks: list[int] | None = None) -> View:
    """Look at every message (unless that was done already), and read those that are not known yet.

    The newest is read in any case: it is most probably new, even where it repeats something.
    """
    messages, version = tuple(request.messages), record.version
    if looks is None:
        looks = request.dialect.look(messages)
    trail, prefix = record.continued(looks) if request.previous is None else (None, [])
    known, read, newest = record.known, request.dialect.read, len(messages) - 1
    return View(
        dialect=request.dialect,
        messages=messages,
        looks=looks,
        read={i: read(messages[i]) for i in range(len(prefix), newest + 1) if i == newest or looks[i] not in known},
        instructions=request.instructions,
        previous=request.previous,
        version=version,
        trail=trail,
        prefix=prefix,
    )
