"""How well a request continues a conversation, for choosing among several."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from converra.history.alignment import Alignment
from converra.history.record import KEYED, REPLY
from converra.history.snapshot import take_snapshot

if TYPE_CHECKING:
    from converra.history.record import Record
    from converra.history.turn import Request


class Overlap(NamedTuple):
    """How much of what was answered so far a request and a record have in common; compared in this order."""

    shared: int
    """Replies, tool calls and tool results of the request that are recorded; 0 where none of them was given here.

    Chats that open with the same greeting, or the same examples, have nothing in common by that.
    """
    beyond: int
    """Minus the replies that are recorded and that the request does not know of."""
    retried: bool
    """The request is the very one that failed last."""


def overlap(record: Record, request: Request, fingerprints: list[int]) -> Overlap:
    """Say how well a request continues a conversation, without recording anything."""
    trial = Alignment(record, take_snapshot(record, request, fingerprints))
    prefix = trial.prefix_replies()
    shared = prefix + sum(item.kind in (REPLY, KEYED) and item.is_old for item in trial.items) if trial.answers() else 0
    known = prefix + sum(item.kind == REPLY and item.at is not None for item in trial.items)
    return Overlap(
        shared,
        known - sum(recorded_texts.assistant for recorded_texts in record.recorded_texts),
        record.failed_fingerprints == fingerprints,
    )
