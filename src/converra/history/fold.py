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
    KnownPrefix,
    MatchKey,
    call_key,
    match_keys_of,
    result_key,
    system_key,
)
from converra.history.snapshot import echo
from converra.history.turn import SourceMessage

if TYPE_CHECKING:
    from converra.history.alignment import Item
    from converra.history.record import MatchKeys, Record
    from converra.history.snapshot import Snapshot
    from converra.history.turn import Answer


class NewMessage(NamedTuple):
    """A message that is new to the conversation."""

    source: SourceMessage
    number: int
    thread: int
    """0 for the conversation itself, 1 and up for side calls (a router, a judge) that share no history with it."""
    replaces: int | None = None
    """The number of the message in whose place this one stands: an edited or regenerated turn."""
    answer: bool = False
    already_known: bool = False
    """Said before this process joined the conversation: whoever opened it has recorded it, unless that is us."""


def fold(record: Record, snapshot: Snapshot, answer: Answer | None) -> list[NewMessage]:
    """Record one call and return its new messages in order; without an answer it failed, and the request stands."""
    return _Fold(record, snapshot).run(answer)


class Asked:
    """A question that is recorded before its answer is there; the answer is recorded where it belongs, once."""

    def __init__(self, record: Record, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._fold = _Fold(record, snapshot)

    def ask(self) -> list[NewMessage]:
        """Record the request; its new messages in order."""
        return self._fold.run(None, failed=False)

    def reply(self, answer: Answer) -> list[NewMessage]:
        """Record the answer; its messages in order."""
        return self._fold.reply(answer)


def write(record: Record, source: SourceMessage) -> int:
    """Record a message that was written by hand; say its number."""
    number = record.messages
    record.messages += 1
    record.add(source, match_keys_of(source), number, (0, None, len(record.texts) - 1))
    return number


def record_tool_result(record: Record, source: SourceMessage) -> NewMessage | None:
    """Record a tool's result before any request brings it; None where it is recorded already."""
    key, keyed = result_key(source), record.keyed
    if keyed.counts.get(key, 0) and not keyed.awaited(key):
        return None
    thread = keyed.threads.get(call_key(source.call_id, source.name, None), 0)
    number = record.messages
    record.messages += 1
    keyed.add(source, key, thread)
    return NewMessage(source, number, thread)


class _Fold:
    """One fold. A class, because every step reads and writes the same few things."""

    def __init__(self, record: Record, snapshot: Snapshot) -> None:
        self.record = record
        self.snapshot = snapshot
        self.alignment = Alignment(record, snapshot)
        self.items = self._unless_retried(self.alignment.items)
        self.known_prefix = self.alignment.known_prefix
        self.system = self.alignment.system()
        self.last = self.known_prefix.last if self.known_prefix else START
        """Position of the last text so far of the request, while walking through it."""
        self.thread = 0
        self.new: list[NewMessage] = []

    def run(self, answer: Answer | None, *, failed: bool | None = None) -> list[NewMessage]:
        self.record.version += 1
        self.thread = self._thread()
        if self.record.shared:
            self._beside_others()
        else:
            self._ask(self.items)
        self._remember(failed=answer is None if failed is None else failed)
        if answer is not None:
            self._answer(answer)
        return self.new

    def reply(self, answer: Answer) -> list[NewMessage]:
        """Record the answer of a request that was recorded before."""
        asked = len(self.new)
        self.record.version += 1
        self._answer(answer)
        return self.new[asked:]

    def _unless_retried(self, items: list[Item]) -> list[Item]:
        """All items, but none of a request that names what it continues and has failed before."""
        retried = self.snapshot.previous is not None and self._named() in self.record.failed
        return [] if retried else items

    # -- whose turn it is ----------------------------------------------------------------------------------------

    def _thread(self) -> int:
        """Which line of talk the call belongs to: see `NewMessage.thread`."""
        if self.known_prefix is not None:
            return self.known_prefix.thread
        if self.snapshot.previous is not None:
            return self.record.answers.get(self.snapshot.previous, 0)
        shared = self._shared_history()
        if shared is not None:
            return shared
        return self.record.system_threads.get(self.system, self.record.threads)

    def _shared_history(self) -> int | None:
        """Find the thread of the last thing in the request that an assistant said or a tool answered."""
        for item in reversed(self.items):
            if item.at is not None and item.kind == REPLY:
                return self.record.recorded_texts[item.at].thread
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
        self._instructions(already_known=first)
        for item in elsewhere:
            self._item(item, already_known=first)
        if not first:
            self.new = [new for new in self.new if new.source.role == "system"]
        for item in self.items[len(elsewhere) :]:
            self._item(item, already_known=first and item.kind == SYSTEM)

    def _last_answer(self, *, ours: bool) -> int:
        """The last item that an assistant said, or only of those that are new; -1 if there is none."""
        if self.snapshot.previous is not None:
            return -1
        asking = (n for n, item in enumerate(self.items) if ours or not item.is_old)
        return max((n for n in asking if self.alignment.source(self.items[n]).role == "assistant"), default=-1)

    def _instructions(self, *, already_known: bool = False) -> None:
        text = self.snapshot.instructions
        if text and system_key(text) not in self.record.systems:
            self._record(
                SourceMessage(role="system", text=text),
                (MatchKey(SYSTEM, system_key(text)),),
                already_known=already_known,
            )

    def _item(self, item: Item, *, already_known: bool = False) -> None:
        if item.at is not None:
            self.last = item.at
        if not item.is_old:
            self._new(item, already_known=already_known)
        elif item.kind == KEYED:
            self._reused_id(item)
        for text in item.appended:
            self._observation(text)

    def _new(self, item: Item, *, already_known: bool) -> None:
        source = self.alignment.source(item)
        if source.role == "assistant" and not (source.text.strip() or source.calls or source.attachments):
            return  # an answer that is resent by reference (audio): it was recorded when it was given
        if item.kind == SYSTEM and item.key in self.record.systems:
            return  # the same system text twice in one request
        replaces = self._replaced(assistant=item.kind == REPLY) if item.kind >= WORDS and item.at is None else None
        match_keys = item.match_keys
        if item.old and (item.at is not None or any(item.old)):
            source, match_keys = _without_old(source, item)
        self._record(source, match_keys, replaces, already_known=already_known)

    def _reused_id(self, item: Item) -> None:
        """A result whose id has been answered before is new where a later call had that id, and this is its result."""
        key, keyed = item.key, self.record.keyed
        if keyed.awaited(key) and self.alignment.accounts_for(key):
            source = self.alignment.source(item)
            if self._ends_request(item) or not keyed.answered_with(key, source.text):
                self._record(source, item.match_keys)

    def _ends_request(self, item: Item) -> bool:
        """Whether no answer follows in the request: the model is to hear this now."""
        later = (i for i in self.items if i.index > item.index)
        return not any(i.kind == REPLY or i.key[0] == "call" for i in later if i.kind in (REPLY, KEYED))

    def _observation(self, text: str) -> None:
        """What a ReAct framework appended to a resent text is the tool's result: it exists nowhere else."""
        match_key = MatchKey(KEYED, ("appended", hash(text)))
        if not self.alignment.is_old(match_key):
            self._record(SourceMessage(role="tool", text=text), (match_key,))

    def _record(
        self,
        source: SourceMessage,
        match_keys: MatchKeys,
        replaces: int | None = None,
        *,
        answer: bool = False,
        already_known: bool = False,
    ) -> None:
        record = self.record
        number = record.messages
        record.messages += 1
        self.last = record.add(source, match_keys, number, (self.thread, self.system, self.last), given=answer)
        if source.call_id is not None and source.name is None:
            source = msgspec.structs.replace(source, name=self._called(source.call_id))
        self.new.append(NewMessage(source, number, self.thread, replaces, answer, already_known))

    def _called(self, call_id: str) -> str | None:
        """Which tool has this call id: as it was recorded, or as the request says where it made the id up."""
        name = self.record.keyed.names.get(call_id)
        calls = (
            a.key for item in self.items for a in item.match_keys if a.kind == KEYED and a.key[:2] == ("call", call_id)
        )
        return name or next((key[2] for key in calls), None)

    def _replaced(self, *, assistant: bool) -> int | None:
        """Number the latest message that had this place: after the same text, under the same system text.

        A request without shared history replaces nothing, nor does one that was under way at the same time.
        """
        if self.last == START and not any(item.at is not None for item in self.items):
            return None
        recorded_texts = self.record.recorded_texts
        for at in range(len(recorded_texts) - 1, self.last, -1):
            other = recorded_texts[at]
            same = (other.parent, other.thread, other.system) == (self.last, self.thread, self.system)
            if same and other.assistant == assistant and other.version <= self.snapshot.version:
                return None if any(item.at == at for item in self.items) else other.number
        return None

    # -- remembering ---------------------------------------------------------------------------------------------

    def _remember(self, *, failed: bool) -> None:
        """Keep this request as the trail that the next call of the thread extends."""
        record = self.record
        record.threads = max(record.threads, self.thread + 1)
        record.system_threads[self.system] = self.thread
        record.failed_fingerprints = self.snapshot.fingerprints if failed else None
        if self.snapshot.previous is not None:
            change = record.failed.add if failed else record.failed.discard
            change(self._named())
        elif self.snapshot.fingerprints:
            self._keep_trail()

    def _keep_trail(self) -> None:
        """Extend the trail that was followed; else take the place of the one of the same thread and system text."""
        known_prefix = self.known_prefix or next((t for t in self.record.known_prefixes if self._is_ours(t)), None)
        if known_prefix is None:
            known_prefix = KnownPrefix(
                thread=self.thread, system=self.system, fingerprints=[], last=START, counts={}, replies=0, answers=0
            )
        if self.known_prefix is None:
            known_prefix.counts = {}
        for key, count in self.alignment.counts.items():
            known_prefix.counts[key] = known_prefix.counts.get(key, 0) + count
        known_prefix.replies = self.alignment.prefix_replies() + sum(item.kind == REPLY for item in self.items)
        known_prefix.answers = self.alignment.answers()
        known_prefix.fingerprints, known_prefix.last = self.snapshot.fingerprints, self.last
        self.record.keep(known_prefix)

    def _is_ours(self, known_prefix: KnownPrefix) -> bool:
        return known_prefix.thread == self.thread and known_prefix.system == self.system

    def _named(self) -> tuple[str, tuple[int, ...]]:
        return self.snapshot.previous or "", tuple(self.snapshot.fingerprints)

    def _answer(self, answer: Answer) -> None:
        asked = bool(self.new)
        for source in answer.messages:
            match_keys = match_keys_of(source)
            self._expect(source, match_keys)
            replaces = None if asked or match_keys[0].kind != REPLY else self._replaced(assistant=True)
            self._record(source, match_keys, replaces, answer=True)
        if answer.response_id:
            self.record.answers[answer.response_id] = self.thread

    def _expect(self, source: SourceMessage, match_keys: MatchKeys) -> None:
        """Know the answer in advance, as it will look when it is resent: then nobody has to read it."""
        fingerprint = echo(self.snapshot.dialect, source)
        if fingerprint is not None:
            self.record.known[fingerprint] = (match_keys,)


def _without_old(source: SourceMessage, item: Item) -> tuple[SourceMessage, MatchKeys]:
    """Take only the part of a message that is new: a text without its old calls, calls without their old text."""
    words = item.match_keys[: item.kind >= WORDS]
    calls, match_keys = source.calls, item.match_keys[len(words) :]
    new = [n for n, old in enumerate(item.old) if not old]
    text, words = (source.text, words) if item.at is None else ("", ())
    source = msgspec.structs.replace(source, text=text, calls=tuple(calls[n] for n in new))
    return source, (*words, *(match_keys[n] for n in new))
