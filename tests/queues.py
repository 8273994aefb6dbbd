"""A conversation queue that keeps what a recording appends, for tests to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.delivery.header import Header

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from converra.history.draft import Draft, ManualDraft
    from converra.wire.models import Message


class MemoryQueue:
    """Keeps drafts and metadata in order, and sends nothing."""

    def __init__(self, header: Header | None = None) -> None:
        self.header = header or Header(key="key", prompt_id="prompt")
        self.id: str | None = None
        self.drafts: list[Draft | ManualDraft] = []
        self.metadata: dict[str, Any] = {}
        self.ends: list[bool] = []
        """The `always` of each `end`."""
        self.sent_now = 0

    def append(self, drafts: Sequence[Draft | ManualDraft], at: float | None = None) -> None:
        self.drafts += drafts

    def annotate(self, metadata: Mapping[str, Any], *, alone: bool = False, soon: bool = False) -> None:
        self.metadata |= metadata

    def send_now(self) -> None:
        self.sent_now += 1

    def end(self, *, always: bool = False) -> None:
        self.ends.append(always)

    def messages(self) -> list[Message]:
        """Return the messages as they would be sent."""
        return [message for draft in self.drafts if (message := draft.message()) is not None]

    def talk(self) -> list[str]:
        """Return roles with texts, or with the names of the called tools."""
        return [f"{m.role}: {m.content or ' '.join(str(c.name) for c in m.tool_calls or ())}" for m in self.messages()]


def as_it_is(message: Message) -> Message:
    """Return the message without redaction."""
    return message
