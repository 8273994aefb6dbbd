"""Which implicit conversation a call continues: those that are open, found again by what was answered in them.

Two chats that open with the same words are two conversations, so shared questions say nothing: a request continues the
conversation whose answers it resends. Only the retry of a first call that failed has no answer to show.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from threading import RLock
from typing import TYPE_CHECKING, Any

from converra.conversation.assembly import overlap
from converra.conversation.record import KEYED, REPLY, atoms_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converra.conversation.turn import Answer, Request
    from converra.recording import Recording

MAX_OPEN = 10_000
"""Implicit conversations that are open at a time; past it, the one that has been silent longest is completed."""

MAX_CANDIDATES = 16
"""Conversations that one request is compared with, the most recent ones."""

LOOK_BACK = 8
"""How far from its end a request is searched for something that was answered before."""


class Stitcher:
    """The open implicit conversations of one process."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._open: OrderedDict[Recording, set[Any]] = OrderedDict()
        """Recording → its keys in the index; the one used last is last."""
        self._tips: dict[Recording, set[Any]] = {}
        """Recording → those keys that hold only until its next turn."""
        self._index: dict[Any, dict[Recording, None]] = {}

    def find(self, prompt_id: str, request: Request, looks: list[int]) -> Recording | None:
        """The open conversation that this request continues best."""
        best, best_overlap = None, None
        for recording in self._candidates(prompt_id, request, looks):
            if request.previous is not None:
                return recording
            found = overlap(recording.record, request, looks)
            if (found.shared or found.retried) and (best_overlap is None or found > best_overlap):
                best, best_overlap = recording, found
        return best

    def learn(self, recording: Recording, prompt_id: str, looks: list[int], answer: Answer | None) -> None:
        """Note what a turn makes this conversation known by. A recording that is new is open from now on."""
        tips, keys = _keys(prompt_id, looks, answer)
        with self._lock:
            known = self._open.setdefault(recording, set())
            self._open.move_to_end(recording)
            self._drop(recording, self._tips.get(recording, set()) - keys)
            self._tips[recording] = tips
            known |= tips | keys
            for key in tips | keys:
                self._index.setdefault(key, {})[recording] = None

    def silent(self, seconds: float) -> list[Recording]:
        """Take out those that have been silent for so long, and those past the bound."""
        before = time.monotonic() - seconds
        with self._lock:
            idle = [r for r in self._open if not r.busy]
            overdue = max(0, len(self._open) - MAX_OPEN)
            found = [r for n, r in enumerate(idle) if r.used < before or n < overdue]
            for recording in found:
                self._drop(recording, self._open.pop(recording))
                self._tips.pop(recording, None)
        return found

    def all(self) -> list[Recording]:
        """Take out every open conversation."""
        with self._lock:
            found = list(self._open)
            for part in (self._open, self._tips, self._index):
                part.clear()
        return found

    def _candidates(self, prompt_id: str, request: Request, looks: list[int]) -> list[Recording]:
        with self._lock:
            for key in _searched(prompt_id, request, looks):
                found = self._index.get(key)
                if found:
                    return list(found)[-MAX_CANDIDATES:]
        return []

    def _drop(self, recording: Recording, keys: set[Any]) -> None:
        for key in keys:
            holders = self._index.get(key, {})
            holders.pop(recording, None)
            if not holders:
                self._index.pop(key, None)


def _keys(prompt_id: str, looks: list[int], answer: Answer | None) -> tuple[set[Any], set[Any]]:
    """What a turn will be found by: where it stands now (question and answer), and what it said."""
    asked = looks[-1] if looks else None
    if answer is None:
        return {(prompt_id, "failed", len(looks), asked)}, set()
    atoms = [atom.key for said in answer.said for atom in atoms_of(said) if atom.kind in (REPLY, KEYED)]
    tips = {(prompt_id, "tip", asked, key) for key in atoms}
    keys = {(prompt_id, "said", key) for key in atoms}
    if answer.response_id:
        keys.add((prompt_id, "id", answer.response_id))
    keys.add((prompt_id, "asked", asked))
    return tips, keys


def _searched(prompt_id: str, request: Request, looks: list[int]) -> Iterator[Any]:
    """What a request may be recognised by, the surest first."""
    if request.previous is not None:
        yield prompt_id, "id", request.previous
        return
    first = max(0, len(looks) - LOOK_BACK)
    answered = list(_answered(request, range(len(looks) - 1, first - 1, -1)))
    for index, key in answered:
        yield prompt_id, "tip", looks[index - 1] if index else None, key
    for _, key in answered:
        yield prompt_id, "said", key
    if answered:
        for look in reversed(looks[first:]):
            yield prompt_id, "asked", look
    elif looks:
        yield prompt_id, "failed", len(looks), looks[-1]


def _answered(request: Request, indexes: range) -> Iterator[tuple[int, Any]]:
    """The replies and tool calls near the end of a request, the last first."""
    for index in indexes:
        for said in request.dialect.read(request.messages[index]):
            for atom in atoms_of(said):
                if atom.kind == REPLY or (atom.kind == KEYED and atom.key[0] == "call"):
                    yield index, atom.key
