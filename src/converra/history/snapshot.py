"""A request as it was when its call began."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from converra.history.record import KnownPrefix, match_keys_of
from converra.history.turn import Dialect, SourceMessage

if TYPE_CHECKING:
    from converra.history.record import MatchKeys, Record
    from converra.history.turn import Answer, Request


NOTHING: dict[int, tuple[MatchKeys, ...]] = {}
"""What is known before anything was recorded."""


class Snapshot(msgspec.Struct, gc=False):
    """The messages of a request, and what its new ones said: later changes of the app's own list are not seen."""

    dialect: Dialect
    messages: Sequence[Any]
    fingerprints: list[int]
    read: dict[int, tuple[SourceMessage, ...]]
    instructions: str | None
    previous: str | None
    version: int
    """Turns that were over when the call began, assembled or not: the version of the record that it could know."""
    known_prefix: KnownPrefix | None
    """What the request extended then."""
    prefix: list[int]
    """The looks of that trail: they are not those of it any more when another call has moved it on."""
    weight: int
    """Characters of what was read."""
    model: str | None = None
    """The model that was asked for."""

    def source(self, index: int) -> tuple[SourceMessage, ...]:
        """What the message at `index` says; read now if the record knew it when the call began."""
        found = self.read.get(index)
        if found is None:
            found = self.read[index] = self.dialect.read(self.messages[index])
        return found

    def echo(self, answer: Answer) -> int | None:
        """The look that an answer will have when it is resent, where that can be told."""
        source = answer.messages[0] if len(answer.messages) == 1 else None
        return None if source is None else echo(self.dialect, source)

    def match_keys(self, index: int, record: Record) -> tuple[MatchKeys, ...]:
        """The atoms of each thing that the message at `index` says."""
        fingerprint = self.fingerprints[index]
        parts = record.known.get(fingerprint)
        if parts is None or index in self.read:
            parts = record.known[fingerprint] = tuple(map(match_keys_of, self.source(index)))
        return parts


def echo(dialect: Dialect, source: SourceMessage) -> int | None:
    """The look of the message in which most apps will resend something that an assistant said."""
    if dialect.echo is None or source.role != "assistant" or source.attachments:
        return None
    return dialect.fingerprint((dialect.echo(source),))[0]


def take_snapshot(
    record: Record | None,
    request: Request,
    fingerprints: list[int] | None = None,
    turns: int | None = None,
    old: list[int] | None = None,
) -> Snapshot:
    """Look at every message (unless that was done already), and read those that are not known yet.

    The newest is read in any case: it is most probably new, even where it repeats something. While some of the
    `turns` so far are not in the record yet, the request of the last of them, as it looked, says what is `old`.
    There is no record as long as nothing was assembled.
    """
    messages = tuple(request.messages)
    fingerprints = request.dialect.fingerprint(messages) if fingerprints is None else fingerprints
    known, version = (NOTHING, 0) if record is None else (record.known, record.version)
    turns = version if turns is None else turns
    known_prefix: KnownPrefix | None = None
    prefix: list[int] = []
    start = 0
    if request.previous is None:
        if turns != version:
            if old and old == fingerprints[: len(old)]:
                start = len(old)
                fingerprints = old + fingerprints[start:]  # equal, and the numbers are kept only once
        elif record is not None:
            known_prefix, prefix = record.continued(fingerprints)
            start = len(prefix)
            fingerprints = prefix + fingerprints[start:]  # as above
    newest, read, weight = len(messages) - 1, {}, 0
    for index in range(start, newest + 1):
        if index == newest or fingerprints[index] not in known:
            read[index] = parts = request.dialect.read(messages[index])
            for source in parts:
                weight += len(source.text)
                if source.calls or source.attachments or source.metadata:
                    weight += source.beside
    return Snapshot(
        request.dialect,
        messages,
        fingerprints,
        read,
        request.instructions,
        request.previous,
        turns,
        known_prefix,
        prefix,
        weight,
        request.model,
    )
