"""Delivery into a test's memory. Ids and times are made the same in every run, here and not in the app's own clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from threading import RLock
from typing import TYPE_CHECKING, Any

import msgspec

from converra.delivery.conversation_queue import ConversationQueue
from converra.delivery.delivery import Delivery
from converra.delivery.protocol.late_errors import LATE_ERRORS
from converra.delivery.stats import Stats
from converra.delivery.worker.loop import Mode
from converra.history.draft import ManualDraft
from converra.testing.capture import CapturedConversation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from converra.config import Config
    from converra.delivery.header import Draft, Header
    from converra.process.jobs import JobQueue
    from converra.testing.capture import Capture
    from converra.wire.models import Message

BEGINNING = datetime(2025, 1, 1, tzinfo=UTC)
"""Time of the first message of every test; each further one is a second later. Calls take no time."""

_OURS = ("sdk", "sessionId")


class MemoryQueue(ConversationQueue):
    """A conversation queue that keeps messages in memory."""

    __slots__ = ("kept", "notes", "number")

    def __init__(self, delivery: Delivery, header: Header) -> None:
        super().__init__(delivery, header)
        self.kept: CapturedConversation | None = None
        self.number: int = 0
        self.notes: dict[str, Any] = dict(header.metadata)

    @property
    def id(self) -> str | None:
        """The id that a server would have given, once something was recorded."""
        return f"conv_{self.number}" if self.number else None


class MemoryDelivery(Delivery):
    """Takes messages in at once, and sends nothing."""

    def __init__(self, config: Config, capture: Capture, jobs: JobQueue) -> None:
        self._capture = capture
        self._lock = RLock()
        self._keyed: dict[str, CapturedConversation] = {}
        """The conversations that others may join, by idempotency key."""
        self._ids: dict[str, str] = {}
        """Ids of the messages in this test, by their real ids."""
        super().__init__(config, jobs=jobs)
        self._flusher.switch(Mode.CALLER_ASSEMBLES)

    def nudge(self) -> None:
        """Do nothing: what is held back is recorded when the test looks."""

    def open(self, header: Header) -> ConversationQueue:
        """Make a queue into memory."""
        return MemoryQueue(self, header)

    def append(self, queue: ConversationQueue, drafts: Sequence[Draft], at: float | None = None) -> None:  # noqa: ARG002 - no waiting
        """Keep messages, in the wire's form, after the user's redaction."""
        assert isinstance(queue, MemoryQueue)  # noqa: S101 - all queues come from `open`
        with self._lock:
            queue.used = True
            shared = self._keyed.get(queue.header.key) if queue.kept is None else None
            for draft in drafts:
                if shared is not None and getattr(draft, "already_known", False):
                    continue  # the process that opened the conversation has recorded it
                message = draft.message()
                if message is not None:
                    self._keep(queue, draft, message)

    def annotate(
        self,
        queue: ConversationQueue,
        metadata: Mapping[str, Any],
        *,
        alone: bool = False,  # noqa: ARG002 - nothing waits
        soon: bool = False,  # noqa: ARG002 - as above
    ) -> None:
        """Merge into the metadata; a late error goes to its message."""
        assert isinstance(queue, MemoryQueue)  # noqa: S101 - as above
        errors = metadata.get(LATE_ERRORS)
        if queue.kept is not None and isinstance(errors, dict) and errors.keys() <= self._ids.keys():
            self._add_errors(queue.kept, errors)
            return
        queue.notes.update(metadata)
        if queue.kept is not None:
            queue.kept.metadata.update(metadata)

    def end(self, queue: ConversationQueue, *, always: bool = False) -> None:
        """Complete a conversation, or abandon it if it holds no answer."""
        assert isinstance(queue, MemoryQueue)  # noqa: S101 - as above
        kept = queue.kept or (self._keyed.get(queue.header.key) if always else None)
        self._keyed.pop(queue.header.key, None)
        if kept is not None:
            answered = any(message.role in ("assistant", "tool") for message in kept.messages)
            kept.status = "completed" if answered else "abandoned"

    def flush(self, timeout: float | None = None, *, ends: bool = False, delivered: bool = False) -> bool:  # noqa: ARG002 - the signature of delivery
        """Nothing waits."""
        return True

    def shutdown(self, timeout: float | None = None) -> bool:  # noqa: ARG002 - the signature of delivery
        """Nothing waits, and nothing runs."""
        return True

    def stats(self) -> Stats:
        """Everything that came has arrived."""
        return Stats(captured=len(self._ids), delivered=len(self._ids))

    def _conversation(self, queue: MemoryQueue) -> CapturedConversation:
        if queue.kept is None:
            header, known = queue.header, self._capture._kept  # noqa: SLF001 - filled here, read by tests
            kept = self._keyed.get(header.key)
            if kept is None:
                kept = CapturedConversation(
                    prompt_id=header.prompt_id,
                    session_id=header.metadata.get("sessionId"),
                    company_name=header.company_name,
                )
                known.append(kept)
            kept.metadata.update((name, value) for name, value in queue.notes.items() if name not in _OURS)
            queue.kept, queue.number = kept, next(n for n, one in enumerate(known, 1) if one is kept)
            if header.shared:
                self._keyed[header.key] = kept
        return queue.kept

    def _add_errors(self, kept: CapturedConversation, errors: Mapping[str, Any]) -> None:
        by_id = {self._ids[given]: error for given, error in errors.items()}
        for message in kept.messages:
            error = by_id.get((message.metadata or {}).get("messageId", ""))
            if error is not None:
                message.metadata = {**(message.metadata or {}), "error": error}

    def _keep(self, queue: MemoryQueue, draft: Draft, message: Message) -> None:
        kept = self._conversation(queue)
        metadata = dict(message.metadata or {})
        given = metadata.get("messageId")
        if isinstance(given, str):
            metadata["messageId"] = self._ids[given] = f"message-{queue.number}-{len(kept.messages) + 1}"
        if metadata.get("replaces") in self._ids:
            metadata["replaces"] = self._ids[metadata["replaces"]]
        changes: dict[str, Any] = {"metadata": metadata or None}
        moment = BEGINNING + timedelta(seconds=len(self._ids) - 1)
        if isinstance(draft, ManualDraft):
            if message.timestamp is not None and draft.written.timestamp is None:
                changes["timestamp"] = moment
        else:
            changes |= _timeless(message, moment)
            metadata |= {name: 0.0 for name in ("timeToFirstTokenMs",) if name in metadata}
        kept.messages.append(msgspec.structs.replace(message, **changes))


def _timeless(message: Message, moment: datetime) -> dict[str, Any]:
    """Times of a call as if it took none; fields that were not measured, or were redacted, stay absent."""
    changes: dict[str, Any] = {}
    if message.timestamp is not None:
        changes["timestamp"] = moment
    if message.latency_ms is not None:
        changes["latency_ms"] = 0.0
    return changes
