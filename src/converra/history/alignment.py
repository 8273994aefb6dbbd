"""A request laid beside a record: what of it is old.

================  ====================================================================================
what              rule
================  ====================================================================================
unchanged prefix  the request extends one that was seen: nothing of that part is new (the common case)
system text       in the set of those recorded
tool call         by id and name, counted; without an id by name and arguments
tool result       by the id of its call, counted; a reused id with another text is another result
words             a run that ends where the record ends; else the longest common subsequence with the
                  recorded words, in which an assistant's count double
moved words       before the last answer of the request, recorded words are old in any order
edited words      an assistant's text that only gained or lost something is old, what was appended is new
================  ====================================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from converra.history import edits
from converra.history.lcs import lcs
from converra.history.record import KEYED, REPLY, START, SYSTEM, WORDS, MatchKey, MatchKeys, Record, system_key
from converra.history.turn import SourceMessage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from converra.history.record import KnownPrefix
    from converra.history.snapshot import Snapshot

MAX_EDITED = 8
"""How many recorded texts an edited one is compared with: those next to its neighbours."""


SILENCE = SourceMessage(role="assistant")


class Item(msgspec.Struct):
    """One thing said in the request: its words (if it has any), and calls, a result or a system text."""

    index: int
    """Of its message."""
    part: int
    kind: int
    key: Any
    """Kind and key of its first atom."""
    match_keys: MatchKeys
    old: tuple[bool, ...] = ()
    """Whether each atom is recorded, without that of the words."""
    at: int | None = None
    """Position of its words, if they are recorded."""
    appended: list[str] = []

    @property
    def is_old(self) -> bool:
        """Whether all of it is recorded."""
        return (self.kind < WORDS or self.at is not None) and all(self.old)


class Alignment:
    """What of a request is old. Records nothing."""

    def __init__(self, record: Record, snapshot: Snapshot) -> None:
        self.record = record
        self.snapshot = snapshot
        self.known_prefix = self._known_prefix()
        if not self._align() and self.known_prefix:  # its words were said in another place too, and this is that place
            self.known_prefix = None
            self._align()

    def _known_prefix(self) -> KnownPrefix | None:
        """What the request extends: as when the call began, if no other call has come between."""
        snapshot, record = self.snapshot, self.record
        if snapshot.previous is not None:
            return None
        if (
            snapshot.known_prefix
            and snapshot.version == record.version
            and snapshot.known_prefix.fingerprints is snapshot.prefix
        ):
            return snapshot.known_prefix
        return record.continued(snapshot.fingerprints)[0]

    def _align(self) -> bool:
        """Lay the request beside the record; False if recorded words of an assistant found no place."""
        self.base = self.known_prefix.last + 1 if self.known_prefix else 0
        """Texts before this position are matched by the prefix."""
        self.counts: dict[Any, int] = {}
        """Occurrences of KEYED atoms in the request, after the prefix."""
        self.items = self._items()
        return self._match_texts([item for item in self.items if item.kind >= WORDS])

    def source(self, item: Item) -> SourceMessage:
        """Read what an item says; nothing, if its message has been changed since the call began."""
        parts = self.snapshot.source(item.index)
        return parts[item.part] if item.part < len(parts) else SILENCE

    def prefix_replies(self) -> int:
        """How many texts of an assistant the prefix holds."""
        return self.known_prefix.replies if self.known_prefix else 0

    def answers(self) -> int:
        """How many things in the request are answers that a model has given here."""
        return (self.known_prefix.answers if self.known_prefix else 0) + sum(map(self._is_answer, self.items))

    def _is_answer(self, item: Item) -> bool:
        if item.at is not None and self.record.recorded_texts[item.at].given:
            return True
        calls = [
            match_key.key for match_key in item.match_keys if match_key.kind == KEYED and match_key.key[0] == "call"
        ]
        return not self.record.keyed.given.isdisjoint((*calls, *(("unnamed", key[2]) for key in calls)))

    def system(self) -> int | None:
        """Hash the first system text of the request: what tells a side call from a new question."""
        if self.known_prefix:
            return self.known_prefix.system
        if self.snapshot.instructions:
            return system_key(self.snapshot.instructions)
        for index in range(min(2, len(self.snapshot.fingerprints))):
            for match_keys in self.snapshot.match_keys(index, self.record):
                if match_keys[0].kind == SYSTEM:
                    return int(match_keys[0].key)
        return None

    def is_old(self, match_key: MatchKey) -> bool:
        """Whether an atom is old, for the kinds whose order does not matter; counts it."""
        if match_key.kind == SYSTEM:
            return match_key.key in self.record.systems
        if self.snapshot.previous is not None:
            return False
        return self._count(match_key.key) or self._invented_id(match_key.key)

    def accounts_for(self, key: Any) -> bool:
        """Whether every occurrence of a KEYED atom in the request is taken for a recorded one."""
        before = self.known_prefix.counts.get(key, 0) if self.known_prefix else 0
        return before + self.counts.get(key, 0) <= self.record.keyed.counts.get(key, 0)

    def _items(self) -> list[Item]:
        items, snapshot, record = [], self.snapshot, self.record
        for index in range(len(self.known_prefix.fingerprints) if self.known_prefix else 0, len(snapshot.fingerprints)):
            for part, match_keys in enumerate(snapshot.match_keys(index, record)):
                kind, key = match_keys[0]
                unordered = match_keys if kind < WORDS else match_keys[1:]
                old = tuple(map(self.is_old, unordered)) if unordered else ()
                items.append(Item(index, part, kind, key, match_keys, old))
        return items

    def _count(self, key: Any) -> bool:
        """Count an occurrence; it is old if no more than that are recorded."""
        self.counts[key] = self.counts.get(key, 0) + 1
        return self.accounts_for(key)

    def _invented_id(self, key: Any) -> bool:
        """A call that was recorded without an id may come back with one that a framework made up."""
        return key[0] == "call" and key[1] is not None and self._count(("unnamed", key[2]))

    # -- words ---------------------------------------------------------------------------------------------------

    def _match_texts(self, source: list[Item]) -> bool:
        """Align the words of the request with those recorded since the prefix that is known to be old."""
        if self.snapshot.previous is not None:
            return True
        start, rest = self._follow(source) if self.known_prefix else (0, source)
        latest = self.record.latest
        shared = [item for item in rest if latest.get(item.key, START) >= start]
        if shared and not self._slide(rest, start):
            self._subsequence(shared, start)
        answered = False
        for item in reversed(rest):
            answered = answered or item.kind == REPLY
            if answered and item.at is None:
                return self._match_loosely(rest, start)
        return True

    def _match_loosely(self, source: list[Item], start: int) -> bool:
        """Find a place for what stands before the last answer; False if another prefix might have one."""
        answers = [n for n, item in enumerate(source) if item.kind == REPLY]
        displaced = [item for item in source[: answers[-1] + 1] if item.at is None and item.key in self.record.latest]
        if displaced and self.known_prefix:
            return False
        self._match_edited(source, start)
        self._match_moved(displaced, source)
        return True

    def _follow(self, source: list[Item]) -> tuple[int, list[Item]]:
        """Match the texts that were recorded right after the prefix; say where the rest begins."""
        at, texts = self.base, self.record.texts
        for n, item in enumerate(source):
            if at == len(texts) or texts[at] != item.key:
                return at, source[n:]
            item.at = at
            at += 1
        return at, []

    def _slide(self, source: list[Item], start: int) -> bool:
        """Match a run that ends where the record ends, as in a window that slides along a chat.

        What follows the run is new even where it repeats something, unless an assistant has said it.
        """
        texts, keys = self.record.texts, [item.key for item in source]
        if texts[-1] not in keys:
            return False
        end = len(keys) - keys[::-1].index(texts[-1])
        first = len(texts) - end
        if first < start or texts[first:] != keys[:end]:
            return False
        if any(item.kind == REPLY and item.key in self.record.latest for item in source[end:]):
            return False
        for at, item in enumerate(source[:end], first):
            item.at = at
        return True

    def _subsequence(self, source: list[Item], start: int) -> None:
        """Match the longest common subsequence, of those texts that request and record have both."""
        texts, recorded_texts = self.record.texts, self.record.recorded_texts
        keys = {item.key for item in source}
        places = [at for at in range(start, len(texts)) if texts[at] in keys]
        old, old_at = _weighted((texts[at], recorded_texts[at].assistant) for at in places)
        new, new_at = _weighted((item.key, item.kind == REPLY) for item in source)
        for j, i in lcs(old, new).items():
            source[new_at[j]].at = places[old_at[i]]

    def _match_edited(self, source: list[Item], start: int) -> None:
        """Between two texts that match, an assistant's that only gained or lost something is still the same."""
        until, before = len(self.record.texts), start
        limits: list[int] = []
        for item in reversed(source):
            limits.append(until)
            until = until if item.at is None else item.at
        for item in source:
            limit = limits.pop()
            if item.at is None and item.kind == REPLY and item.key not in self.record.latest:
                self._edited(item, range(before, limit))
            before = before if item.at is None else item.at + 1

    def _edited(self, item: Item, gap: range) -> None:
        resent, words = self.source(item).text, self.record.words
        half = MAX_EDITED // 2
        for at in gap if len(gap) <= MAX_EDITED else (*gap[:half], *gap[-half:]):
            recorded = words.get(at)
            rest = None if recorded is None else edits.appended(recorded, resent)
            if rest is None:
                continue
            item.at = at
            if rest:
                later = gap[at - gap.start + 1 :][:MAX_EDITED]
                item.appended, found = edits.divided(rest, [(n, words.get(n, "")) for n in later])
                item.at = max((at, *found))
            return

    def _match_moved(self, displaced: list[Item], source: list[Item]) -> None:
        """Recorded words are old in whatever order, where an answer follows them: calls ran side by side."""
        taken, keys = {item.at for item in source}, {item.key for item in displaced}
        places: dict[int, list[int]] = {key: [] for key in keys}
        for at, key in enumerate(self.record.texts):
            if key in keys and at not in taken:
                places[key].append(at)
        for item in displaced:
            if item.at is None and places[item.key]:
                item.at = places[item.key].pop(0)


def _weighted(texts: Iterable[tuple[int, bool]]) -> tuple[list[tuple[int, int]], list[int]]:
    """Write an assistant's text twice: nobody else can have said it, while a user may well say "yes" again."""
    keys: list[tuple[int, int]] = []
    positions: list[int] = []
    for position, (key, assistant) in enumerate(texts):
        for copy in range(1 + assistant):
            keys.append((key, copy))
            positions.append(position)
    return keys, positions
