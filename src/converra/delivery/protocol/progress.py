"""The progress of one conversation's delivery: its state, and the effect of each answer of the API. Pure.

`batching.plan` decides the next step from the state, the sender carries it out, and the methods of `Progress` record
what came of it. A durable outbox saves the state before each request: after a crash the next process knows what may
have been stored.

================  ===========================  =======================  ================================================
state             fields of `State`            next request             then
================  ===========================  =======================  ================================================
not opened        no `id`, no `opening`        none until `plan` makes  opening
                                               an `Opening`
opening           `opening`, no `id`           the create, unchanged    answered: open, or closed if it held everything.
                                                                        In a shared session: opener unknown.
                                                                        Rejected: not opened, with another form or fewer
                                                                        messages; at last closed, its messages set aside
opener unknown    `opening`, `opener_unknown`  GET                      this process is the opener: its messages are
                                                                        delivered; another is: those it sent are
                                                                        dropped (see `joining`). Both: open
open              `id`                         an append                append unsettled, from before it is sent
append unsettled  `unsettled`                  GET, unless the answer   stored: open, or closed if it completes.
                                               to the append came       Not stored: open, and sent again.
                                                                        Rejected: open, with fewer messages, or one
                                                                        set aside. 404, or the conversation is full:
                                                                        moved on
closed            `closed`                     none; after it, an       moved on, if other messages wait
                                               append without a status
moved on          the next `part`, and the     as not opened            a further conversation of the same chain, which
                  id of the `previous` one                              names the one before it
================  ===========================  =======================  ================================================

A create is idempotent by its key, so it may be repeated until it is answered. An append has no key: one without an
answer is not repeated before a GET. If the GET does not show whether it was stored, it is sent again, and its messages
are counted as `duplicated_risk`.
"""

from __future__ import annotations

import math
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Any

import msgspec

from converra.delivery.protocol import joining, judgements
from converra.delivery.protocol.entry import resplit
from converra.wire import details, limits

if TYPE_CHECKING:
    from collections.abc import Container

    from converra.delivery.header import Header
    from converra.delivery.protocol.entry import EncodedMessage

_CONTINUES = "continues"
"""Name of the id of the previous conversation in the metadata of a further one."""

_COUNTER = "sdkDelivered"
"""Name of the number of appended messages in the metadata."""


class OpeningForm(Enum):
    """The messages that a create holds. A durable outbox keeps the values."""

    WITH_MESSAGES = "whole"
    """Waiting messages; the first attempt."""
    WITHOUT_MESSAGES = "neutral"
    """One synthetic system message: the API rejected a create with the app's own, which then go with an append."""


class Opening(msgspec.Struct, frozen=True):
    """A create. It is repeated unchanged until it is answered, whatever else arrives: its key promises the same."""

    entries: int
    """Number of waiting messages that its content holds."""
    status: str
    form: OpeningForm = OpeningForm.WITH_MESSAGES
    ids: tuple[str, ...] = ()
    """The `messageId` of each."""


class Batch(msgspec.Struct, frozen=True):
    """An append."""

    entries: int
    """Number of waiting messages that it holds."""
    completes: bool = False
    """It sets the status to `completed`."""
    closing: bool = False
    """It holds a synthetic message instead of entries: nothing waits, and an append must not be empty; see `added`."""
    ids: tuple[str, ...] = ()
    """The `messageId` of each message."""
    metadata: dict[str, Any] | None = None
    """Merged into the conversation's metadata by the API."""


