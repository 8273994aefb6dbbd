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
