"""Input of a delivery: the header that opens a conversation, and the drafts of its messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec

if TYPE_CHECKING:
    from converra.wire.models import Message


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The fields that a conversation is created with (API document, "Create Conversation")."""

    key: str
    """Becomes the idempotency key."""
    prompt_id: str
    company_name: str | None = None
    shared: bool = False
    """Other processes append to the same session: the conversation may exist before this process and outlive it."""
    metadata: dict[str, Any] = {}


class Draft(Protocol):
    """A recorded message that is not built yet."""

    @property
    def size(self) -> int:
        """Bytes that the draft keeps alive; counts against `max_pending_bytes`."""

    @property
    def already_known(self) -> bool:
        """True for history from before this process joined a shared session.

        It is sent only if the conversation does not exist yet.
        """

    def message(self) -> Message | None:
        """Build the message: redacted, safe for strict JSON, with `metadata.messageId`.

        Called once, by a worker for the memory outbox. Never raises. Returns None if redaction dropped the message.
        """
