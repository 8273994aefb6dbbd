"""New messages and rejected requests of a local store, found by polling, so that other processes' are seen as well."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from converra.api.results import StoredMessage
from converra.cli.ids import label

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converra.server.store.conversations import Store
    from converra.server.store.records import Conversation, RequestLine

WATCHED = 200
"""Number of newest conversations that are polled. A new message in an older one is not noticed."""

_RECENT_MS = 1000
"""Two changes may have the same millisecond; so one that is this recent is looked at again."""


class FeedMessage(NamedTuple):
    """A message that is new; None for the end of its conversation."""

    conversation: Conversation
    message: StoredMessage | None
    label: str
    """A part of the conversation's id by which commands find it."""
    at: int
    """Arrival, in milliseconds since the epoch."""


class _Seen(NamedTuple):
    updated_at: int
    messages: int
    ended: bool
    label: str


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
            seen = self._seen.get(conversation.id) or _Seen(-1, 0, ended=False, label="")
            if conversation.updated_at != seen.updated_at or self._is_recent(conversation):
                yield from self._of(conversation, seen)

    def _is_recent(self, conversation: Conversation) -> bool:
        return self._store.now() - conversation.updated_at < _RECENT_MS

    def _of(self, conversation: Conversation, seen: _Seen) -> Iterator[FeedMessage]:
        messages = self._store.messages(conversation)
        ended = conversation.status in ("completed", "abandoned")
        short = seen.label or label(conversation.id, self._store)
        self._seen[conversation.id] = _Seen(conversation.updated_at, len(messages), ended, short)
        if len(messages) > seen.messages:
            received = self._store.received(conversation)
            for message, at in list(zip(messages, received, strict=False))[seen.messages :]:
                yield FeedMessage(conversation, StoredMessage.from_dict(message), short, at)
        if ended and not seen.ended:
            yield FeedMessage(conversation, None, short, conversation.updated_at)


class Rejections:
    """The requests of a store from now on that were answered with an error, or not at all."""

    def __init__(self, store: Store) -> None:
        self._store = store
        newest = store.log.lines(1)
        self._first = newest[0].number + 1 if newest else 0
        self._known: set[int] = set()

    def new(self) -> Iterator[RequestLine]:
        """Return the rejected requests since the last call, oldest first."""
        lines = [line for line in self._store.log.lines(WATCHED, refused=True) if line.number >= self._first]
        over = [line for line in lines if self._is_over(line)]
        new = [line for line in over if line.number not in self._known]
        self._known = {line.number for line in over}
        return reversed(new)

    def _is_over(self, line: RequestLine) -> bool:
        """Return True if the log has the end of the answer, and so its reason; an empty one is over after a while."""
        if line.ms is None or line.status is None:
            return line.ms is not None
        return bool(line.answer_bytes) or self._store.now() - line.received_at > _RECENT_MS
