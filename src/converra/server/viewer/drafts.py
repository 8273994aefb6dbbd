"""Answers in progress of the stand-in model, shown by a page until the turn is recorded.

The API knows whole turns only, so this is for the model that runs here. A request is taken for a conversation's where
it resends exactly what that has recorded; of two chats that are word for word the same, either may show it.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from converra.server.store.changes import DRAFTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from converra.server.store.changes import Changes

_KEPT = 50

Words = tuple[str, str]
"""Who said something, and what."""


class Draft:
    """An answer as far as it was streamed, to the words of a request."""

    def __init__(self, asked: Sequence[Words], changes: Changes) -> None:
        self._asked = asked
        self._changes = changes
        answers = [at for at, (role, _) in enumerate(asked) if role == "assistant"]
        self._known = answers[-1] + 1 if answers else 0
        self.text: str = ""

    def add(self, piece: str) -> None:
        """Add a piece of the answer."""
        if piece:
            self.text += piece
            self._changes.publish((DRAFTS,))

    def follows(self, recorded: Sequence[Words]) -> bool:
        """Return True if this answers a conversation with exactly these messages up to its last answer."""
        return self._known <= len(recorded) <= len(self._asked) and list(self._asked[: len(recorded)]) == recorded

    def question(self, recorded: Sequence[Words]) -> str:
        """Messages of the request that are not recorded yet."""
        return "\n\n".join(text for _, text in self._asked[len(recorded) :])


class Drafts:
    """The latest drafts of one server."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self._lock = threading.Lock()
        self._latest: deque[Draft] = deque(maxlen=_KEPT)

    def begin(self, asked: Iterable[Words]) -> Draft:
        """An answer to what was said, oldest first."""
        draft = Draft(_said(asked), self._changes)
        with self._lock:
            self._latest.appendleft(draft)
        return draft

    def of(self, messages: Sequence[Mapping[str, Any]]) -> tuple[str, str] | None:
        """The question and the answer so far that follow some messages, where there are any."""
        recorded = _said((message["role"], message["content"]) for message in messages)
        with self._lock:
            found = next((draft for draft in self._latest if draft.text and draft.follows(recorded)), None)
        return (found.question(recorded), found.text) if found and recorded else None


def _said(words: Iterable[Words]) -> list[Words]:
    """Without prompts, calls and results, which are written down in other ways than they are sent."""
    return [(role, text) for role, text in words if role in ("user", "assistant") and text]
