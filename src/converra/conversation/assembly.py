"""Fold a call into the record of its conversation, and get what is new: resent history is recorded once.

How a message of a request is recognised as old:

================  ====================================================================================
what              rule
================  ====================================================================================
unchanged prefix  the request extends one that was seen: nothing of that part is new (the common case)
system text       in the set of those recorded
tool call         by id and name, counted; without an id by name and arguments
tool result       by the id of its call, counted; a reused id with another text is another result
words             longest common subsequence with the recorded words; an assistant's count double
edited words      an assistant's text that only gained or lost something is old, what was appended is new
================  ====================================================================================

The rest is new, in the order of the request; then comes the answer, which is always new.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from converra.conversation.lcs import lcs
from converra.conversation.record import KEYED, REPLY, SYSTEM, WORDS, Atom, Atoms, Record, Trail, atoms_of
from converra.conversation.turn import Dialect, Said

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from converra.conversation.turn import Answer, Request


class Heard(NamedTuple):
    """A message that is new to the conversation."""

    said: Said
    number: int
    thread: int
    """0 for the conversation itself, 1 and up for side calls (a router, a judge) that share no history with it."""
    replaces: int | None = None
    """The number of the message in whose place this one stands: an edited or regenerated turn."""
    answer: bool = False
    learned: bool = False
    """Said before this process joined the conversation: whoever opened it has recorded it, unless that is us."""


class View(msgspec.Struct, kw_only=True):
    """A request as it was when the call began: later changes of the app's own list are not seen."""

    dialect: Dialect
    messages: Sequence[Any]
    looks: list[int]
    read: dict[int, tuple[Said, ...]]
    instructions: str | None
    previous: str | None
    version: int

    def said(self, index: int) -> tuple[Said, ...]:
        """What the message at `index` says; read now if the record knew it when the call began."""
        found = self.read.get(index)
        if found is None:
            found = self.read[index] = self.dialect.read(self.messages[index])
        return found


def freeze(record: Record, request: Request, looks: list[int] | None = None) -> View:
    """Look at every message (unless that was done already), and read those that are not known yet."""
    messages = tuple(request.messages)
    if looks is None:
        looks = request.dialect.look(messages)
    trail = record.continued(looks) if request.previous is None else None
    start = len(trail.looks) if trail else 0
    known, read = record.known, request.dialect.read
    return View(
        dialect=request.dialect,
        messages=messages,
        looks=looks,
        read={i: read(messages[i]) for i in range(start, len(messages)) if looks[i] not in known},
        instructions=request.instructions,
        previous=request.previous,
        version=record.version,
    )


def fold(record: Record, view: View, answer: Answer | None) -> list[Heard]:
    """Record one call and return its new messages in order; without an answer it failed, and the request stands."""
    record.version += 1
    return _Fold(record, view).run(answer)


class Overlap(NamedTuple):
    """How much of what was answered so far a request and a record have in common; compared in this order."""

    shared: int
    """Replies, tool calls and tool results of the request that are recorded."""
    beyond: int
    """Minus the replies that are recorded and that the request does not know of."""
    retried: bool
    """The request is the very one that failed last."""


def overlap(record: Record, request: Request, looks: list[int]) -> Overlap:
    """Say how well a request continues a conversation, without recording anything."""
    trial = _Fold(record, freeze(record, request, looks))
    items = trial.aligned()
    prefix = trial.trail.replies if trial.trail else 0
    shared = prefix + sum(_answers(item) for item in items)
    known = prefix + sum(item.kind == REPLY and item.at is not None for item in items)
    return Overlap(shared, known - record.replies, record.failed_looks == looks)


def _answers(item: _Item) -> bool:
    """Whether a thing said is old and was said by an assistant or a tool."""
    return all(item.old) and item.kind in (REPLY, KEYED)


