"""The outbox: messages that are recorded and not yet delivered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from converra.delivery.conversation_queue import ConversationQueue
    from converra.delivery.header import Draft
    from converra.delivery.protocol.entry import EncodedMessage
    from converra.delivery.protocol.progress import Progress


class Outbox(Protocol):
    """Takes messages in from callers, and hands them out to workers.

    The two sides never wait for each other. The recording side runs on the app's threads: it must not wait for a
    worker, and a signal handler may interrupt it anywhere.
    """

    # the recording side

    def put(self, queue: ConversationQueue, drafts: Sequence[Draft]) -> Sequence[Any] | None:
        """Take in a turn; return one item for each draft, or None if there is no room and all of it is dropped."""

    def note(self, queue: ConversationQueue, metadata: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """Take in metadata; return its row (0 for none) and the metadata, safe from later changes by the caller."""

    # the sending side

    def entries(self, since: float, item: Any) -> list[EncodedMessage] | None:
        """Encode an item recorded at `since`; empty if redaction dropped it, None if it could not be built."""

    def release(self, progress: Progress, left: Sequence[EncodedMessage], rejected: str = "") -> None:
        """Free the room of messages that were delivered, or `rejected` for a reason.

        The next `save` deletes their rows.
        """

    # both sides

    @property
    def file(self) -> OutboxFile | None:
        """Its file, whose state must be kept up to date; None for an outbox that ends with the process."""

    @property
    def durable(self) -> bool:
        """True if the messages outlive the process."""

    @property
    def captured(self) -> int:
        """Number of messages recorded."""

    @property
    def dropped(self) -> int:
        """Number of messages dropped because there was no room."""

    @property
    def pending_bytes(self) -> int:
        """Bytes that wait in memory."""


class OutboxFile(Protocol):
    """The part of an outbox that outlives the process, and that other processes may share."""

    @property
    def recover_every(self) -> float:
        """Seconds between calls of `recover`."""

    def end(self, queue: ConversationQueue, *, always: bool) -> None:
        """Save that a conversation has ended; `always`: also if it has no messages. Called by the recording side."""

    def save(self, progress: Progress, *, sends: bool = False) -> bool:
        """Save the state of a conversation, and delete its released messages, in one transaction.

        `sends`: a request follows. Returns False if it must not be sent: another process may have taken over.
        """

    def forget(self, progress: Progress) -> None:
        """Delete a conversation that is over."""

    def recover(self) -> list[Progress]:
        """Take over the conversations of dead processes."""

    def close(self) -> None:
        """Close files; a later `put` opens them again."""
