"""How far the delivery of one conversation has come, and what each answer of the API changes in it.

Pure: the caller sends, this file remembers. A conversation that is too long for the API, or that was lost there, goes
on in a further one; `State` is about the current one of that chain.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Any

import msgspec

from converra.delivery.protocol import joining
from converra.delivery.protocol.entry import own_words, resplit
from converra.wire import details, limits

if TYPE_CHECKING:
    from collections.abc import Container

    from converra.delivery.conversation_queue import Header
    from converra.delivery.protocol.entry import EncodedMessage

OPENING_WORDS = "Conversation started."
CONTINUING_WORDS = "Conversation continued."
CLOSING_WORDS = "Conversation ended."
_CONTINUES = "continues"
_COUNTER = "sdkDelivered"
_MARK = "sdkOpenedBy"


class OpeningForm(Enum):
    """The messages that a create holds. A durable outbox keeps the values."""

    WITH_MESSAGES = "whole"
    """Waiting messages; the first attempt."""
    WITHOUT_MESSAGES = "neutral"
    """One synthetic system message: the API rejected a create with the app's own, which then go with an append."""


class Opening(msgspec.Struct, frozen=True):
    """A create that was decided on. It is repeated unchanged until it is answered, whatever else arrives."""

    entries: int
    """How many waiting messages its content holds."""
    status: str
    form: OpeningForm = OpeningForm.WITH_MESSAGES
    ids: tuple[str, ...] = ()


class Batch(msgspec.Struct, frozen=True):
    """An append that was decided on."""

    entries: int
    completes: bool = False
    closing: bool = False
    """It carries our closing system message besides the entries."""
    ids: tuple[str, ...] = ()
    metadata: dict[str, Any] | None = None


class State(msgspec.Struct):
    """What must survive the process, in a durable outbox, so that nothing is lost or doubled."""

    part: int = 1
    """Which conversation of the chain."""
    id: str | None = None
    previous: str | None = None
    """The server's id of the conversation before."""
    count: int = 0
    """Messages of ours in the conversation."""
    weight: int = 0
    """Their weight against the content limit."""
    appended: int = 0
    """Messages appended by us: the counter that every append writes into the metadata."""
    metadata: dict[str, Any] = {}
    """To be merged with the next append."""
    annotations: dict[str, Any] = {}
    """All metadata so far: what a further conversation of the chain starts with."""
    opening: Opening | None = None
    unsettled: Batch | None = None
    """Sent, and not yet known to be stored."""
    again: bool = False
    """The next append was sent before, and seemed not to be stored."""
    form: OpeningForm = OpeningForm.WITH_MESSAGES
    """The first form of a create that was not rejected."""
    joining: bool = False
    """The create was answered, but whether it made the conversation is not yet known."""
    suspects: int = 0
    """So many of the first waiting messages hold at least one that the API refuses."""
    most: int = limits.MAX_MESSAGES
    """Most messages of the next request: halved by a 413, doubled by a success."""
    closed: bool = False
    """Completed or abandoned: nothing more can be sent to it."""


class OutboxRows:
    """Where a conversation stands in a durable outbox."""

    def __init__(self) -> None:
        self.row = 0
        self.left: list[int] = []
        """Rows of messages that have left but are still written there."""
        self.noted = 0
        """Up to which row its notes are in the state."""


