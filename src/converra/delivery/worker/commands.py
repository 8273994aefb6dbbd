"""What callers tell the workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from converra.delivery.conversation_queue import ConversationQueue


class Command(NamedTuple):
    """What a caller has to say. It is carried out by a worker."""

    kind: str
    queue: ConversationQueue | None = None
    payload: Any = None
    since: float = 0.0
