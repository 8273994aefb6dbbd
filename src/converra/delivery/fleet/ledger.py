"""One conversation as the engine keeps it, and as the holder of its lane has it in memory.

The engine has the ledger, saved before each request and after it, and the entries that are not done. From both, another
process continues exactly where the last one stopped. An entry is done when each message in it is delivered, rejected or
withheld, and when its end and its metadata are in the ledger.
"""

from __future__ import annotations

import hashlib
import math
import time
from bisect import insort
from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from converra.delivery.fleet.entry import Entry, Packed
from converra.delivery.header import Header
from converra.delivery.protocol import joining
from converra.delivery.protocol.added import is_the_apps
from converra.delivery.protocol.entry import EncodedMessage, entry_text
from converra.delivery.protocol.entry import entry as encoded
from converra.delivery.protocol.progress import Progress, State
from converra.wire.models import Message

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_PRODUCERS = 64
"""Producers of one conversation whose last entry is remembered."""

MAX_DIGESTS = 64
"""Signatures and digests of a shared session that are remembered, the latest."""

_rows = count(1)
"""Numbers of messages in this process: `EncodedMessage.row`."""

_GONE = 0
"""In the place of such a number: the message is dealt with, and the next holder must know it as well."""


class Ledger(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The saved part of a conversation; a later version must read what an earlier one wrote.

    Defaults are left out: the engine keeps hundreds of thousands of these.
    """

    header: Header
    writer: str = ""
    state: State | None = None
    done: dict[str, int] = {}
    """By producer, the number of its last entry that is done."""
    gone: list[str] = []
    """Ids of messages that are dealt with, of entries that are not done."""
    pieces: dict[str, list[Packed]] = {}
    """Messages that were split for this API, by the id of the whole."""
    ended: bool = False
    always: bool = False
    touched: float = 0.0
    """When something was recorded last, in seconds since the epoch."""
    producer: str = ""
    """The process that recorded that."""
    opener: str = ""
    """Of a shared session: the process whose entry came first."""
    joined: bool = False
    """Of a shared session: another process has recorded something in it."""
    signatures: list[str] = []
    """Of a shared session: the signatures of what the opener already knew; see `protocol/joining.py`."""
    systems: list[str] = []
    """Of a shared session: digests of its system messages."""


class Taken(msgspec.Struct, kw_only=True):
    """An entry that was read and is not done."""

    id: str
    producer: str
    number: int
    rows: list[tuple[int, str]]
    """Number and id of each of its messages."""
    size: int
    ends: bool = False
    """It ends the conversation: done once that is completed."""
    carries: bool = False
    """Metadata is to be delivered even if no message follows: done once it is."""


class Unsaved(NamedTuple):
    """Changes besides the ledger that belong to one save; the fields are those of `Held`."""

    done: dict[str, list[str]]
    dead: dict[str, tuple[bytes, str]]
    counts: dict[str, int]


class Held:
    """A conversation of a lane that this process holds.

    A worker may save it while another one takes entries in: `RelayOutbox` has a lock for that.
    """

    def __init__(self, lane: Any, key: str, ledger: Ledger) -> None:
        self.lane: Any = lane
        """The `Lane` that it belongs to."""
        self.key: str = key
        self.ledger: Ledger = ledger
        self.progress: Progress = Progress(ledger.header, ledger.writer, ledger.state)
        self.progress.lane = lane.number
        self.progress.first_id = self.progress.state.id
        self.progress.ended, self.progress.always = ledger.ended, ledger.always
        self.taken: deque[Taken] = deque()
        self.numbers: dict[str, int] = dict(ledger.done)
        """By producer, the number of its last entry that was read."""
        self.done: dict[str, list[str]] = {}
        """Ids of entries to acknowledge with the next save."""
        self.dead: dict[str, tuple[bytes, str]] = {}
        """Rejected messages to set aside with the next save, with the reasons."""
        self.counts: dict[str, int] = {}
        """Messages delivered and rejected since the last save."""
        self.late: list[tuple[float, EncodedMessage]] = []
        """Messages of a shared session that came while a request of it was under way."""
        self._latest: dict[str, float] = {}
        """By producer, the time of its last entry: its own order holds whatever its clock does."""
        self.looked_at: float = 0.0
        """When it was found idle, in seconds since the epoch."""
        self.dirty: bool = False
        """It has changed since it was saved."""
        self.quiet_until: float = 0.0
        """Monotonic time until which a request of an earlier holder may still be stored."""
        self.inherited: bool = True
        """Entries of an earlier holder are still being read: a request under way may be about them."""

    # -- taking in -----------------------------------------------------------------------------------------------------

    def take(self, number: str, one: Entry, clock: float, size: int) -> int:
        """Take in an entry, read with the id `number`; return how many of its messages are withheld.

        Args:
            number: Id of the entry in its lane.
            one: The entry.
            clock: Difference of the epoch's clock to the monotonic clock, in seconds.
            size: Bytes that it takes.

        """
        self.dirty = True
        if one.number <= self.numbers.get(one.producer, 0):  # handed over twice
            self.done.setdefault(one.producer, []).append(number)
            return 0
        self.numbers[one.producer] = one.number
        ledger, progress = self.ledger, self.progress
        gone = set(ledger.gone)
        messages = [packed for packed in one.messages if packed.id not in gone]
        if progress.state.closed and progress.ended and messages:  # it continues in a further conversation
            progress.ended = ledger.ended = False
        rows = [(_GONE, packed.id) for packed in one.messages if packed.id in gone]
        before = progress.received
        rows += [(self._take_message(packed, one, clock), packed.id) for packed in messages]
        self.taken.append(
            Taken(
                id=number,
                producer=one.producer,
                number=one.number,
                rows=rows,
                size=size,
                ends=one.ended,
                carries=one.carry,
            )
        )
        notes = [metadata for metadata in (self._of_joiner(one), one.notes) if metadata]
        progress.notes.extend((0, metadata, is_the_apps(metadata)) for metadata in notes)
        progress.ended, progress.always = progress.ended or one.ended, progress.always or one.always
        ledger.touched, ledger.producer = max(ledger.touched, one.at), one.producer
        recorded = sum(packed.whole for packed in messages if packed.id not in self.dead)
        return max(0, recorded - (progress.received - before))

    def _of_joiner(self, one: Entry) -> dict[str, Any]:
        """Return what is new in the metadata with which a process other than the opener joins the conversation."""
        if one.header is None or one.header is self.ledger.header:
            return {}
        known = self.progress.state.annotations
        return {name: value for name, value in one.header.metadata.items() if known.get(name) != value}

    def _take_message(self, packed: Packed, one: Entry, clock: float) -> int:
        """Take in one message of an entry; return its number, or `_GONE` if it is withheld or dead."""
        since = self._since(packed.at - clock, one.producer)
        try:
            message = self._kept(packed, one, since)
        except msgspec.DecodeError as error:
            self.dead[packed.id] = packed.raw, f"it cannot be read: {error}"
            return _GONE
        if message is None:
            return _GONE
        row = next(_rows)
        self._enter(since, self._parts(packed, message, row, since))
        return row

    def _since(self, at: float, producer: str) -> float:
        """Return a time of the monotonic clock that is not in the future, nor before the producer's last message."""
        since = self._latest[producer] = max(min(at, time.monotonic()), self._latest.get(producer, 0.0))
        return since

    def _kept(self, packed: Packed, one: Entry, since: float) -> EncodedMessage | None:
        """Encode a message, unless another process of its session has recorded it."""
        message = unpacked(packed, since)
        if not self.ledger.header.shared:
            return message
        ledger = self.ledger
        ledger.opener = ledger.opener or one.producer
        opens = one.producer == ledger.opener
        ledger.joined = ledger.joined or not opens
        if message.already_known:
            if ledger.joined:  # the process that recorded it sends it
                return None
            ledger.signatures = [*ledger.signatures, joining.signature(message)][-MAX_DIGESTS:]
        elif not opens and joining.signature(message) in ledger.signatures:
            return None
        if message.role == "system":
            digest = hashlib.blake2b(entry_text(message).encode(), digest_size=8).hexdigest()
            if not opens and digest in ledger.systems:
                return None
            ledger.systems = [*ledger.systems, digest][-MAX_DIGESTS:]
        return message

    def _parts(self, packed: Packed, message: EncodedMessage, row: int, since: float) -> list[EncodedMessage]:
        """Return a message, or those of its parts that are not delivered, if an earlier holder has split it."""
        parts = self.ledger.pieces.get(packed.id)
        if parts is None:
            return [msgspec.structs.replace(message, row=row)]
        return [msgspec.structs.replace(unpacked(part, since), row=-row) for part in parts]

    def _enter(self, since: float, messages: list[EncodedMessage]) -> None:
        progress = self.progress
        progress.received += sum(message.whole for message in messages)
        if not progress.header.shared:
            progress.arrived.extend((since, message) for message in messages)
        elif progress.held:
            self.late.extend((since, message) for message in messages)
        else:
            for message in messages:
                self._insert(since, message)

    def _insert(self, since: float, message: EncodedMessage) -> None:
        """Put a message of a shared session behind those that were recorded before it, on whichever machine."""
        waiting = list(self.progress.arrived)
        insort(waiting, (since, message), key=lambda item: item[0])
        self.progress.arrived = deque(waiting)

    def take_late(self) -> bool:
        """Put what came during a request into its place; return True if there was anything."""
        if not self.late or self.progress.held:
            return False
        for since, message in self.late:
            self._insert(since, message)
        self.late = []
        return True

    def all_read(self) -> None:
        """Restore the request that an earlier holder had under way: its messages come first, in its order."""
        self.inherited = False
        state = self.progress.state
        step = state.unsettled or state.opening
        if step is None:
            return
        order = {number: at for at, number in enumerate(step.ids)}
        arrived = sorted(self.progress.arrived, key=lambda item: order.get(item[1].id, len(order)))
        self.progress.arrived = deque(arrived)
        found = sum(message.id in order for _, message in arrived)
        if state.unsettled is not None:
            state.unsettled = msgspec.structs.replace(state.unsettled, entries=found)
        elif state.opening is not None:
            state.opening = msgspec.structs.replace(state.opening, entries=found)

    # -- saving --------------------------------------------------------------------------------------------------------

    def settle(self) -> int:
        """Bring the ledger up to date, and find the entries that are done; return the bytes that they took."""
        progress, ledger = self.progress, self.ledger
        waiting = {abs(message.row) for message in progress.entries}
        waiting.update(abs(message.row) for _, message in progress.arrived)
        waiting.update(abs(message.row) for _, message in self.late)
        asked = progress.carry_at < math.inf or progress.state.unsettled is not None
        carrying = asked and progress.owes
        size, left = 0, deque[Taken]()
        for taken in self.taken:
            unsent = (taken.ends and not self.over) or (taken.carries and carrying)
            if progress.notes or unsent or any(row in waiting for row, _ in taken.rows):
                left.append(taken)
            else:
                self.done.setdefault(taken.producer, []).append(taken.id)
                size += taken.size
                if not any(other.producer == taken.producer for other in left):
                    ledger.done.pop(taken.producer, None)  # the latest goes to the end
                    ledger.done[taken.producer] = taken.number
        self.taken = left
        while len(ledger.done) > MAX_PRODUCERS:
            del ledger.done[next(iter(ledger.done))]
        ledger.gone = [number for taken in left for row, number in taken.rows if row not in waiting]
        ledger.pieces = self._pieces(left)
        ledger.state, ledger.writer = progress.state, progress.writer
        ledger.ended, ledger.always = progress.ended, progress.always
        return size

    def take_out(self) -> Unsaved:
        """Return what the next save is to do, and forget it."""
        unsaved = Unsaved(self.done, self.dead, self.counts)
        self.done, self.dead, self.counts, self.dirty = {}, {}, {}, False
        return unsaved

    def put_back(self, unsaved: Unsaved) -> None:
        """Do with a later save what this one could not do."""
        self.done = {
            producer: [*unsaved.done.get(producer, ()), *self.done.get(producer, ())]
            for producer in unsaved.done.keys() | self.done.keys()
        }
        self.dead = unsaved.dead | self.dead
        for name, count_ in unsaved.counts.items():
            self.counts[name] = self.counts.get(name, 0) + count_
        self.dirty = True

    def _pieces(self, left: Iterable[Taken]) -> dict[str, list[Packed]]:
        ids = {row: number for taken in left for row, number in taken.rows}
        found: dict[str, list[Packed]] = {}
        for message in (*self.progress.entries, *(each for _, each in self.progress.arrived)):
            if message.row < 0 and -message.row in ids:
                at = self.ledger.touched
                packed = Packed(message.raw, message.id, at, message.whole, message.already_known)
                found.setdefault(ids[-message.row], []).append(packed)
        return found

    @property
    def over(self) -> bool:
        """True if nothing more is to be sent, as far as is known."""
        state = self.progress.state
        return self.progress.ended and not self.progress.busy and (state.closed or state.id is None)


def unpacked(packed: Packed, since: float) -> EncodedMessage:
    """Make the message that a request sends of one in an entry."""
    message = msgspec.json.decode(packed.raw, type=Message)
    return encoded(message, since, charge=0, whole=packed.whole, already_known=packed.already_known, raw=packed.raw)


def opened(one: Entry) -> Ledger:
    """Begin the ledger of a conversation with its first entry."""
    header = one.header or Header(key=one.key, prompt_id=one.prompt_id, shared=bool(one.writer))
    return Ledger(header=header, writer=one.writer)