class Progress:
    """One conversation of this process on its way to the API. One worker at a time holds it."""

    accepted = False
    """The last append was answered by a success that could not be read: it is stored, more likely than not."""
    scarce = False
    """The rate limit holds conversations back: this one is to be sent in as few requests as possible."""

    def __init__(
        self, header: Header, writer: str = "", state: State | None = None, file: OutboxRows | None = None
    ) -> None:
        self.header = header
        self.writer = writer
        """Tells those apart who share the conversation; empty for one that is nobody else's."""
        self.state = state or State(metadata=(own := details.renamed(header.metadata)), annotations=dict(own))
        self.first_id: str | None = None
        self.arrived: deque[tuple[float, Any]] = deque()
        """Since when, and what the outbox keeps; not yet made into entries."""
        self.entries: deque[EncodedMessage] = deque()
        self.notes: deque[tuple[int, dict[str, Any]]] = deque()
        """Metadata to be merged, each with its row in a durable outbox."""
        self.ended = False
        self.always = False
        """It is completed although nothing was recorded here: another process may have opened it."""
        self.send_now = False
        self.attempts = 0
        """Requests in a row that failed, …"""
        self.refusals = 0
        """… or were refused."""
        self.retry_at = 0.0
        self.held = False
        """A worker has it."""
        self.received = 0
        """Recorded messages that came in, …"""
        self.gone = 0
        """… and that left, by being delivered or refused."""
        self.file = file or OutboxRows()
        self.orphan = False
        """Another process has left it behind, …"""
        self.ends_at: float | None = None
        """… and it is completed at this time."""

    @property
    def key(self) -> str:
        """The idempotency key of the current conversation of the chain: the same in every process that shares it."""
        return self.header.key if self.state.part == 1 else f"{self.header.key}:{self.state.part}"

    @property
    def counter(self) -> str:
        """The name in the conversation's metadata under which we count what we appended."""
        return f"{_COUNTER}.{self.writer}" if self.writer else _COUNTER

    @property
    def mark(self) -> str:
        """The name in the metadata under which the one who creates the conversation leaves its sign."""
        return _MARK

    @property
    def depth(self) -> int:
        """How many messages wait."""
        return len(self.entries) + len(self.arrived)

    @property
    def already_known(self) -> bool:
        """Whether something waits that is only sent where the conversation is not there yet."""
        return any(entry.already_known for entry in self.entries)

    @property
    def waiting(self) -> bool:
        """Whether a recorded message has not left yet."""
        return bool(self.arrived or self.entries)

    @property
    def oldest(self) -> float:
        """Since when the message that came first has waited."""
        return self.entries[0].since if self.entries else self.arrived[0][0]

    @property
    def newest(self) -> float:
        """Since when the message that came last has waited."""
        return self.arrived[-1][0] if self.arrived else self.entries[-1].since

    @property
    def busy(self) -> bool:
        """Whether there is anything left to do for it, now or later."""
        state = self.state
        begun = self.always or state.id is not None or state.opening is not None
        unfinished = self.ended and begun and not state.closed
        return self.waiting or unfinished or state.unsettled is not None or state.joining

    def settled(self, mark: int) -> bool:
        """Whether the first `mark` recorded messages have left, and nothing about them is in question."""
        state = self.state
        if self.gone < mark or state.unsettled is not None or state.joining or state.opening is not None:
            return False
        return not (self.ended and self.busy)

    def annotate(self, metadata: dict[str, Any]) -> None:
        """Merge metadata into what the next append carries."""
        self.state.annotations |= (own := details.renamed(metadata))
        self.state.metadata |= own

    def drop_metadata(self) -> bool:
        """Go on without metadata of the user's; False where there was none."""
        had = bool(self.state.metadata)
        self.state.annotations = {}
        self.state.metadata = {}
        return had

    def opened(self, conversation_id: str, opening: Opening, *, ours: bool) -> list[EncodedMessage]:
        """The create was answered; what it held has left, unless the conversation was there before."""
        state = self.state
        state.id, state.opening, state.joining = conversation_id, None, False
        self.first_id = self.first_id or conversation_id
        sent = self._leave(opening.entries) if ours else []
        state.count += max(len(sent), 1)
        if opening.status in ("completed", "abandoned"):
            state.closed = True
        return sent

    def known(self, texts: Container[str], already_known: Container[str]) -> list[EncodedMessage]:
        """Let go of what whoever opened the conversation has sent."""
        left = joining.known(self.entries, texts, already_known, over=self.state.closed)
        gone = set(map(id, left))
        self.entries = deque(entry for entry in self.entries if id(entry) not in gone)
        self.gone += sum(entry.whole for entry in left)
        return left

    def stored(self, batch: Batch) -> list[EncodedMessage]:
        """The append is known to be stored."""
        state = self.state
        state.unsettled, state.again = None, False
        sent = self._leave(batch.entries)
        state.count += len(sent) + batch.closing
        state.appended += len(sent) + batch.closing
        state.suspects = max(0, state.suspects - len(sent))
        state.most = min(limits.MAX_MESSAGES, state.most * 2)
        state.metadata = {k: v for k, v in state.metadata.items() if (batch.metadata or {}).get(k, _NONE) != v}
        if batch.completes:
            state.closed = True
        return sent

    def not_stored(self) -> None:
        """The append is known not to be stored: its messages are sent again."""
        self.state.unsettled = None

    def refused(self, batch: Batch) -> list[EncodedMessage]:
        """The append was refused as invalid: look for the message; alone, it is set aside and returned."""
        state = self.state
        state.unsettled = None
        if batch.entries > 1:
            state.suspects = batch.entries
            return []
        state.suspects = 0
        if not batch.entries:  # our own closing message: there is no other way to end it
            state.closed = True
        return self._set_aside(batch.entries)

    def refuse_all(self) -> list[EncodedMessage]:
        """The conversation itself was refused, and with it everything that waits."""
        self.state.opening, self.state.unsettled, self.state.closed = None, None, True
        return self._set_aside(len(self.entries))

    def too_large(self, batch: Batch, largest: int) -> list[EncodedMessage]:
        """The append was refused as too large: send fewer, or go on in a new conversation, or split the message.

        `largest` is the size of the largest message that this API has accepted: one that is no larger cannot be the
        reason, so the conversation must be full.
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
        """Go on in a further conversation that names this one."""
        state = self.state
        previous = state.id or state.previous
        self.state = State(
            part=state.part + 1,
            previous=previous,
            metadata=state.annotations | ({_CONTINUES: previous} if previous else {}),
            annotations=state.annotations,
            suspects=state.suspects,
        )

    @property
    def closing(self) -> EncodedMessage:
        """The system message that completes a conversation with nothing else left to send."""
        return own_words(CLOSING_WORDS, f"{self.key}:end")

    @property
    def first_words(self) -> EncodedMessage:
        """The system message that opens a conversation whose own first message no create can hold."""
        return own_words(CONTINUING_WORDS if self.state.previous else OPENING_WORDS, f"{self.key}:begin")

    def _leave(self, count: int) -> list[EncodedMessage]:
        left = [self.entries.popleft() for _ in range(count)]
        self.state.weight += sum(entry.weight for entry in left)
        self.gone += sum(entry.whole for entry in left)
        return left

    def _set_aside(self, count: int) -> list[EncodedMessage]:
        left = [self.entries.popleft() for _ in range(count)]
        self.gone += sum(entry.whole for entry in left)
        return left


_NONE = object()
_SMALLEST_PART = 1024
"""Messages of this many bytes are not split further: the size cannot be what is wrong with them."""
