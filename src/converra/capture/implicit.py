"""Which implicit conversation a call continues: those that are open, found again by what was answered in them.

Two chats that open with the same words are two conversations, so shared questions say nothing, nor do a greeting or
examples that the app gives to every chat: a request continues the conversation whose answers it resends. Only the retry
of a first call that failed has no answer to show.

A growing list is known as a whole, by its looks alone. Where something was changed on the way, several conversations
may come into question, and the one that has most in common with the request is taken.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from converra.history import comparison
from converra.history.alignment import overlap
from converra.history.record import call_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from converra.capture.recording import Recording
    from converra.history.snapshot import Snapshot
    from converra.history.turn import Answer, Request, SourceMessage
    from converra.process.jobs import JobQueue

    Key = tuple[Any, ...]

MAX_OPEN = 10_000
"""Implicit conversations that are open at a time; past it, the one that has been silent longest is completed."""

MAX_CANDIDATES = 16
"""Conversations that one request is compared with, the most recent ones."""

SEARCH_DEPTH, TEXT_SEARCH_DEPTH = 64, 24
"""How far from its end a request is searched for something that was answered before: by looks, and by its words."""

RECENT_TURNS = 16
"""How many of its latest turns a conversation is known by."""


class ImplicitConversations:
    """The open implicit conversations of one process.

    What a turn makes its conversation known by is noted twice: where it stands now, at once and by the caller (`note`);
    and what was said in it, once it is assembled (`learn`). The first is enough for a list that only grows.
    """

    def __init__(self, jobs: JobQueue, idle_timeout: float) -> None:
        self._jobs = jobs
        self._idle_timeout = idle_timeout
        self.reset()

    def reset(self) -> None:
        """Forget all conversations: after a fork, the parent completes those that it has opened."""
        self._open: OrderedDict[Recording, _Known] = OrderedDict()
        """The one used last is last."""
        self._tips: dict[Key, dict[Recording, int]] = {}
        """Question and answer at the end of what a conversation knows → the digest of all of it. No lock: each step is
        one in C, and a tip that two threads lose leads to the longer search."""
        self._index: dict[Key, dict[Recording, None]] = {}

    def find(self, prompt_id: str, request: Request, fingerprints: list[int]) -> Recording | None:
        """The open conversation that this request continues best."""
        same = self._same(prompt_id, request, fingerprints)
        if len(same) == 1 and self._is_awake(same[0]):
            return same[0]
        keys = [] if same else list(_searched(prompt_id, request, fingerprints))
        if len(keys) == 1 and keys[0] not in self._tips and request.previous is None:
            return None  # nobody has answered anything in it, and no failed call is tried again
        with self._jobs.lock:
            self._jobs.work()
            return self._claimed(self._best(prompt_id, request, fingerprints, keys))

    def _best(self, prompt_id: str, request: Request, fingerprints: list[int], keys: Iterable[Key]) -> Recording | None:
        same = self._same(prompt_id, request, fingerprints)
        if same:
            return next((r for r in same if r.record.failed_fingerprints == fingerprints), same[0])
        return _most_alike(self._holders(keys)[-MAX_CANDIDATES:], request, fingerprints)

    def _same(self, prompt_id: str, request: Request, fingerprints: list[int]) -> list[Recording]:
        """Those that a growing list goes on from: everything up to an answer that they wait for is the same."""
        if request.previous is None:
            for last in range(len(fingerprints) - 1, max(0, len(fingerprints) - SEARCH_DEPTH), -1):
                tips = self._tips.get((prompt_id, fingerprints[last - 1], fingerprints[last]))
                if tips:
                    whole = hash(tuple(fingerprints[: last + 1]))
                    same = [recording for recording, its in tuple(tips.items()) if its == whole]
                    if same:
                        return same
        return []

    def _is_awake(self, recording: Recording) -> bool:
        """Whether it is open, and nobody is about to find it silent."""
        now = time.monotonic()
        awake = now - recording.used < self._idle_timeout / 2 and recording in self._open and not recording.ended
        if awake:
            recording.used = now
        return awake

    def note(self, recording: Recording, snapshot: Snapshot, answer: Answer | None) -> None:
        """Note where a turn that was just taken in leaves its conversation, which is open from now on."""
        known = self._open.get(recording)
        if known is None:
            with self._jobs.lock:
                known = self._open.setdefault(recording, _Known())
        with suppress(KeyError):  # it was found silent just now
            self._open.move_to_end(recording)
        prompt_id, fingerprints = recording.prompt_id, snapshot.fingerprints
        if answer is None:
            self._tip(recording, known, _failed(prompt_id, fingerprints), 0)
            return
        self._untip(recording, known)
        echo = snapshot.echo(answer)
        if echo is not None and fingerprints:
            self._tip(recording, known, (prompt_id, fingerprints[-1], echo), hash((*fingerprints, echo)))

    def learn(self, recording: Recording, snapshot: Snapshot, answer: Answer | None) -> None:
        """Note what a turn that is assembled makes its conversation known by."""
        prompt_id, fingerprints = recording.prompt_id, snapshot.fingerprints
        with self._jobs.lock:
            known = self._open.get(recording)
            if known is None:  # it was taken out meanwhile
                return
            if answer is None:
                failed = {_failed(prompt_id, fingerprints)}
                known.tips |= failed
                self._add(recording, failed)
            else:
                tips, keys = _keys(prompt_id, fingerprints, answer)
                self._drop(recording, known.turned(tips, keys))
                self._add(recording, tips | keys)

    @property
    def waiting(self) -> bool:
        """Whether any is open."""
        return bool(self._open)

    def silent(self, seconds: float) -> list[Recording]:
        """Take out those that have been silent for so long, and those past the bound."""
        before = time.monotonic() - seconds
        with self._jobs.lock:
            idle = [r for r in list(self._open) if not r.busy]
            overdue = max(0, len(self._open) - MAX_OPEN)
            found = [r for n, r in enumerate(idle) if r.used < before or n < overdue]
            for recording in found:
                known = self._open.pop(recording)
                self._untip(recording, known)
                self._drop(recording, known.all())
        return found

    def all(self) -> list[Recording]:
        """Take out every open conversation."""
        with self._jobs.lock:
            found = list(self._open)
            self._open.clear()
            self._index.clear()
            self._tips.clear()
        return found

    def _claimed(self, recording: Recording | None) -> Recording | None:
        """A recording that is found is not silent any more; one that was taken out meanwhile is not found."""
        with self._jobs.lock:
            if recording is None or recording not in self._open or recording.ended:
                return None
            recording.used = time.monotonic()
            return recording

    def _holders(self, keys: Iterable[Key]) -> list[Recording]:
        """Those that hold the first of these keys that anybody holds."""
        return next((list(holders) for key in keys if (holders := self._index.get(key))), [])

    def _tip(self, recording: Recording, known: _Known, key: Key, whole: int) -> None:
        known.noted.append(key)
        self._tips.setdefault(key, {})[recording] = whole

    def _untip(self, recording: Recording, known: _Known) -> None:
        with suppress(IndexError):  # another thread may take the last one
            while known.noted:
                key = known.noted.pop()
                holders = self._tips.get(key, {})
                holders.pop(recording, None)
                if not holders:
                    self._tips.pop(key, None)

    def _add(self, recording: Recording, keys: Iterable[Key]) -> None:
        for key in keys:
            self._index.setdefault(key, {})[recording] = None

    def _drop(self, recording: Recording, keys: Iterable[Key]) -> None:
        for key in keys:
            holders = self._index.get(key, {})
            holders.pop(recording, None)
            if not holders:
                self._index.pop(key, None)


class _Known:
    """What one conversation is known by: keys that hold until its next turn, and those of its latest turns."""

    __slots__ = ("noted", "recent", "tips")

    def __init__(self) -> None:
        self.noted: list[Key] = []
        self.tips: set[Key] = set()
        self.recent: deque[set[Key]] = deque()

    def turned(self, tips: set[Key], keys: set[Key]) -> set[Key]:
        """Take over the keys of a new turn; those that it is not known by any more."""
        before = self.all()
        self.tips = tips
        self.recent.append(keys)
        if len(self.recent) > RECENT_TURNS:
            self.recent.popleft()
        return before - self.all()

    def all(self) -> set[Key]:
        return self.tips.union(*self.recent)


def _most_alike(candidates: Iterable[Recording], request: Request, fingerprints: list[int]) -> Recording | None:
    best, best_overlap = None, None
    for recording in candidates:
        if request.previous is not None:
            return recording
        found = overlap(recording.record, request, fingerprints)
        if (found.shared or found.retried) and (best_overlap is None or found > best_overlap):
            best, best_overlap = recording, found
    return best


def _keys(prompt_id: str, fingerprints: list[int], answer: Answer) -> tuple[set[Key], set[Key]]:
    """What a turn will be found by: where it stands now (question and answer), and what it said."""
    asked = fingerprints[-1] if fingerprints else None
    marks = [mark for source in answer.messages for mark in _marks(source)]
    tips: set[Key] = {(prompt_id, "tip", asked, mark) for mark in marks}
    keys: set[Key] = {(prompt_id, "said", mark) for mark in marks}
    if answer.response_id:
        keys.add((prompt_id, "id", answer.response_id))
    keys.add((prompt_id, "asked", asked))
    return tips, keys


def _failed(prompt_id: str, fingerprints: list[int]) -> Key:
    return prompt_id, "failed", len(fingerprints), fingerprints[-1] if fingerprints else None


def _searched(prompt_id: str, request: Request, fingerprints: list[int]) -> Iterator[Key]:
    """What else a request may be recognised by, the surest first."""
    if request.previous is not None:
        yield prompt_id, "id", request.previous
        return
    answered = []
    for at, key in _answered(
        request, range(len(fingerprints) - 1, max(0, len(fingerprints) - TEXT_SEARCH_DEPTH) - 1, -1)
    ):
        answered.append(key)
        yield prompt_id, "tip", fingerprints[at - 1] if at else None, key
    for key in answered:
        yield prompt_id, "said", key
    yield _failed(prompt_id, fingerprints)
    if answered:
        for fingerprint in fingerprints[: -TEXT_SEARCH_DEPTH - 1 : -1]:
            yield prompt_id, "asked", fingerprint


def _answered(request: Request, indexes: range) -> Iterator[tuple[int, Key]]:
    """What marks the replies and tool calls near the end of a request, the last first."""
    for index in indexes:
        for source in request.dialect.read(request.messages[index]):
            for mark in _marks(source):
                yield index, mark


def _marks(source: SourceMessage) -> Iterator[Key]:
    """By what an assistant's words and calls are known again, even edited."""
    if source.role == "assistant":
        if source.text or not source.calls:
            yield "line", hash(comparison.first_line(source.text))
        for called in source.calls:
            yield call_key(called.id, called.name, called.arguments)
