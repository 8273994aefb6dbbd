"""New messages of a local store, found by polling, so that writes of other processes are seen as well."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from converra.api.results import StoredMessage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converra.server.store.conversations import Store
    from converra.server.store.records import Conversation

WATCHED = 200
"""Number of newest conversations that are polled. A new message in an older one is not noticed."""

_RECENT_MS = 1000
"""Two changes may have the same millisecond; so one that is this recent is looked at again."""


class FeedMessage(NamedTuple):
    """A message that is new; None for the end of its conversation."""

    conversation: Conversation
    message: StoredMessage | None


class _Seen(NamedTuple):
    updated_at: int
    messages: int
    ended: bool


class Feed:
    """The messages of a store from now on, preceded by the `last` earlier ones."""

    def __init__(self, store: Store, *, last: int = 0) -> None:
        self._store = store
        self._seen: dict[str, _Seen] = {}
        before = list(self._new())
        self._first = [said for said in before if said.message is not None][-last:] if last else []

    def new(self) -> Iterator[FeedMessage]:
        """Return the messages since the last call."""
        first, self._first = self._first, []
        yield from first
        yield from self._new()

    def _new(self) -> Iterator[FeedMessage]:
        conversations, _ = self._store.conversations(limit=WATCHED)
        for conversation in reversed(conversations):
            seen = self._seen.get(conversation.id, _Seen(-1, 0, ended=False))
            if conversation.updated_at != seen.updated_at or self._is_recent(conversation):
                yield from self._of(conversation, seen)

    def _is_recent(self, conversation: Conversation) -> bool:
        return self._store.now() - conversation.updated_at < _RECENT_MS

    def _of(self, conversation: Conversation, seen: _Seen) -> Iterator[FeedMessage]:
        messages = self._store.messages(conversation)
        ended = conversation.status in ("completed", "abandoned")
        self._seen[conversation.id] = _Seen(conversation.updated_at, len(messages), ended)
        for message in messages[seen.messages :]:
            yield FeedMessage(conversation, StoredMessage.from_dict(message))
        if ended and not seen.ended:
            yield FeedMessage(conversation, None)
