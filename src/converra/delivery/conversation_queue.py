"""The queue of one conversation: a recorder's handle for the messages that delivery sends."""

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
    """The messages of one conversation, in order, on their way to the API.

    Any thread may call any method; none raises, and none waits for the network unless the mode of the flusher says so.
    Callers change all attributes but `progress`, under the lock of the job queue; workers change `progress`.
    """

    __slots__ = ("__weakref__", "_owner", "generation", "header", "progress", "rows", "used", "writer")

    def __init__(self, owner: QueueOwner, header: Header) -> None:
        self._owner = owner
        self.header: Header = header
        self.start()

    def start(self) -> None:
        """Set the initial state; also in a forked child, as earlier messages are the parent's."""
        self.progress: Progress | None = None
        self.rows: OutboxRows = OutboxRows()
        self.used: bool = False
        """A message was appended."""
        self.writer: str = os.urandom(4).hex() if self.header.shared else ""
        """Tells apart the processes that share a conversation."""
        self.generation: int = self._owner.generation

    def begin_with(self, metadata: Mapping[str, Any]) -> None:
        """Merge metadata into the header, before the first message."""
        self.header = msgspec.structs.replace(self.header, metadata={**self.header.metadata, **metadata})

    def fork(self) -> None:
        """Continue in a child process.

        A shared session continues; any other continues in a conversation of its own that names the parent's.
        """
        if not self.header.shared:
            metadata = {**self.header.metadata, "forkedFrom": self.id or self.header.key}
            key = f"{self.header.key}-{os.urandom(4).hex()}"
            self.header = msgspec.structs.replace(self.header, key=key, metadata=metadata)
        self.start()

    def __repr__(self) -> str:
        return f"ConversationQueue({self.header.key!r})"

    @property
    def id(self) -> str | None:
        """Return the server's id of the conversation; None until it is created."""
        return self.progress.first_id if self.progress else None

    def append(self, drafts: Sequence[Draft], at: float | None = None) -> None:
        """Add messages, recorded `at` a time of the monotonic clock (default: now)."""
        self._owner.append(self, drafts, at)

    def annotate(self, metadata: Mapping[str, Any]) -> None:
        """Merge metadata into the conversation's; sent with the next request."""
        self._owner.annotate(self, metadata)

    def send_now(self) -> None:
        """Send all messages now: another process may continue the conversation."""
        self._owner.send_now(self)

    def end(self, *, always: bool = False) -> None:
        """Complete the conversation once all of its messages are delivered. Idempotent.

        A conversation without messages is not sent, unless `always`: another process may have opened it.
        """
        self._owner.end(self, always=always)