class State(msgspec.Struct, omit_defaults=True):
    """The state of the current conversation of a chain; a durable outbox keeps it, so nothing is lost or doubled.

    The outbox keeps the encoded names and values: a later version must read what an earlier one wrote.
    """

    part: int = 1
    """Number of the conversation in its chain, from 1."""
    id: str | None = None
    """The API's id of the conversation; None until its create is answered."""
    previous: str | None = None
    """The API's id of the conversation before it."""
    count: int = 0
    """Messages that this process has stored in the conversation."""
    weight: int = 0
    """Bytes of these against the limit of the content."""
    appended: int = 0
    """Messages that this process has appended: the counter that every append writes into the metadata."""
    metadata: dict[str, Any] = {}
    """Metadata that the next append carries."""
    annotations: dict[str, Any] = {}
    """All metadata so far: a further conversation of the chain starts with it."""
    owed: list[str] = []
    """Names in `metadata` that the app has set, and that no stored request has carried yet."""
    late_errors: dict[str, Any] = {}
    """Errors that came after their messages, by the ids of these; see `late_errors`."""
    opening: Opening | None = None
    """The create, from before it is sent until the conversation is open."""
    unsettled: Batch | None = None
    """The append, from before it is sent until it is known whether it was stored."""
    again: bool = False
    """The next append was sent before, and was found not to be stored: perhaps it is stored later."""
    form: OpeningForm = OpeningForm.WITH_MESSAGES
    """The first form of a create that was not rejected."""
    opener_unknown: bool = msgspec.field(default=False, name="joining")
    """The create of a shared session was answered; a GET has not yet shown which process made the conversation."""
    suspects: int = 0
    """Number of waiting messages, from the first, among which the API rejects at least one; 0 if none is suspected."""
    most: int = limits.MAX_MESSAGES
    """Most messages of the next request: halved by a 413, doubled by a success."""
    closed: bool = False
    """It is completed or abandoned, and takes no more messages."""


class OutboxRows(msgspec.Struct):
    """The rows of a conversation in a durable outbox."""

    row: int = 0
    """Row of the conversation; 0 while it has none."""
    left: list[int] = []
    """Rows of messages that are delivered or set aside, to be deleted with the next save."""
    noted: int = 0
    """Last row of its notes that are merged into the state."""


