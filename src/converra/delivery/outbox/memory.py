"""The outbox in memory, bounded by bytes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from converra.delivery.protocol.entry import entries_of
from converra.process.guard import guard

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from converra.delivery.conversation_queue import ConversationQueue
    from converra.delivery.header import Draft
    from converra.delivery.protocol.entry import EncodedMessage
    from converra.delivery.protocol.progress import Progress


class MemoryOutbox:
    """The outbox that ends with the process.

    Two counters instead of one under a lock: what came in is counted by callers, and what left by workers, each under
    a lock of its own. A worker takes the callers' lock only while it adopts conversations. So a signal handler that
    interrupts `put` and waits for the workers makes progress. That lock is reentrant because such a handler, or a
    finalizer, may itself record.
    """

    file: None = None
    durable: bool = False

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entering = threading.RLock()
        self._leaving = threading.Lock()
        self._bytes_in = 0
        self._bytes_out = 0
        self.elsewhere: int = 0
        """Messages of this process that a shutdown left in a file."""
        self.captured: int = 0
        self.dropped: int = 0

    @property
    def pending_bytes(self) -> int:
        """Bytes that wait in memory."""
        return self._bytes_in - self._bytes_out

    def put(self, queue: ConversationQueue, drafts: Sequence[Draft]) -> Sequence[Draft] | None:  # noqa: ARG002 - of every outbox
        """Take in a whole turn, or drop it."""
        size = 0
        for draft in drafts:
            size += draft.size
        return drafts if self.admit(size, len(drafts)) else None

    def admit(self, size: int, count: int, *, elsewhere: bool = False) -> bool:
        """Count messages of `size` bytes; return False if there is no room. They are dropped unless `elsewhere`."""
        with self._entering:
            self.captured += count
            if self._bytes_in - self._bytes_out + size > self._limit:
                self.dropped += 0 if elsewhere else count
                return False
            self._bytes_in += size
        return True

    def refuse(self, count: int) -> None:
        """Count messages that were dropped before they came here."""
        with self._entering:
            self.captured += count
            self.dropped += count

    def note(self, queue: ConversationQueue, metadata: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:  # noqa: ARG002 - as `put`
        """Copy the metadata: the caller may change it afterwards. It has no row."""
        return 0, dict(metadata)

    def entries(self, since: float, item: Draft) -> list[EncodedMessage] | None:
        """Build and encode a message, on a worker."""
        size, made = item.size, None
        with guard("preparing a message"):
            message = item.message()
            made = [] if message is None else entries_of(message, since, charge=size, already_known=item.already_known)
        if not made:
            self.give_back(size)
        return made

    def emptied(self, left: int) -> MemoryOutbox:
        """Return an empty outbox with the same counters; `left` messages stay in a file and may be recovered."""
        empty = MemoryOutbox(self._limit)
        empty.captured, empty.dropped, empty.elsewhere = self.captured, self.dropped, self.elsewhere + left
        return empty

    def recovered(self, count: int) -> None:
        """Count messages that were found in a file, unless this process left them there and counted them already."""
        with self._entering:
            own = min(count, self.elsewhere)
            self.elsewhere -= own
            self.captured += count - own

    def release(self, progress: Progress, left: Sequence[EncodedMessage], rejected: str = "") -> None:  # noqa: ARG002 - as `put`
        """Free the room of messages."""
        self.give_back(sum(entry.charge for entry in left))

    def give_back(self, size: int) -> None:
        """Free room, in bytes."""
        with self._leaving:
            self._bytes_out += size