class _Item(msgspec.Struct):
    """One thing said in the request: where it stands, its atoms, and which of them are old."""

    index: int
    part: int
    atoms: Atoms
    old: list[bool]
    at: int | None = None
    """Where its text stands in `record.texts`, if that is recorded."""
    appended: str = ""
    learned: bool = False

    @property
    def kind(self) -> int:
        return self.atoms[0].kind


class _Fold:
    """One fold. A class, because every step reads and writes the same few things."""

    def __init__(self, record: Record, view: View) -> None:
        self.record = record
        self.view = view
        self.trail = record.continued(view.looks) if view.previous is None else None
        self.counts: dict[Any, int] = dict(self.trail.counts) if self.trail else {}
        self.unnamed: dict[str | None, int] = {}
        self.base = self.trail.after if self.trail else 0
        """Texts before this position are matched by the prefix."""
        self.last = self.base - 1
        """Position of the last text that request and record have in common, while walking through the request."""
        self.matched: set[int] = set()
        self.thread = 0
        self.heard: list[Heard] = []

    def run(self, answer: Answer | None) -> list[Heard]:
        items = self._items()
        if self.record.joining:
            self._join(items)
        self._match_texts(items)
        self.thread = self._thread(items)
        self._instructions()
        for item in items:
            self._item(item)
        self._remember(failed=answer is None)
        if answer is not None:
            self._answer(answer)
        return self.heard

    def aligned(self) -> list[_Item]:
        """Recognise, and record nothing."""
        items = self._items()
        self._match_texts(items)
        return items

    def _items(self) -> list[_Item]:
        if self.view.previous is not None and self._failed_before() in self.record.failed:
            return []
        start = len(self.trail.looks) if self.trail else 0
        return [item for index in range(start, len(self.view.looks)) for item in self._parts(index)]

    def _parts(self, index: int) -> Iterator[_Item]:
        known, look = self.record.known, self.view.looks[index]
        parts = known.get(look)
        if parts is None:
            parts = known[look] = tuple(atoms_of(said) for said in self.view.said(index))
        for part, atoms in enumerate(parts):
            yield _Item(index, part, atoms, [self._old(atom) for atom in atoms])

    def _said(self, item: _Item) -> Said:
        return self.view.said(item.index)[item.part]

    # -- recognising ---------------------------------------------------------------------------------------------

    def _old(self, atom: Atom) -> bool:
        """Whether an atom is old, for the kinds whose order does not matter."""
        if atom.kind == SYSTEM:
            return atom.key in self.record.systems
        if atom.kind != KEYED or self.view.previous is not None:
            return False
        seen = self.counts[atom.key] = self.counts.get(atom.key, 0) + 1
        return seen <= self.record.counts.get(atom.key, 0) or self._invented_id(atom.key)

    def _invented_id(self, key: Any) -> bool:
        """A call that was recorded without an id may come back with one that a framework made up."""
        if key[0] != "call" or key[1] is None:
            return False
        name = key[2]
        seen = self.unnamed[name] = self.unnamed.get(name, 0) + 1
        return seen <= self.record.unnamed_calls.get(name, 0)

    def _match_texts(self, items: list[_Item]) -> None:
        """Align the words of the request with those recorded since the prefix that is known to be old."""
        said = [item for item in items if item.kind in (WORDS, REPLY) and not item.old[0]]
        if not said or self.base == len(self.record.texts) or self.view.previous is not None:
            return
        recorded = zip(self.record.texts[self.base :], self.record.spoken[self.base :], strict=True)
        old, old_at = _weighted((key, spoken.assistant) for key, spoken in recorded)
        new, new_at = _weighted((item.atoms[0].key, item.kind == REPLY) for item in said)
        for j, i in lcs(old, new).items():
            self._same(said[new_at[j]], self.base + old_at[i])
        self._match_edited(said)

    def _same(self, item: _Item, at: int) -> None:
        item.old[0], item.at = True, at
        self.matched.add(at)

    def _match_edited(self, said: list[_Item]) -> None:
        """Between two texts that match, an assistant's that only gained or lost something is still the same."""
        last = self.base - 1
        for n, item in enumerate(said):
            if item.at is None and item.kind == REPLY:
                until = next((later.at for later in said[n:] if later.at is not None), len(self.record.texts))
                self._edited(item, range(last + 1, until))
            last = last if item.at is None else item.at

    def _edited(self, item: _Item, gap: range) -> None:
        resent = self._said(item).text
        for at in gap:
            recorded = self.record.spoken[at].text
            appended = _appended(recorded, resent) if recorded and at not in self.matched else None
            if appended is not None:
                item.appended = appended
                self._same(item, at)
                return

    def _join(self, items: list[_Item]) -> None:
        """Mark what another process has recorded already: everything up to the last assistant message."""
        self.record.joining = False
        last = max((n for n, item in enumerate(items) if self._said(item).role == "assistant"), default=-1)
        for item in items[: last + 1]:
            item.learned = True

    # -- whose turn it is ----------------------------------------------------------------------------------------

    def _thread(self, items: list[_Item]) -> int:
        """Which line of talk the call belongs to: see `Heard.thread`."""
        if self.trail is not None:
            return self.trail.thread
        if self.view.previous is not None:
            return self.record.answers.get(self.view.previous, 0)
        shared = self._shared_history(items)
        if shared is not None:
            return shared
        system = self._system()
        for trail in reversed(self.record.trails):
            if trail.system == system:
                return trail.thread
        self.record.threads += 1
        return self.record.threads - 1

    def _shared_history(self, items: list[_Item]) -> int | None:
        """Find the thread of the last thing in the request that an assistant said or a tool answered."""
        for item in reversed(items):
            if item.at is not None and item.kind == REPLY:
                return self.record.spoken[item.at].thread
            if item.kind == KEYED and item.old[0] and item.atoms[0].key in self.record.keyed_threads:
                return self.record.keyed_threads[item.atoms[0].key]
        return None

    def _system(self) -> int | None:
        """Hash the first system text of the request: what tells a side call from a new question."""
        if self.view.instructions:
            return hash(self.view.instructions)
        for index in range(min(2, len(self.view.looks))):
            for said in self.view.said(index):
                if said.role == "system":
                    return hash(said.text)
        return None

    # -- recording -----------------------------------------------------------------------------------------------

    def _instructions(self) -> None:
        text = self.view.instructions
        if text and hash(text) not in self.record.systems:
            self._record(Said(role="system", text=text), (Atom(SYSTEM, hash(text)),))

    def _item(self, item: _Item) -> None:
        if item.at is not None:
            self.last = item.at
        if not all(item.old):
            self._new(item)
        elif item.kind == KEYED:
            self._reused_id(item)
        if item.appended:
            self._observation(item.appended)

    def _new(self, item: _Item) -> None:
        said = self._said(item)
        if said.role == "assistant" and not (said.text or said.calls or said.attachments):
            return  # an answer that is resent by reference (audio): it was recorded when it was given
        if item.kind == SYSTEM and item.atoms[0].key in self.record.systems:
            return  # the same system text twice in one request
        atoms = tuple(atom for atom, old in zip(item.atoms, item.old, strict=True) if not old)
        replaces = None if item.at is not None or said.role == "system" else self._replaced(said.role)
        self._record(_without_old(said, item), atoms, replaces, learned=item.learned)

    def _reused_id(self, item: _Item) -> None:
        """A result whose id has been answered before is new when a later call had that id and its text is another."""
        said, key, record = self._said(item), item.atoms[0].key, self.record
        if key[0] != "result" or said.call_id is None:
            return
        waiting = record.counts.get(key, 0) < record.calls_by_id.get(said.call_id, 0)
        if waiting and hash(said.text) not in record.result_texts.get(key, ()):
            self._record(said, item.atoms)

    def _observation(self, text: str) -> None:
        """What a ReAct framework appended to a resent text is the tool's result: it exists nowhere else."""
        atom = Atom(KEYED, ("appended", hash(text)))
        if not self._old(atom):
            self._record(Said(role="tool", text=text), (atom,))

    def _record(
        self, said: Said, atoms: Atoms, replaces: int | None = None, *, answer: bool = False, learned: bool = False
    ) -> None:
        number = self.record.messages
        self.record.messages += 1
        self.record.add(said, atoms, number, self.thread)
        if said.call_id is not None and said.name is None:
            said = msgspec.structs.replace(said, name=self.record.call_names.get(said.call_id))
        self.heard.append(Heard(said, number, self.thread, replaces, answer, learned))

    def _replaced(self, role: str) -> int | None:
        """Number the message after the last one that request and record have in common, if this one is in its place.

        A request without shared history replaces nothing, nor does one that was under way at the same time.
        """
        if role == "tool" or not (self.matched or self.trail):
            return None
        for at in range(self.last + 1, len(self.record.spoken)):
            spoken = self.record.spoken[at]
            if spoken.thread == self.thread:
                same = spoken.assistant == (role == "assistant") and at not in self.matched
                return spoken.number if same and spoken.version <= self.view.version else None
        return None

    def _remember(self, *, failed: bool) -> None:
        """Keep this request as the trail that the next call of the thread extends."""
        self.record.threads = max(self.record.threads, self.thread + 1)
        self.record.failed_looks = self.view.looks if failed else None
        if self.view.previous is not None:
            change = self.record.failed.add if failed else self.record.failed.discard
            change(self._failed_before())
        elif self.view.looks:
            self._keep_trail()

    def _keep_trail(self) -> None:
        replaced = self.trail
        system = replaced.system if replaced else self._system()
        if replaced is None:
            same = (t for t in self.record.trails if (t.thread, t.system) == (self.thread, system))
            replaced = next(same, None)
        trail = Trail(
            thread=self.thread,
            system=system,
            looks=self.view.looks,
            after=len(self.record.texts),
            counts=self.counts,
            replies=self.record.replies,
        )
        self.record.keep(trail, replaced)

    def _failed_before(self) -> tuple[str, tuple[int, ...]]:
        return self.view.previous or "", tuple(self.view.looks)

    def _answer(self, answer: Answer) -> None:
        asked = bool(self.heard)
        for said in answer.said:
            replaces = None if asked or not said.text else self._replaced("assistant")
            self._record(said, atoms_of(said), replaces, answer=True)
        if answer.response_id:
            self.record.answers[answer.response_id] = self.thread


