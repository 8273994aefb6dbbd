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
moved words       an assistant's text in another place is old, and so is the text that it answered
edited words      an assistant's text that only gained or lost something is old, what was appended is new
================  ====================================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from converra.conversation import edits
from converra.conversation.lcs import lcs
from converra.conversation.record import REPLY, START, SYSTEM, WORDS, Atom, Atoms, Record, system_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from converra.conversation.turn import Said
    from converra.conversation.view import View

MAX_EDITED = 8
"""How many recorded texts an edited one is compared with: those next to its neighbours."""


class Item(msgspec.Struct):
    """One thing said in the request."""

    index: int
    """Of its message."""
    part: int
    atoms: Atoms
    kind: int
    """Of its first atom."""
    old: list[bool]
    """Whether each atom is recorded."""
    at: int | None = None
    """Position of its text, if that is recorded."""
    appended: list[str] = []


class Alignment:
    """What of a request is old. Records nothing."""

    def __init__(self, record: Record, view: View) -> None:
        self.record = record
        self.view = view
        unchanged = view.version == record.version
        self.trail = view.trail if unchanged or view.previous is not None else record.continued(view.looks)
        self.base = self.trail.last + 1 if self.trail else 0
        """Texts before this position are matched by the prefix."""
        self.counts: dict[Any, int] = {}
        """Occurrences of KEYED atoms in the request, after the prefix."""
        self.items = self._items()
        self._match_texts([item for item in self.items if item.kind >= WORDS])

    def said(self, item: Item) -> Said:
        """Read what an item says."""
        return self.view.said(item.index)[item.part]

    def system(self) -> int | None:
        """Hash the first system text of the request: what tells a side call from a new question."""
        if self.trail:
            return self.trail.system
        if self.view.instructions:
            return system_key(self.view.instructions)
        for index in range(min(2, len(self.view.looks))):
            for atoms in self.view.atoms(index, self.record):
                if atoms[0].kind == SYSTEM:
                    return int(atoms[0].key)
        return None

    def is_old(self, atom: Atom) -> bool:
        """Whether an atom is old, for the kinds whose order does not matter; counts it."""
        if atom.kind == SYSTEM:
            return atom.key in self.record.systems
        if self.view.previous is not None:
            return False
        return self._count(atom.key) or self._invented_id(atom.key)

    def _items(self) -> list[Item]:
        items, view, record = [], self.view, self.record
        for index in range(len(self.trail.looks) if self.trail else 0, len(view.looks)):
            for part, atoms in enumerate(view.atoms(index, record)):
                old = [atom.kind < WORDS and self.is_old(atom) for atom in atoms]
                items.append(Item(index, part, atoms, atoms[0].kind, old))
        return items

    def _count(self, key: Any) -> bool:
        """Count an occurrence; it is old if no more than that are recorded."""
        self.counts[key] = seen = self.counts.get(key, 0) + 1
        before = self.trail.counts.get(key, 0) if self.trail else 0
        return before + seen <= self.record.keyed.counts.get(key, 0)

    def _invented_id(self, key: Any) -> bool:
        """A call that was recorded without an id may come back with one that a framework made up."""
        return key[0] == "call" and key[1] is not None and self._count(("unnamed", key[2]))

    # -- words ---------------------------------------------------------------------------------------------------

    def _match_texts(self, said: list[Item]) -> None:
        """Align the words of the request with those recorded since the prefix that is known to be old."""
        if self.view.previous is not None:
            return
        start, rest = self._follow(said) if self.trail else (self.base, said)
        latest = self.record.latest
        if any(latest.get(item.atoms[0].key, START) >= start for item in rest) and not self._slide(rest, start):
            self._subsequence(rest, start)
        if any(item.at is None and item.kind == REPLY for item in rest):
            self._match_edited(rest, start)
            self._match_moved(rest)

    def _same(self, item: Item, at: int) -> None:
        item.old[0], item.at = True, at

    def _follow(self, said: list[Item]) -> tuple[int, list[Item]]:
        """Match the texts that were recorded right after the prefix; say where the rest begins."""
        at, texts = self.base, self.record.texts
        for n, item in enumerate(said):
            if at == len(texts) or texts[at] != item.atoms[0].key:
                return at, said[n:]
            self._same(item, at)
            at += 1
        return at, []

    def _slide(self, said: list[Item], start: int) -> bool:
        """Match a run that ends where the record ends, as in a window that slides along a chat.

        What follows the run is new even where it repeats something, unless an assistant has said it.
        """
        texts, keys = self.record.texts, [item.atoms[0].key for item in said]
        if texts[-1] not in keys:
            return False
        end = len(keys) - keys[::-1].index(texts[-1])
        first = len(texts) - end
        if first < start or texts[first:] != keys[:end]:
            return False
        if any(item.kind == REPLY and item.atoms[0].key in self.record.latest for item in said[end:]):
            return False
        for at, item in enumerate(said[:end], first):
            self._same(item, at)
        return True

    def _subsequence(self, said: list[Item], start: int) -> None:
        """Match the longest common subsequence, of those texts that request and record have both."""
        texts, spoken, latest = self.record.texts, self.record.spoken, self.record.latest
        shared = [item for item in said if latest.get(item.atoms[0].key, START) >= start]
        keys = {item.atoms[0].key for item in shared}
        places = [at for at in range(start, len(texts)) if texts[at] in keys]
        old, old_at = _weighted((texts[at], spoken[at].assistant) for at in places)
        new, new_at = _weighted((item.atoms[0].key, item.kind == REPLY) for item in shared)
        for j, i in lcs(old, new).items():
            self._same(shared[new_at[j]], places[old_at[i]])

    def _match_edited(self, said: list[Item], start: int) -> None:
        """Between two texts that match, an assistant's that only gained or lost something is still the same."""
        until, before = len(self.record.texts), start
        limits: list[int] = []
        for item in reversed(said):
            limits.append(until)
            until = until if item.at is None else item.at
        for item in said:
            limit = limits.pop()
            if item.at is None and item.kind == REPLY and item.atoms[0].key not in self.record.latest:
                self._edited(item, range(before, limit))
            before = before if item.at is None else item.at + 1

    def _edited(self, item: Item, gap: range) -> None:
        resent, words = self.said(item).text, self.record.words
        half = MAX_EDITED // 2
        for at in gap if len(gap) <= MAX_EDITED else (*gap[:half], *gap[-half:]):
            rest = edits.appended(words[at], resent) if at in words else None
            if rest is None:
                continue
            self._same(item, at)
            if rest:
                later = ((n, words[n]) for n in gap[at - gap.start + 1 :][:MAX_EDITED] if n in words)
                item.appended, found = edits.divided(rest, later)
                item.at = max((at, *found))
            return

    def _match_moved(self, said: list[Item]) -> None:
        """An assistant's text is old wherever it stands, and so is the one that it answered: calls ran side by side."""
        taken = {item.at for item in said}
        for n, item in enumerate(said):
            at = self._untaken(item.atoms[0].key, taken) if item.at is None and item.kind == REPLY else None
            if at is not None:
                self._same(item, at)
                taken.add(at)
                self._match_question(said[n - 1] if n else item, self.record.spoken[at].parent)

    def _untaken(self, key: int, taken: set[int | None]) -> int | None:
        """The last position of a text that neither an item nor the prefix accounts for."""
        if key not in self.record.latest:
            return None
        places = [at for at, text in enumerate(self.record.texts) if text == key and at not in taken]
        before = self.view.looks[: len(self.trail.looks) if self.trail else 0]
        in_prefix = sum(atoms[0].key == key for look in before for atoms in self.record.known[look])
        return places[-1] if len(places) > in_prefix else None

    def _match_question(self, item: Item, at: int) -> None:
        if item.at is None and at != START and self.record.texts[at] == item.atoms[0].key:
            self._same(item, at)


def _weighted(texts: Iterable[tuple[int, bool]]) -> tuple[list[tuple[int, int]], list[int]]:
    """Write an assistant's text twice: nobody else can have said it, while a user may well say "yes" again."""
    keys: list[tuple[int, int]] = []
    positions: list[int] = []
    for position, (key, assistant) in enumerate(texts):
        for copy in range(1 + assistant):
            keys.append((key, copy))
            positions.append(position)
    return keys, positions