class Progress:
    """One conversation of this process on its way to the API: its state, its waiting messages, its retries.

    One worker at a time holds it, so it needs no lock.
    """

    first_id: str | None = None
    """The API's id of the first conversation of the chain: the id that the app sees."""
    ended: bool = False
    """No more messages will arrive."""
    always: bool = False
    """It is completed even if nothing was recorded here: another process may have opened it."""
    send_now: bool = False
    """A flush, or the end of a block, asks to send it without waiting for the interval."""
    carry_at: float = math.inf
    """Monotonic time at which owed metadata is sent even without a message; 0 for a flush or the end of a block."""
    offered: frozenset[str] = frozenset()
    """Owed metadata that the create under way holds."""
    held: bool = False
    """A worker is sending it."""
    attempts: int = 0
    """Requests that failed in a row."""
    refusals: int = 0
    """Requests that the API rejected in a row."""
    retry_at: float = 0.0
    """Monotonic time before which it is not sent."""
    accepted: bool = False
    """The last append was answered with a success that could not be read, so it is probably stored."""
    unread_feedback: bool = False
    """Feedback waits, and other processes of the session may have given some since the last read-back."""
    scarce: bool = False
    """The rate limit holds conversations back, so this one is sent in as few requests as possible."""
    received: int = 0
    """Recorded messages that have arrived."""
    gone: int = 0
    """Recorded messages that are delivered, rejected or dropped."""
    orphan: bool = False
    """Another process recorded it, and has died."""
    elsewhere: bool = False
    """Another process has taken it over: nothing of it is sent here any more."""
    lane: int = 0
    """Its lane in a fleet's outbox."""
    ends_at: float | None = None
    """Monotonic time at which an orphan is completed, as it was idle for too long; None for any other."""

    def __init__(
        self, header: Header, writer: str = "", state: State | None = None, rows: OutboxRows | None = None
    ) -> None:
        self.header: Header = header
        self.writer: str = writer
        """Identifies this process among those that share the session; empty if the session is not shared."""
        if state is None:
            metadata = details.renamed(header.metadata) if details.DETAILS in header.metadata else header.metadata
            state = State(metadata=dict(metadata), annotations=dict(metadata))
        self.state: State = state
        self.arrived: deque[tuple[float, Any]] = deque()
        """Messages that are not encoded yet, as the outbox keeps them, each with the monotonic time of its arrival."""
        self.entries: deque[EncodedMessage] = deque()
        """The encoded messages that wait, in order; they come before those in `arrived`."""
        self.notes: deque[tuple[int, dict[str, Any], bool]] = deque()
        """Metadata to be merged into the state, with its row in a durable outbox; True if the app has set it."""
        self.rows: OutboxRows = rows or OutboxRows()

    @property
    def key(self) -> str:
        """The idempotency key of the current conversation of the chain, equal in every process that shares it."""
        return self.header.key if self.state.part == 1 else f"{self.header.key}:{self.state.part}"

    @property
    def counter(self) -> str:
        """The name of this process's counter of appended messages in the conversation's metadata."""
        return f"{_COUNTER}.{self.writer}" if self.writer else _COUNTER

    @property
    def depth(self) -> int:
        """The number of messages that wait."""
        return len(self.entries) + len(self.arrived)

    @property
    def has_already_known(self) -> bool:
        """Report whether a message waits that was recorded before this process joined the session."""
        return any(entry.already_known for entry in self.entries)

    @property
    def oldest(self) -> float:
        """Monotonic time since when the first message has waited; 0 if none waits."""
        if self.entries:
            return self.entries[0].since
        return self.arrived[0][0] if self.arrived else 0.0

    @property
    def newest(self) -> float:
        """Monotonic time since when the last message has waited."""
        return self.arrived[-1][0] if self.arrived else self.entries[-1].since

    @property
    def busy(self) -> bool:
        """Report whether a request is still to be sent for it, now or later."""
        state = self.state
        begun = self.always or state.id is not None or state.opening is not None
        unfinished = self.ended and begun and not state.closed
        waiting = bool(self.arrived or self.entries or state.unsettled or state.opener_unknown)
        carries = (self.ended or self.carry_at < math.inf) and (state.id is not None or self.header.shared)
        return waiting or unfinished or (carries and bool(state.owed or self.notes))

    @property
    def owes(self) -> bool:
        """Report whether metadata of the app's waits, perhaps for a message that takes it along."""
        return bool(self.state.owed) or any(alone for _, _, alone in tuple(self.notes))

    def settled(self, mark: int) -> bool:
        """Report whether the first `mark` recorded messages are dealt with, and no request is unanswered."""
        state = self.state
        if self.gone < mark or state.unsettled is not None or state.opener_unknown or state.opening is not None:
            return False
        return not ((self.ended or (self.carry_at == 0 and self.owes)) and self.busy)

    def annotate(self, metadata: dict[str, Any], *, alone: bool = False) -> None:
        """Merge metadata into what the next request carries; `alone`: it is owed even if no message follows."""
        added = judgements.take(self, details.renamed(metadata))
        self.state.annotations |= added
        self.state.metadata |= added
        self.offered -= added.keys()
        if alone:
            self.state.owed = list(dict.fromkeys((*self.state.owed, *added)))

    def drop_metadata(self) -> bool:
        """Continue without the user's metadata; return False if there was none."""
        had = bool(self.state.metadata)
        self.state.annotations, self.state.metadata, self.state.owed = {}, {}, []
        return had

    def opened(self, conversation_id: str, opening: Opening, *, ours: bool) -> list[EncodedMessage]:
        """Record that the conversation is open; return the messages that its create has delivered.

        Args:
            conversation_id: The API's id.
            opening: The create that was answered.
            ours: This process is the opener. Otherwise the conversation was there before, and nothing was stored.

        """
        state = self.state
        state.id, state.opening, state.opener_unknown = conversation_id, None, False
        self.first_id = self.first_id or conversation_id
        sent = self._leave(opening.entries) if ours else []
        if ours and (sent or not self.header.shared):  # else another process may have opened it, without this metadata
            state.owed = [name for name in state.owed if name not in self.offered]
        state.count += max(len(sent), 1)  # a create without messages holds a synthetic one
        state.closed = state.closed or opening.status in ("completed", "abandoned")
        return sent

    def drop_sent_by_opener(self, system_texts: Container[str], signatures: Container[str]) -> list[EncodedMessage]:
        """Drop the waiting messages that the opener of a shared session has sent, and return them; see `joining`."""
        dropped = joining.sent_by_opener(self.entries, system_texts, signatures, closed=self.state.closed)
        gone = set(map(id, dropped))
        self.entries = deque(entry for entry in self.entries if id(entry) not in gone)
        self.gone += sum(entry.whole for entry in dropped)
        return dropped

    def stored(self, batch: Batch) -> list[EncodedMessage]:
        """Record that an append is stored; return the messages that it has delivered."""
        state = self.state
        state.unsettled, state.again = None, False
        sent = self._leave(batch.entries)
        stored = 1 if batch.closing else len(sent)
        state.count, state.appended = state.count + stored, state.appended + stored
        state.suspects = max(0, state.suspects - len(sent))
        state.most = min(limits.MAX_MESSAGES, state.most * 2)
        carried = batch.metadata or {}
        state.metadata = {k: v for k, v in state.metadata.items() if k not in carried or carried[k] != v}
        state.owed = [name for name in state.owed if name in state.metadata and name != self.counter]
        state.closed = state.closed or batch.completes
        return sent

    def not_stored(self) -> None:
        """Record that an append is not stored: its messages and its metadata still wait, and are sent again."""
        self.state.unsettled = None
        self.carry_at = 0.0 if self.state.owed else self.carry_at

    def refused(self, batch: Batch) -> list[EncodedMessage]:
        """Record that an append was rejected as invalid; return the message that is set aside, if it was alone."""
        state = self.state
        state.unsettled = None
        if batch.entries > 1:
            state.suspects = batch.entries
            return []
        state.suspects = 0
        if not batch.entries:  # a synthetic message: nothing else could complete the conversation, or carry metadata
            state.closed, state.owed = state.closed or batch.completes, []
        return self._set_aside(batch.entries)

    def refuse_all(self) -> list[EncodedMessage]:
        """Record that the conversation itself was rejected; return everything that waited, which is set aside."""
        self.state.opening, self.state.unsettled, self.state.closed, self.state.owed = None, None, True, []
        return self._set_aside(len(self.entries))

    def too_large(self, batch: Batch, largest: int) -> list[EncodedMessage]:
        """Record that an append was rejected as too large; return the message that is set aside, if any.

        The next append has fewer messages. A single message is split, unless `largest`, the size in bytes of the
        largest message that this API has accepted, shows that the conversation must be full: then it moves on.
        """
        state = self.state
        state.unsettled = None
        if batch.entries > 1:
            state.most = max(1, batch.entries // 2)
        elif not batch.entries:
            state.closed = True
        elif self.entries[0].size > max(largest, _SMALLEST_PART):
            self._resplit()
        elif state.count > 1 or state.appended:
            self.move_on()
        else:
            return self._set_aside(1)
        return []

    def _resplit(self) -> None:
        first = self.entries.popleft()
        self.entries.extendleft(reversed(resplit(first, max(_SMALLEST_PART, first.size // 2 + 4))))

    def move_on(self) -> None:
        """Continue in a further conversation, which names this one in its metadata."""
        state = self.state
        previous = state.id or state.previous
        self.state = State(
            part=state.part + 1,
            previous=previous,
            metadata=state.annotations | ({_CONTINUES: previous} if previous else {}),
            annotations=state.annotations,
            late_errors=state.late_errors,
            suspects=state.suspects,
        )

    def _leave(self, count: int) -> list[EncodedMessage]:
        left = [self.entries.popleft() for _ in range(count)]
        self.state.weight += sum(entry.weight for entry in left)
        self.gone += sum(entry.whole for entry in left)
        return left

    def _set_aside(self, count: int) -> list[EncodedMessage]:
        left = [self.entries.popleft() for _ in range(count)]
        self.gone += sum(entry.whole for entry in left)
        return left


_SMALLEST_PART = 1024
"""Bytes of a message that is not split further: its size cannot be the reason for a 413."""
