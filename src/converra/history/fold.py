"""Fold a call into the record of its conversation, and get what is new: resent history is recorded once.

`alignment.py` says what of a request is old. The rest is new, in the order of the request; then comes the answer, which
is always new.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from converra.history.alignment import Alignment
from converra.history.record import (
    KEYED,
    REPLY,
    START,
    SYSTEM,
    WORDS,
    Atom,
    Trail,
    atoms_of,
    call_key,
    result_key,
    system_key,
)
from converra.history.snapshot import echo
from converra.history.turn import Said

if TYPE_CHECKING:
    from converra.history.alignment import Item
    from converra.history.record import Atoms, Record
    from converra.history.snapshot import View
    from converra.history.turn import Answer


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


def fold(record: Record, view: View, answer: Answer | None) -> list[Heard]:
    """Record one call and return its new messages in order; without an answer it failed, and the request stands."""
    return _Fold(record, view).run(answer)


class Asked:
    """A question that is recorded before its answer is there; the answer is recorded where it belongs, once."""

    def __init__(self, record: Record, view: View) -> None:
        self.view = view
        self._fold = _Fold(record, view)

    def ask(self) -> list[Heard]:
        """Record the request; its new messages in order."""
        return self._fold.run(None, failed=False)

    def reply(self, answer: Answer) -> list[Heard]:
        """Record the answer; its messages in order."""
        return self._fold.reply(answer)


def write(record: Record, said: Said) -> int:
    """Record a message that was written by hand; say its number."""
    number = record.messages
    record.messages += 1
    record.add(said, atoms_of(said), number, (0, None, len(record.texts) - 1))
    return number


def say(record: Record, said: Said) -> Heard | None:
    """Record a tool's result before any request brings it; None where it is recorded already."""
    key, keyed = result_key(said), record.keyed
    if keyed.counts.get(key, 0) and not keyed.awaited(key):
        return None
    thread = keyed.threads.get(call_key(said.call_id, said.name, None), 0)
    number = record.messages
    record.messages += 1
    keyed.add(said, key, thread)
    return Heard(said, number, thread)


