"""What waits: kept in memory, bounded by bytes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Protocol

from converra.delivery.entry import entries_of
from converra.guard import guard

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converra.delivery.entry import Entry
    from converra.delivery.lane import Draft, Header
    from converra.delivery.progress import Progress


class Outbox(Protocol):
    """What the recording side puts in and the sending side takes out.

    The two never wait for each other: `put` runs on the app's threads, which a signal handler may interrupt anywhere.
    """

    captured: int
    dropped: int

    @property
    def pending_bytes(self) -> int:
        """What waits."""

    def put(self, header: Header, drafts: Sequence[Draft]) -> Sequence[Any] | None:
        """Take messages in; what is returned goes to the conversation's progress, None says that there is no room."""

    def entries(self, since: float, item: Any) -> list[Entry]:
        """One item as messages of the wire; none where redaction dropped it."""

    def release(self, progress: Progress, left: Sequence[Entry]) -> None:
        """Let go of messages that were delivered or refused."""

    def save(self, progress: Progress) -> None:
        """Write down how far a conversation has come."""


class MemoryOutbox:
    """The outbox that ends with the process.

    Two counters instead of one under a lock: what came in is counted by callers, who share a lock that no worker ever
    takes, and what left by workers. So a signal handler that interrupts `put` and waits for the workers does get there.
    The lock is reentrant because that handler, or a finalizer, may itself record.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entering = threading.RLock()
        self._leaving = threading.Lock()
        self._came = 0
        self._left = 0
        self.captured = 0
        self.dropped = 0

    @property
    def pending_bytes(self) -> int:
        """Bytes that wait."""
        return self._came - self._left

    def put(self, _header: Header, drafts: Sequence[Draft]) -> Sequence[Draft] | None:
        """Take a turn in, or all of it not."""
        size = 0
        for draft in drafts:
            size += draft.size
        with self._entering:
            self.captured += len(drafts)
            if self._came - self._left + size > self._limit:
                self.dropped += len(drafts)
                return None
            self._came += size
        return drafts

    def entries(self, since: float, item: Draft) -> list[Entry]:
        """Make the message, on a worker's thread."""
        size = item.size
        with guard("preparing a message"):
            message = item.message()
            if message is not None:
                return entries_of(message, since, charge=size)
        self._release(size)
        return []

    def release(self, _progress: Progress, left: Sequence[Entry]) -> None:
        """Give back the room."""
        self._release(sum(entry.charge for entry in left))

    def save(self, progress: Progress) -> None:
        """Memory needs no writing down."""

    def _release(self, size: int) -> None:
        with self._leaving:
            self._left += size
