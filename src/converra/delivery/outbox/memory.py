"""What waits: in memory, bounded by bytes."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any, Protocol

from converra.delivery.protocol.entry import entries_of
from converra.process.guard import guard

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from converra.delivery.conversation_queue import ConversationQueue, Draft
    from converra.delivery.protocol.entry import EncodedMessage
    from converra.delivery.protocol.progress import Progress


class Outbox(Protocol):
    """What the recording side puts in and the sending side takes out.

    The two never wait for each other: the first group runs on the app's threads, which a signal handler may interrupt
    anywhere, and which must not wait for a worker.
    """

    # recording

    def put(self, queue: ConversationQueue, drafts: Sequence[Draft]) -> Sequence[Any] | None:
        """Take a turn in: one item for each draft. None where there is no room; then all of it is dropped."""

    def note(self, queue: ConversationQueue, metadata: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """Take metadata in; returns it with the number under which it is written down."""

    def end(self, queue: ConversationQueue, *, always: bool) -> None:
        """Write down that a conversation has ended."""

    # sending

    def entries(self, since: float, item: Any) -> list[EncodedMessage] | None:
        """One item as messages of the wire: none where redaction dropped it, None where it could not be made."""

    def release(self, progress: Progress, left: Sequence[EncodedMessage]) -> None:
        """Let go of messages that were delivered or refused; what is written down goes with the next `save`."""

    def save(self, progress: Progress) -> None:
        """Write down how far a conversation has come, and what of it has left, in one step."""

    def forget(self, progress: Progress) -> None:
        """The conversation is over."""

    def recover(self) -> list[Progress]:
        """What dead processes have left behind; it is ours from now on."""

    # both

    @property
    def recover_every(self) -> float:
        """Seconds between looks for what dead processes have left behind."""

    @property
    def durable(self) -> bool:
        """Whether what waits outlives the process."""

    @property
    def captured(self) -> int:
        """Messages that came in."""

    @property
    def dropped(self) -> int:
        """Messages that there was no room for."""

    @property
    def pending_bytes(self) -> int:
        """What waits in memory."""

    def close(self) -> None:
        """Close what is open; a later `put` opens it again."""


class MemoryOutbox:
    """The outbox that ends with the process.

    Two counters instead of one under a lock: what came in is counted under a lock that no worker ever waits for, and
    what left by workers. So a signal handler that interrupts `put` and waits for the workers does get there.
    The lock is reentrant because that handler, or a finalizer, may itself record.
    """

    recover_every = math.inf
    durable = False

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entering = threading.RLock()
        self._leaving = threading.Lock()
        self._came = 0
        self._left = 0
        self.elsewhere = 0
        """Messages of ours that were left in a file at a shutdown."""
        self.captured = 0
        self.dropped = 0

    @property
    def pending_bytes(self) -> int:
        """Bytes that wait."""
        return self._came - self._left

    def put(self, _queue: ConversationQueue, drafts: Sequence[Draft]) -> Sequence[Draft] | None:
        """Take a turn in, or all of it not."""
        size = 0
        for draft in drafts:
            size += draft.size
        return drafts if self.admit(size, len(drafts)) else None

    def admit(self, size: int, count: int, *, elsewhere: bool = False) -> bool:
        """Count messages in; False where there is no room. They are dropped then, unless they wait `elsewhere`."""
        with self._entering:
            self.captured += count
            if self._came - self._left + size > self._limit:
                self.dropped += 0 if elsewhere else count
                return False
            self._came += size
        return True

    def note(self, _queue: ConversationQueue, metadata: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """Copy the metadata: the caller may change it afterwards."""
        return 0, dict(metadata)

    def end(self, queue: ConversationQueue, *, always: bool) -> None:
        """Memory needs no writing down."""

    def entries(self, since: float, item: Draft) -> list[EncodedMessage] | None:
        """Make the message, on a worker's thread."""
        size, made = item.size, None
        with guard("preparing a message"):
            message = item.message()
            made = [] if message is None else entries_of(message, since, charge=size, already_known=item.already_known)
        if not made:
            self.give_back(size)
        return made

    def emptied(self, left: int) -> MemoryOutbox:
        """An empty one that goes on counting; so many messages are `left` in a file, and may come back from there."""
        empty = MemoryOutbox(self._limit)
        empty.captured, empty.dropped, empty.elsewhere = self.captured, self.dropped, self.elsewhere + left
        return empty

    def recovered(self, count: int) -> None:
        """Count messages in that were found in a file, unless they were left there by us."""
        with self._entering:
            known = min(count, self.elsewhere)
            self.elsewhere -= known
            self.captured += count - known

    def release(self, _progress: Progress, left: Sequence[EncodedMessage]) -> None:
        """Give back the room."""
        self.give_back(sum(entry.charge for entry in left))

    def give_back(self, size: int) -> None:
        """Make room."""
        with self._leaving:
            self._left += size

    def save(self, progress: Progress) -> None:
        """Memory needs no writing down."""

    def forget(self, progress: Progress) -> None:
        """Memory needs no writing down."""

    def recover(self) -> list[Progress]:
        """A dead process leaves no memory behind."""
        return []

    def close(self) -> None:
        """Nothing is open."""