class _Fold:
    """One fold. A class, because every step reads and writes the same few things."""

    def __init__(self, record: Record, view: View) -> None:
        self.record = record
        self.view = view
        self.alignment = Alignment(record, view)
        self.items = self._unless_retried(self.alignment.items)
        self.trail = self.alignment.trail
        self.system = self.alignment.system()
        self.last = self.trail.last if self.trail else START
        """Position of the last text so far of the request, while walking through it."""
        self.thread = 0
        self.heard: list[Heard] = []

    def run(self, answer: Answer | None, *, failed: bool | None = None) -> list[Heard]:
        self.record.version += 1
        self.thread = self._thread()
        if self.record.shared:
            self._beside_others()
        else:
            self._ask(self.items)
        self._remember(failed=answer is None if failed is None else failed)
        if answer is not None:
            self._answer(answer)
        return self.heard

    def reply(self, answer: Answer) -> list[Heard]:
        """Record the answer of a request that was recorded before."""
        asked = len(self.heard)
        self.record.version += 1
        self._answer(answer)
        return self.heard[asked:]

    def _unless_retried(self, items: list[Item]) -> list[Item]:
        """All items, but none of a request that names what it continues and has failed before."""
        retried = self.view.previous is not None and self._named() in self.record.failed
        return [] if retried else items

    # -- whose turn it is ----------------------------------------------------------------------------------------

    def _thread(self) -> int:
        """Which line of talk the call belongs to: see `Heard.thread`."""
        if self.trail is not None:
            return self.trail.thread
        if self.view.previous is not None:
            return self.record.answers.get(self.view.previous, 0)
        shared = self._shared_history()
        if shared is not None:
            return shared
        return self.record.system_threads.get(self.system, self.record.threads)

    def _shared_history(self) -> int | None:
        """Find the thread of the last thing in the request that an assistant said or a tool answered."""
        for item in reversed(self.items):
            if item.at is not None and item.kind == REPLY:
                return self.record.spoken[item.at].thread
            if item.kind == KEYED and item.old[0] and item.key in self.record.keyed.threads:
                return self.record.keyed.threads[item.key]
        return None

    # -- recording -----------------------------------------------------------------------------------------------

    def _ask(self, items: list[Item]) -> None:
        self._instructions()
        for item in items:
            self._item(item)

    def _beside_others(self) -> None:
        """Record what was said here; what was said elsewhere since is recorded there, and only noted here.

        The first time, everything up to the last assistant message may have been said elsewhere, and the instructions,
        which every process begins with: that is marked as learned. Later, everything up to an answer that is not ours.
        """
        first = self.record.version == 1
        elsewhere = self.items[: self._last_answer(ours=first) + 1]
        self._instructions(learned=first)
        for item in elsewhere:
            self._item(item, learned=first)
        if not first:
            self.heard = [heard for heard in self.heard if heard.said.role == "system"]
        for item in self.items[len(elsewhere) :]:
            self._item(item, learned=first and item.kind == SYSTEM)

    def _last_answer(self, *, ours: bool) -> int:
        """The last item that an assistant said, or only of those that are new; -1 if there is none."""
        if self.view.previous is not None:
            return -1
        asking = (n for n, item in enumerate(self.items) if ours or not item.is_old)
        return max((n for n in asking if self.alignment.said(self.items[n]).role == "assistant"), default=-1)

    def _instructions(self, *, learned: bool = False) -> None:
        text = self.view.instructions
        if text and system_key(text) not in self.record.systems:
            self._record(Said(role="system", text=text), (Atom(SYSTEM, system_key(text)),), learned=learned)

    def _item(self, item: Item, *, learned: bool = False) -> None:
        if item.at is not None:
            self.last = item.at
        if not item.is_old:
            self._new(item, learned=learned)
        elif item.kind == KEYED:
            self._reused_id(item)
        for text in item.appended:
            self._observation(text)

    def _new(self, item: Item, *, learned: bool) -> None:
        said = self.alignment.said(item)
        if said.role == "assistant" and not (said.text.strip() or said.calls or said.attachments):
            return  # an answer that is resent by reference (audio): it was recorded when it was given
        if item.kind == SYSTEM and item.key in self.record.systems:
            return  # the same system text twice in one request
        replaces = self._replaced(assistant=item.kind == REPLY) if item.kind >= WORDS and item.at is None else None
        atoms = item.atoms
        if item.old and (item.at is not None or any(item.old)):
            said, atoms = _without_old(said, item)
        self._record(said, atoms, replaces, learned=learned)

    def _reused_id(self, item: Item) -> None:
        """A result whose id has been answered before is new where a later call had that id, and this is its result."""
        key, keyed = item.key, self.record.keyed
        if keyed.awaited(key) and self.alignment.accounts_for(key):
            said = self.alignment.said(item)
            if self._ends_request(item) or not keyed.answered_with(key, said.text):
                self._record(said, item.atoms)

    def _ends_request(self, item: Item) -> bool:
        """Whether no answer follows in the request: the model is to hear this now."""
        later = (i for i in self.items if i.index > item.index)
        return not any(i.kind == REPLY or i.key[0] == "call" for i in later if i.kind in (REPLY, KEYED))

    def _observation(self, text: str) -> None:
        """What a ReAct framework appended to a resent text is the tool's result: it exists nowhere else."""
        atom = Atom(KEYED, ("appended", hash(text)))
        if not self.alignment.is_old(atom):
            self._record(Said(role="tool", text=text), (atom,))

    def _record(
        self, said: Said, atoms: Atoms, replaces: int | None = None, *, answer: bool = False, learned: bool = False
    ) -> None:
        record = self.record
        number = record.messages
        record.messages += 1
        self.last = record.add(said, atoms, number, (self.thread, self.system, self.last), given=answer)
        if said.call_id is not None and said.name is None:
            said = msgspec.structs.replace(said, name=self._called(said.call_id))
        self.heard.append(Heard(said, number, self.thread, replaces, answer, learned))

    def _called(self, call_id: str) -> str | None:
        """Which tool has this call id: as it was recorded, or as the request says where it made the id up."""
        name = self.record.keyed.names.get(call_id)
        calls = (a.key for item in self.items for a in item.atoms if a.kind == KEYED and a.key[:2] == ("call", call_id))
        return name or next((key[2] for key in calls), None)

    def _replaced(self, *, assistant: bool) -> int | None:
        """Number the latest message that had this place: after the same text, under the same system text.

        A request without shared history replaces nothing, nor does one that was under way at the same time.
        """
        if self.last == START and not any(item.at is not None for item in self.items):
            return None
        spoken = self.record.spoken
        for at in range(len(spoken) - 1, self.last, -1):
            other = spoken[at]
            same = (other.parent, other.thread, other.system) == (self.last, self.thread, self.system)
            if same and other.assistant == assistant and other.version <= self.view.version:
                return None if any(item.at == at for item in self.items) else other.number
        return None

    # -- remembering ---------------------------------------------------------------------------------------------

    def _remember(self, *, failed: bool) -> None:
        """Keep this request as the trail that the next call of the thread extends."""
        record = self.record
        record.threads = max(record.threads, self.thread + 1)
        record.system_threads[self.system] = self.thread
        record.failed_looks = self.view.looks if failed else None
        if self.view.previous is not None:
            change = record.failed.add if failed else record.failed.discard
            change(self._named())
        elif self.view.looks:
            self._keep_trail()

    def _keep_trail(self) -> None:
        """Extend the trail that was followed; else take the place of the one of the same thread and system text."""
        trail = self.trail or next((t for t in self.record.trails if self._is_ours(t)), None)
        if trail is None:
            trail = Trail(thread=self.thread, system=self.system, looks=[], last=START, counts={}, replies=0, answers=0)
        if self.trail is None:
            trail.counts = {}
        for key, count in self.alignment.counts.items():
            trail.counts[key] = trail.counts.get(key, 0) + count
        trail.replies = self.alignment.prefix_replies() + sum(item.kind == REPLY for item in self.items)
        trail.answers = self.alignment.answers()
        trail.looks, trail.last = self.view.looks, self.last
        self.record.keep(trail)

    def _is_ours(self, trail: Trail) -> bool:
        return trail.thread == self.thread and trail.system == self.system

    def _named(self) -> tuple[str, tuple[int, ...]]:
        return self.view.previous or "", tuple(self.view.looks)

    def _answer(self, answer: Answer) -> None:
        asked = bool(self.heard)
        for said in answer.said:
            atoms = atoms_of(said)
            self._expect(said, atoms)
            replaces = None if asked or atoms[0].kind != REPLY else self._replaced(assistant=True)
            self._record(said, atoms, replaces, answer=True)
        if answer.response_id:
            self.record.answers[answer.response_id] = self.thread

    def _expect(self, said: Said, atoms: Atoms) -> None:
        """Know the answer in advance, as it will look when it is resent: then nobody has to read it."""
        look = echo(self.view.dialect, said)
        if look is not None:
            self.record.known[look] = (atoms,)


def _without_old(said: Said, item: Item) -> tuple[Said, Atoms]:
    """Take only the part of a message that is new: a text without its old calls, calls without their old text."""
    words = item.atoms[: item.kind >= WORDS]
    calls, atoms = said.calls, item.atoms[len(words) :]
    new = [n for n, old in enumerate(item.old) if not old]
    text, words = (said.text, words) if item.at is None else ("", ())
    said = msgspec.structs.replace(said, text=text, calls=tuple(calls[n] for n in new))
    return said, (*words, *(atoms[n] for n in new))