def _weighted(texts: Iterable[tuple[int, bool]]) -> tuple[list[tuple[int, int]], list[int]]:
    """Write an assistant's text twice: nobody else can have said it, while a user may well say "yes" again."""
    keys: list[tuple[int, int]] = []
    positions: list[int] = []
    for position, (key, assistant) in enumerate(texts):
        for copy in range(1 + assistant):
            keys.append((key, copy))
            positions.append(position)
    return keys, positions


def _appended(recorded: str, resent: str) -> str | None:
    """Say what a resent text adds to a recorded one: "" if it is the same but for its dress, None if it is another.

    Dress is white space and quotes, and thinking that was wrapped around it or cut out of it.
    """
    core, text = _spoken_aloud(recorded), _spoken_aloud(resent)
    if core and text.startswith(core):
        return text[len(core) :].strip()
    return "" if _squash(core) == _squash(text) else None


def _spoken_aloud(text: str) -> str:
    """Cut what stands before the end of the thinking."""
    return text.rpartition("</think>")[2].strip()


def _squash(text: str) -> str:
    return "".join(filter(str.isalnum, text))


def _without_old(said: Said, item: _Item) -> Said:
    """Take only the part of a message that is new: a text without its old calls, calls without their old text."""
    if not any(item.old):
        return said
    keyed = [old for atom, old in zip(item.atoms, item.old, strict=True) if atom.kind == KEYED]
    calls = tuple(call for call, old in zip(said.calls, keyed, strict=True) if not old)
    return msgspec.structs.replace(said, text="" if item.kind == REPLY and item.old[0] else said.text, calls=calls)
