"""Dead messages: those that the API rejected, kept in the engine until they are sent again or dropped."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from converra.delivery.fleet import entry
from converra.delivery.fleet.engine import Parcels
from converra.delivery.fleet.ledger import Ledger
from converra.delivery.header import Header

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from converra.delivery.fleet.engine import Engine

AT_ONCE = 1_000
"""Most dead messages of a lane that are read."""


class DeadMessage(msgspec.Struct, kw_only=True):
    """A message that the API rejected, with all that is needed to send it again."""

    key: str
    prompt_id: str
    header: Header | None = None
    writer: str = ""
    raw: bytes = b""
    """The message in the API's JSON; an entry that cannot be read, as it was."""
    reason: str
    at: float
    """When it was set aside, in seconds since the epoch."""
    readable: bool = True

    def message(self) -> Any:
        """Decode the message; None if it cannot be read."""
        try:
            return msgspec.json.decode(self.raw)
        except msgspec.DecodeError:
            return None


class Dead(NamedTuple):
    """A dead message and its place in the engine."""

    lane: int
    id: str
    message: DeadMessage


def encode(message: DeadMessage) -> bytes:
    """Encode a dead message."""
    return msgspec.msgpack.encode(message)


def find(engine: Engine, ids: Collection[str] = ()) -> Iterator[Dead]:
    """Yield dead messages: those with these ids, or all. Raises AwayError."""
    for lane in range(engine.lanes()):
        for number, raw in engine.dead(lane, AT_ONCE).items():
            if not ids or number in ids:
                yield Dead(lane, number, msgspec.msgpack.decode(raw, type=DeadMessage))


class UnreadableError(Exception):
    """An entry that this version cannot read, so that it cannot be sent again."""


def retry(engine: Engine, found: Dead) -> None:
    """Hand a message over again, to its conversation; one that is completed continues in a further one.

    It is removed only afterwards: after a crash in between it is both sent and still listed.

    Raises:
        UnreadableError: It cannot be read.
        AwayError: The engine is away.

    """
    one = _entry(engine, found) if found.message.readable else _read(found)
    one.producer, one.number = os.urandom(8).hex(), 1  # with its own number it would count as handed over twice
    (error,) = engine.hand_over([Parcels(found.lane, one.producer, [entry.encode(one)])])
    if error is not None:
        raise error
    engine.bury(found.lane, [found.id])


def _read(found: Dead) -> entry.Entry:
    """Read an entry that another version could not read."""
    try:
        return entry.decode(found.message.raw)
    except msgspec.DecodeError as error:
        raise UnreadableError(f"{found.id} cannot be read by this version: {error}") from error


def _entry(engine: Engine, found: Dead) -> entry.Entry:
    message, now = found.message, time.time()
    (kept,) = engine.load([(found.lane, message.key)])
    ended = kept is None or msgspec.msgpack.decode(kept.ledger, type=Ledger).ended
    return entry.Entry(
        key=message.key,
        prompt_id=message.prompt_id,
        producer="",
        number=0,
        at=now,
        messages=[entry.Packed(message.raw, found.id, now)],
        header=message.header,
        writer=message.writer,
        ended=ended,
    )
