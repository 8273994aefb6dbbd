"""The open implicit conversations, and the search for the one that a call continues.

A request continues the conversation whose answers it resends. Two chats that open with the same words are two
conversations, so shared questions prove nothing; nor does a greeting or an example that the app puts into every chat.
Only the retry of a first call that failed has no answer to show.

A list that only grew is found by the hash of its fingerprints. If something in it was changed, several conversations
may match; the one that shares most with the request is taken.
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
    from converra.history.record import Snapshot
    from converra.history.turn import Answer, Request, SourceMessage
    from converra.process.jobs import JobQueue, PeriodicTask

    Key = tuple[Any, ...]

MAX_OPEN = 10_000
"""Open implicit conversations; past it, the one that has been silent longest is completed."""

MAX_CANDIDATES = 16
"""Conversations that one request is compared with at most: the most recent ones."""

SEARCH_DEPTH, TEXT_SEARCH_DEPTH = 64, 24
"""Messages at the end of a request that are searched for an answer: by fingerprint, and by text."""

RECENT_TURNS = 16
"""Latest turns of a conversation that are indexed."""


class ImplicitConversations:
    """The open implicit conversations of one process.

    A turn is indexed twice: by the end of its conversation, at once and by the caller (`note`); and by its texts, once
    it is assembled (`learn`). The first is enough for a list that only grows.
    """

    def __init__(self, jobs: JobQueue, idle_timeout: float, sweeper: PeriodicTask) -> None:
        self._jobs = jobs
        self._sweeper = sweeper
        self._idle_timeout = idle_timeout
        self.reset()

    def reset(self) -> None:
        """Forget everything; a forked child does: the parent completes what it has opened."""
        self._open: OrderedDict[Recording, _Entry] = OrderedDict()
        """The one used last is last."""
        self._tips: dict[Key, dict[Recording, int]] = {}
        """Last question and answer of a conversation → the conversations that end so, each with the hash of all its
        fingerprints. Used without the lock: each step is atomic, and a lost tip only leads to the longer search."""
        self._index: dict[Key, dict[Recording, None]] = {}

    def find(self, prompt_id: str, request: Request, fingerprints: list[int]) -> Recording | None:
        """Return the open conversation that a request continues best.

        Args:
            prompt_id: The prompt; conversations of other prompts are not searched.
            request: What is sent to the model.
            fingerprints: One integer for each of its messages.

        """
        same = self._same(prompt_id, request, fingerprints)
        if len(same) == 1 and self._is_awake(same[0]):
            return same[0]
        keys = [] if same else list(_searched(prompt_id, request, fingerprints))
        if len(keys) == 1 and keys[0] not in self._tips and request.previous is None:
            return None  # the request holds no answer, and is no retry of a failed call
        with self._jobs.lock:
            self._jobs.work()
            return self._claimed(self._best(prompt_id, request, fingerprints, keys))

    def _best(self, prompt_id: str, request: Request, fingerprints: list[int], keys: Iterable[Key]) -> Recording | None:
        same = self._same(prompt_id, request, fingerprints)
        if same:
            failed = (r for r in same if r.record.failed_fingerprints == fingerprints)
            idle = (r for r in same if not r.busy)  # two chats with the same words, side by side
            return next(failed, None) or next(idle, same[0])
        return _most_alike(self._holders(keys)[-MAX_CANDIDATES:], request, fingerprints)

    def _same(self, prompt_id: str, request: Request, fingerprints: list[int]) -> list[Recording]:
        """Find the conversations that the request extends: everything up to their last answer is the same."""
        if request.previous is None:
            for last in range(len(fingerprints) - 1, max(0, len(fingerprints) - SEARCH_DEPTH), -1):
                tips = self._tips.get((prompt_id, fingerprints[last - 1], fingerprints[last]))
                if tips:
                    digest = hash(tuple(fingerprints[: last + 1]))
                    same = [recording for recording, of_all in tuple(tips.items()) if of_all == digest]
                    if same:
                        return same
        return []

    def _is_awake(self, recording: Recording) -> bool:
        """Return True if a recording is open and no sweep is about to complete it; mark it as used then."""
        now = time.monotonic()
        awake = now - recording.used < self._idle_timeout / 2 and recording in self._open and not recording.ended
        if awake:
            recording.used = now
        return awake

    def note(self, recording: Recording, snapshot: Snapshot, answer: Answer | None, *, failed: bool) -> None:
        """Index the end of a conversation, which is open from now on, by the turn that was just taken in.

        Args:
            recording: The conversation.
            snapshot: The request of the turn.
            answer: Its answer, as far as it came; None if nothing of it came.
            failed: The call failed, perhaps in the middle of its answer: the app may make it again.

        """
        entry = self._open.get(recording)
        if entry is None:
            with self._jobs.lock:
                entry = self._open.setdefault(recording, _Entry())
            self._sweeper.wanted = True
        with suppress(KeyError):  # a sweep has just taken it out
            self._open.move_to_end(recording)
        prompt_id, fingerprints = recording.prompt_id, snapshot.fingerprints
        if answer is not None:
            self._untip(recording, entry)
            echo = snapshot.echo(answer)
            if echo is not None and fingerprints:
                self._tip(recording, entry, (prompt_id, fingerprints[-1], echo), hash((*fingerprints, echo)))
        if failed or answer is None:
            self._tip(recording, entry, _failed(prompt_id, fingerprints), 0)

    def learn(self, recording: Recording, snapshot: Snapshot, answer: Answer | None, *, failed: bool) -> None:
        """Index a conversation by the texts and tool calls of a turn that is assembled; arguments as for `note`."""
        prompt_id, fingerprints = recording.prompt_id, snapshot.fingerprints
        with self._jobs.lock:
            entry = self._open.get(recording)
            if entry is None:  # a sweep has taken it out meanwhile
                return
            if answer is not None:
                tips, keys = _keys(prompt_id, fingerprints, answer)
                self._drop(recording, entry.replace_turn(tips, keys))
                self._add(recording, tips | keys)
            if failed or answer is None:
                again = {_failed(prompt_id, fingerprints)}
                entry.tips |= again
                self._add(recording, again)

    @property
    def is_open(self) -> bool:
        """True while a conversation is open."""
        return bool(self._open)

    def take_silent(self, seconds: float) -> list[Recording]:
        """Remove and return the conversations that were silent for `seconds`, and the oldest past `MAX_OPEN`."""
        before = time.monotonic() - seconds
        with self._jobs.lock:
            idle = [r for r in list(self._open) if not r.busy]
            overdue = max(0, len(self._open) - MAX_OPEN)
            found = [r for n, r in enumerate(idle) if r.used < before or n < overdue]
            for recording in found:
                entry = self._open.pop(recording)
                self._untip(recording, entry)
                self._drop(recording, entry.all())
        return found

    def all(self) -> list[Recording]:
        """List every open conversation."""
        with self._jobs.lock:
            return list(self._open)

    def take_all(self) -> list[Recording]:
        """Remove and return every open conversation."""
        with self._jobs.lock:
            found = list(self._open)
            self._open.clear()
            self._index.clear()
            self._tips.clear()
        return found

    def _claimed(self, recording: Recording | None) -> Recording | None:
        """Mark a recording as used; return None if it was completed or taken out meanwhile."""
        with self._jobs.lock:
            if recording is None or recording not in self._open or recording.ended:
                return None
            recording.used = time.monotonic()
            return recording

    def _holders(self, keys: Iterable[Key]) -> list[Recording]:
        """Return the conversations under the first of these keys that is indexed."""
        return next((list(holders) for key in keys if (holders := self._index.get(key))), [])

    def _tip(self, recording: Recording, entry: _Entry, key: Key, digest: int) -> None:
        entry.noted.append(key)
        self._tips.setdefault(key, {})[recording] = digest

    def _untip(self, recording: Recording, entry: _Entry) -> None:
        with suppress(IndexError):  # another thread may take the last one
            while entry.noted:
                key = entry.noted.pop()
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


class _Entry:
    """The keys of one conversation: those that hold until its next turn, and those of its latest turns."""

    __slots__ = ("noted", "recent", "tips")

    def __init__(self) -> None:
        self.noted: list[Key] = []
        self.tips: set[Key] = set()
        self.recent: deque[set[Key]] = deque()

    def replace_turn(self, tips: set[Key], keys: set[Key]) -> set[Key]:
        """Take over the keys of a new turn; return those that hold no longer."""
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
    """Compute the keys of a turn: its end (question and answer), and its single texts and calls."""
    asked = fingerprints[-1] if fingerprints else None
    marks = [mark for source in answer.readable().messages for mark in _marks(source)]
    tips: set[Key] = {(prompt_id, "tip", asked, mark) for mark in marks}
    keys: set[Key] = {(prompt_id, "said", mark) for mark in marks}
    if answer.response_id:
        keys.add((prompt_id, "id", answer.response_id))
    keys.add((prompt_id, "asked", asked))
    return tips, keys


def _failed(prompt_id: str, fingerprints: list[int]) -> Key:
    return prompt_id, "failed", len(fingerprints), fingerprints[-1] if fingerprints else None


def _searched(prompt_id: str, request: Request, fingerprints: list[int]) -> Iterator[Key]:
    """Yield the keys to search a request by, the most certain first."""
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
    """Yield index and key of the answers and tool calls near the end of a request, the last first."""
    for index in indexes:
        for source in request.dialect.read(request.messages[index]):
            for mark in _marks(source):
                yield index, mark


def _marks(source: SourceMessage) -> Iterator[Key]:
    """Yield keys of an assistant's text and calls that survive edits: the first line, and the calls."""
    if source.role == "assistant":
        if source.text or not source.calls:
            yield "line", hash(comparison.first_line(source.text))
        for called in source.calls:
            yield call_key(called.id, called.name, called.arguments)
