"""What a recorder holds of a conversation that is being delivered."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from converra.delivery.protocol.progress import OutboxRows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from converra.delivery.header import Draft, Header
    from converra.delivery.protocol.progress import Progress


class QueueOwner(Protocol):
    """The delivery that a queue hands its commands to."""

    @property
    def generation(self) -> int:
        """Changes when messages recorded so far are no longer this process's to send: after a fork, for example."""

    def append(self, queue: ConversationQueue, drafts: Sequence[Draft], at: float | None = None) -> None:
        """See `ConversationQueue.append`."""

    def annotate(self, queue: ConversationQueue, metadata: Mapping[str, Any]) -> None:
        """See `ConversationQueue.annotate`."""

    def send_now(self, queue: ConversationQueue) -> None:
        """See `ConversationQueue.send_now`."""

    def end(self, queue: ConversationQueue, *, always: bool = False) -> None:
        """See `ConversationQueue.end`."""


class ConversationQueue:
    """One conversation's way to the API. Any thread may call any method; none waits for the network or raises."""

    __slots__ = ("__weakref__", "_owner", "generation", "header", "progress", "rows", "used", "writer")

    def __init__(self, owner: QueueOwner, header: Header) -> None:
        self._owner = owner
        self.header = header
        self.start()

    def start(self) -> None:
        """Begin, or begin anew in a forked child: what was recorded before is the parent's."""
        self.progress: Progress | None = None
        self.rows = OutboxRows()
        self.used = False
        """Something was appended."""
        self.writer = os.urandom(4).hex() if self.header.shared else ""
        self.generation = self._owner.generation

    def begin_with(self, metadata: Mapping[str, Any]) -> None:
        """Merge metadata into what the conversation will be opened with."""
        self.header = msgspec.structs.replace(self.header, metadata={**self.header.metadata, **metadata})

    def fork(self) -> None:
        """Go on in a child process: in the shared session, or in a conversation of its own that names the parent's."""
        if not self.header.shared:
            metadata = {**self.header.metadata, "forkedFrom": self.id or self.header.key}
            key = f"{self.header.key}-{os.urandom(4).hex()}"
            self.header = msgspec.structs.replace(self.header, key=key, metadata=metadata)
        self.start()

    def __repr__(self) -> str:
        return f"Lane({self.header.key!r})"

    @property
    def id(self) -> str | None:
        """The server's id of the conversation, once it was opened."""
        return self.progress.first_id if self.progress else None

    def append(self, drafts: Sequence[Draft], at: float | None = None) -> None:
        """Add messages at the end; they are as old as they were `at` a time of the monotonic clock."""
        self._owner.append(self, drafts, at)

    def annotate(self, metadata: Mapping[str, Any]) -> None:
        """Merge into the conversation's metadata, with the next request."""
        self._owner.annotate(self, metadata)

    def send_now(self) -> None:
        """Send what waits now: another process may go on with the conversation."""
        self._owner.send_now(self)

    def end(self, *, always: bool = False) -> None:
        """Complete the conversation once everything in it was delivered. Idempotent.

        Where nothing was recorded nothing is sent, unless `always`: another process may have opened it.
        """
        self._owner.end(self, always=always)
