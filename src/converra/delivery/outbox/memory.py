"""What waits: in memory, bounded by bytes."""

from __future__ import annotations

import math
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
