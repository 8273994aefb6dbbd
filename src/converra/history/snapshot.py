"""A request as it was when its call began."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from converra.history.record import Trail, atoms_of
from converra.history.turn import Dialect, Said

if TYPE_CHECKING:
    from converra.history.record import Atoms, Record
    from converra.history.turn import Answer, Request


NOTHING: dict[int, tuple[Atoms, ...]] = {}
"""What is known before anything was recorded."""


class View(msgspec.Struct, gc=False):
    """The messages of a request, and what its new ones said: later changes of the app's own list are not seen."""

    dialect: Dialect
    messages: Sequence[Any]
    looks: list[int]
    read: dict[int, tuple[Said, ...]]
    instructions: str | None
    previous: str | None
    version: int
    """Turns that were over when the call began, assembled or not: the version of the record that it could know."""
    trail: Trail | None
    """What the request extended then."""
    prefix: list[int]
    """The looks of that trail: they are not those of it any more when another call has moved it on."""
    weight: int
    """Characters of what was read."""
    model: str | None = None
    """The model that was asked for."""

    def said(self, index: int) -> tuple[Said, ...]:
        """What the message at `index` says; read now if the record knew it when the call began."""
        found = self.read.get(index)
        if found is None:
            found = self.read[index] = self.dialect.read(self.messages[index])
        return found

    def echo(self, answer: Answer) -> int | None:
        """The look that an answer will have when it is resent, where that can be told."""
        said = answer.said[0] if len(answer.said) == 1 else None
        return None if said is None else echo(self.dialect, said)

    def atoms(self, index: int, record: Record) -> tuple[Atoms, ...]:
        """The atoms of each thing that the message at `index` says."""
        look = self.looks[index]
        parts = record.known.get(look)
        if parts is None or index in self.read:
            parts = record.known[look] = tuple(map(atoms_of, self.said(index)))
        return parts


def echo(dialect: Dialect, said: Said) -> int | None:
    """The look of the message in which most apps will resend something that an assistant said."""
    if dialect.echo is None or said.role != "assistant" or said.attachments:
        return None
    return dialect.look((dialect.echo(said),))[0]


def freeze(
    record: Record | None,
    request: Request,
    looks: list[int] | None = None,
    turns: int | None = None,
    old: list[int] | None = None,
) -> View:
    """Look at every message (unless that was done already), and read those that are not known yet.

    The newest is read in any case: it is most probably new, even where it repeats something. While some of the
    `turns` so far are not in the record yet, the request of the last of them, as it looked, says what is `old`.
    There is no record as long as nothing was assembled.
    """
    messages = tuple(request.messages)
    if looks is None:
        looks = request.dialect.look(messages)
    known, version = (NOTHING, 0) if record is None else (record.known, record.version)
    turns = version if turns is None else turns
    trail: Trail | None = None
    prefix: list[int] = []
    start = 0
    if request.previous is None:
        if turns != version:
            if old and old == looks[: len(old)]:
                start = len(old)
                looks = old + looks[start:]  # equal, and the numbers are kept only once
        elif record is not None:
            trail, prefix = record.continued(looks)
            start = len(prefix)
            looks = prefix + looks[start:]  # as above
    newest = len(messages) - 1
    read, weight = {}, 0
    for index in range(start, newest + 1):
        if index == newest or looks[index] not in known:
            read[index] = parts = request.dialect.read(messages[index])
            for said in parts:
                weight += len(said.text)
                if said.calls or said.attachments or said.metadata:
                    weight += said.beside
    view = View(
        request.dialect, messages, looks, read, request.instructions, request.previous, turns, trail, prefix, weight
    )
    view.model = request.model
    return view
