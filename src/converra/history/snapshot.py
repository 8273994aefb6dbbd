"""Snapshots: a request as it was when its call began, taken on the app's thread.

Taking one costs a fingerprint for each message, one comparison of lists, and the reading of the messages that are new.
The worker folds it into the record later, when the app may have changed its own list of messages. While an earlier call
is not folded yet, its request is compared with instead of the record; before the first fold there is no record at all.
"""

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
"""The match keys before anything was recorded."""


class Snapshot(msgspec.Struct, gc=False):
    """The messages of a request, with fingerprints, and the new ones read. The app may change its list afterwards."""

    dialect: Dialect
    messages: Sequence[Any]
    fingerprints: list[int]
    read: dict[int, tuple[SourceMessage, ...]]
    """Index of a message → the source messages that were read from it."""
    instructions: str | None
    previous: str | None
    version: int
    """Calls that had ended when this one began, folded or not: the version of the record that it could know."""
    known_prefix: KnownPrefix | None
    """The known prefix that the request extended then."""
    prefix: list[int]
    """The fingerprints of that prefix then. Another call that extends the prefix replaces its list by another."""
    weight: int
    """Characters of the source messages that were read."""
    model: str | None = None
    """The model that the request names."""

    def source(self, index: int) -> tuple[SourceMessage, ...]:
        """Return the source messages of the message at `index`; read it now if it was known when the call began."""
        found = self.read.get(index)
        if found is None:
            found = self.read[index] = self.dialect.read(self.messages[index])
        return found

    def echo(self, answer: Answer) -> int | None:
        """Return the fingerprint that an answer will have when it is resent; None if it cannot be foretold."""
        source = answer.messages[0] if len(answer.messages) == 1 else None
        return None if source is None else echo(self.dialect, source)

    def match_keys(self, index: int, record: Record) -> tuple[MatchKeys, ...]:
        """Return the match keys of each source message of the message at `index`."""
        fingerprint = self.fingerprints[index]
        parts = record.match_keys.get(fingerprint)
        if parts is None or index in self.read:
            parts = record.match_keys[fingerprint] = tuple(map(match_keys_of, self.source(index)))
        return parts


def echo(dialect: Dialect, source: SourceMessage) -> int | None:
    """Return the fingerprint of the message in which most apps will resend a reply; None if it cannot be foretold."""
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
    """Fingerprint every message of a request, unless that is done, and read the last and those not recorded yet.

    `turns` counts the calls that have ended, by default those folded; `old`: fingerprints of the last one's request.
    """
    messages = tuple(request.messages)
    if fingerprints is None:
        fingerprints = request.dialect.fingerprint(messages)
    known, version = (NOTHING, 0) if record is None else (record.match_keys, record.version)
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
    newest = len(messages) - 1  # read in any case: most probably new, even if it repeats an earlier message
    read, weight = {}, 0
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
