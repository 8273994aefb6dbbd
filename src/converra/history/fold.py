"""Folding a call into the record of its conversation: resent history is recorded once.

`alignment` decides which parts of a request are old. The rest is new, in the order of the request, and the answer is
always new. For each new message, a fold decides:

============  =================================================================================================
question      rule
============  =================================================================================================
thread        that of the history that the request extends or shares; else that of the last call with the same
              system text; else a new one. Thread 0 is the conversation itself, others are side calls
replaces      a text in the place of an earlier one (same text before it, same thread, same system text) is an
              edited or regenerated turn. Calls under way at the same time replace nothing
a reused id   a result whose call id has an old result is new if a later call had that id too, and the result
              ends the request or has another text
appended      text that a ReAct framework appended to a resent reply is a tool's result: it exists nowhere else
same words    a user's message at the end of a request is new, though its words are recorded, if its id is not, and
              those words are recorded under another id; see `Dialect.identity`
shared        in a session of several processes, the history up to the last reply was recorded by others: in the
              first request it is marked as already known, in later ones it is only noted in the record
a failed      its new messages stay recorded; the same request again brings nothing new
request
============  =================================================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from converra.history.alignment import Alignment, Item
from converra.history.record import (
    KEYED,
    REPLY,
    START,
    SYSTEM,
    TEXT,
    KnownPrefix,
    MatchKey,
    call_key,
    echo,
    match_keys_of,
    result_key,
    system_key,
)
from converra.history.turn import SourceMessage

if TYPE_CHECKING:
    from converra.history.record import MatchKeys, Record, Snapshot
    from converra.history.turn import Answer


class NewMessage(NamedTuple):
    """A message that is new to the conversation."""

    source: SourceMessage
    number: int
    """From 0 in the order of recording."""
    thread: int
    """0 for the conversation itself, 1 and up for side calls (a router, a judge) that share no history with it."""
    replaces: int | None = None
    """The number of the message that this one replaces: an edited or regenerated turn."""
    answer: bool = False
    """The model generated it; otherwise the request brought it."""
    already_known: bool = False
    """It was said before this process joined a shared session: it is sent only if this process is the opener."""


def fold(record: Record, snapshot: Snapshot, answer: Answer | None, *, failed: bool = False) -> list[NewMessage]:
    """Record one call.

    Args:
        record: What is recorded of the conversation.
        snapshot: The request, as it was when the call began.
        answer: The answer, as far as it came; None if nothing did. The new messages of the request are recorded all the
            same.
        failed: The call failed, perhaps in the middle of its answer.

    Returns:
        The new messages of the request and the answer, in order.

    """
    return _Fold(record, snapshot).run(answer, failed=failed or answer is None)


class Asked:
    """A request that is recorded before its answer: a background response is polled for, perhaps in vain."""

    def __init__(self, record: Record, snapshot: Snapshot) -> None:
        self.snapshot: Snapshot = snapshot
        self._fold = _Fold(record, snapshot)

    def ask(self) -> list[NewMessage]:
        """Record the request; return its new messages in order."""
        return self._fold.run(None, failed=False)

    def reply(self, answer: Answer) -> list[NewMessage]:
        """Record the answer after the messages of its request; return its messages in order."""
        return self._fold.reply(answer)


def write(record: Record, source: SourceMessage) -> int:
    """Record a message that was added by hand; return its number."""
    number = record.messages
    record.messages += 1
    record.add(source, match_keys_of(source), number, (0, None, len(record.texts) - 1))
    return number


def record_tool_result(record: Record, source: SourceMessage) -> NewMessage | None:
    """Record a tool's result before any request brings it; return None if it is recorded already."""
    key, keyed = result_key(source), record.keyed
    if keyed.counts.get(key, 0) and not keyed.awaited(key):
        return None
    thread = keyed.threads.get(call_key(source.call_id, source.name, None), 0)
    number = record.messages
    record.messages += 1
    keyed.add(source, key, thread)
    return NewMessage(source, number, thread)


class _Fold:
    """One fold. A class, because every step reads and writes the same few values."""

    def __init__(self, record: Record, snapshot: Snapshot) -> None:
        self.record: Record = record
        self.snapshot: Snapshot = snapshot
        if snapshot.deferred:
            snapshot.settle(record)
        self.alignment: Alignment = Alignment(record, snapshot)
        self.items = self.alignment.items
        if snapshot.previous is not None and self._continuation() in record.failed_continuations:
            self.items = []  # the retry of a failed request that names what it continues
        self.known_prefix = self.alignment.known_prefix
        self.system = self.alignment.system()
        self.last = self.known_prefix.last if self.known_prefix else START
        """Position of the text before the current item, during the walk through the request."""
        self.identity: str | None = None if snapshot.dialect.identity is None else self._identity()
        """The id of the user's message that ends the request."""
        self.thread: int = 0
        self.new: list[NewMessage] = []

    def run(self, answer: Answer | None, *, failed: bool) -> list[NewMessage]:
        """Record the request, and the answer if there is one."""
        self.record.version += 1
        self.thread = self._thread()
        if self.record.shared:
            self._record_shared()
        else:
            if self.snapshot.instructions:
                self._record_instructions(self.snapshot.instructions)
            for item in self.items:
                self._record_item(item)
        if self.identity is not None and self.last != START:
            self.record.identities[self.identity] = self.last
        self._remember(failed=failed)
        if answer is not None:
            self._record_answer(answer)
        return self.new

    def reply(self, answer: Answer) -> list[NewMessage]:
        """Record the answer of a request that was recorded before."""
        before = len(self.new)
        self.record.version += 1
        self._record_answer(answer)
        return self.new[before:]

    def _identity(self) -> str | None:
        """Return the id of the user's message that ends the request; decide by it whether the message is recorded.

        Where an app sends only the newest message to the model, the words cannot tell a second "yes" from the first.
        """
        identify, messages = self.snapshot.dialect.identity, self.snapshot.messages
        identity = identify(messages[-1]) if identify and messages else None
        item = next((item for item in self.items if item.index == len(messages) - 1 and item.kind == TEXT), None)
        at = self.last if item is None else item.at
        if identity is not None and at is not None and at != START:
            known = self.record.identities.get(identity)
            if known is None and at in self.record.identities.values():
                self._say_again(item, len(messages) - 1)
            elif item is not None:
                item.at = at if known is None else known
            else:
                self.last = at if known is None else known
        return identity

    def _say_again(self, item: Item | None, index: int) -> None:
        """Have the message at the end of the request recorded as new."""
        if item is not None:
            item.at = None
        else:
            self.last, parts = len(self.record.texts) - 1, self.snapshot.match_keys(index, self.record)
            self.items = [*self.items, Item(index, len(parts) - 1, *parts[-1][0], parts[-1])]

    # -- threads -------------------------------------------------------------------------------------------------

    def _thread(self) -> int:
        """Return the thread that the call belongs to."""
        if self.known_prefix is not None:
            return self.known_prefix.thread
        if self.snapshot.previous is not None:
            begun = self.record.threads if self.snapshot.branch else 0
            return self.record.answer_threads.get(self.snapshot.previous, begun)
        shared = self._shared_history() if self.record.messages else None
        if shared is not None:
            return shared
        return self.record.system_threads.get(self.system, self.record.threads)

    def _shared_history(self) -> int | None:
        """Find the thread of the last old reply or tool item in the request; None if there is none."""
        for item in reversed(self.items):  # a user's text does not count: a router or a judge gets it too
            if item.at is not None and item.kind == REPLY:
                return self.record.recorded_texts[item.at].thread
            if item.kind == KEYED and item.old[0] and item.key in self.record.keyed.threads:
                return self.record.keyed.threads[item.key]
        return None

    # -- recording -----------------------------------------------------------------------------------------------

    def _record_shared(self) -> None:
        """Record a request of a session that other processes record too.

        In the first request, everything up to the last reply may have been recorded elsewhere, and so may the system
        texts, which every process sends: these are new messages, marked as already known. In a later request, new
        messages up to a reply that this process has not seen are recorded elsewhere: they are noted in the record so
        that they are old from now on, but they are not new messages.
        """
        first = self.record.version == 1
        elsewhere = self.items[: self._last_reply(even_old=first) + 1]
        if self.snapshot.instructions:
            self._record_instructions(self.snapshot.instructions, already_known=first)
        for item in elsewhere:
            self._record_item(item, already_known=first)
        if not first:  # the process that recorded them sends them; a new system text is this process's own
            self.new = [new for new in self.new if new.source.role == "system"]
        for item in self.items[len(elsewhere) :]:
            self._record_item(item, already_known=first and item.kind == SYSTEM)

    def _last_reply(self, *, even_old: bool) -> int:
        """Return the index of the last item of an assistant that is new, or `even_old`; -1 if there is none."""
        if self.snapshot.previous is not None:
            return -1
        candidates = (n for n, item in enumerate(self.items) if even_old or not item.is_old)
        return max((n for n in candidates if self.alignment.source(self.items[n]).role == "assistant"), default=-1)

    def _record_instructions(self, text: str, *, already_known: bool = False) -> None:
        if system_key(text) not in self.record.systems:
            self._record(
                SourceMessage(role="system", text=text),
                (MatchKey(SYSTEM, system_key(text)),),
                already_known=already_known,
            )

    def _record_item(self, item: Item, *, already_known: bool = False) -> None:
        if item.at is not None:
            self.last = item.at
        if not item.is_old:
            self._record_new(item, already_known=already_known)
        elif item.kind == KEYED:
            self._record_reused_id(item)
        for text in item.appended:
            self._record_appended(text)

    def _record_new(self, item: Item, *, already_known: bool) -> None:
        source = self.alignment.source(item)
        if source.role == "assistant" and not (source.text.strip() or source.calls or source.attachments):
            return  # a reply that is resent by reference (audio) was recorded when it was generated
        if item.kind == SYSTEM and item.key in self.record.systems:
            return  # the same system text twice in one request
        replaces = self._replaced(assistant=item.kind == REPLY) if item.kind >= TEXT and item.at is None else None
        match_keys = item.match_keys
        if item.old and (item.at is not None or any(item.old)):
            source, match_keys = _without_old(source, item)
        self._record(source, match_keys, replaces, already_known=already_known)

    def _record_reused_id(self, item: Item) -> None:
        """Record a result whose id has an old result, if it is that of a later call with the same id."""
        key, keyed = item.key, self.record.keyed
        if keyed.awaited(key) and self.alignment.accounts_for(key):
            source = self.alignment.source(item)
            if self._ends_request(item) or not keyed.answered_with(key, source.text):
                self._record(source, item.match_keys)

    def _ends_request(self, item: Item) -> bool:
        """Report whether no reply or call follows in the request: then the item is new to the model."""
        later = (i for i in self.items if i.index > item.index)
        return not any(i.kind == REPLY or i.key[0] == "call" for i in later if i.kind in (REPLY, KEYED))

    def _record_appended(self, text: str) -> None:
        """Record what a ReAct framework appended to a resent reply as a tool's result, once."""
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
        self.last = record.add(source, match_keys, number, (self.thread, self.system, self.last), generated=answer)
        if source.call_id is not None and source.name is None:
            source = msgspec.structs.replace(source, name=self._called(source.call_id))
        self.new.append(NewMessage(source, number, self.thread, replaces, answer, already_known))

    def _called(self, call_id: str) -> str | None:
        """Return the name of the tool with this call id: as recorded, or as in the request if its id is invented."""
        name = self.record.keyed.names.get(call_id)
        calls = (
            a.key for item in self.items for a in item.match_keys if a.kind == KEYED and a.key[:2] == ("call", call_id)
        )
        return name or next((key[2] for key in calls), None)

    def _replaced(self, *, assistant: bool) -> int | None:
        """Return the number of the latest message that had the same place; None if there is none.

        A request without shared history replaces nothing. Neither does one that began before that message was
        recorded: the two calls were under way at the same time.
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

    # -- the next request ----------------------------------------------------------------------------------------

    def _remember(self, *, failed: bool) -> None:
        """Keep what the next request of this thread is compared with first."""
        record = self.record
        record.threads = max(record.threads, self.thread + 1)
        record.system_threads[self.system] = self.thread
        record.failed_fingerprints = self.snapshot.fingerprints if failed else None
        if self.snapshot.previous is not None:
            if failed:
                record.failed_continuations.add(self._continuation())
            else:
                record.failed_continuations.discard(self._continuation())
        elif self.snapshot.fingerprints:
            self._keep_prefix()

    def _keep_prefix(self) -> None:
        """Make the request a known prefix, in place of the one it extends, or of the same thread and system text."""
        known_prefix = self.known_prefix or next(filter(self._is_same_series, self.record.known_prefixes), None)
        if known_prefix is None:
            known_prefix = KnownPrefix(
                thread=self.thread, system=self.system, fingerprints=[], last=START, counts={}, replies=0, answers=0
            )
        if self.known_prefix is None:
            known_prefix.counts = {}
        for key, count in self.alignment.counts.items():
            known_prefix.counts[key] = known_prefix.counts.get(key, 0) + count
        before = self.known_prefix.replies if self.known_prefix else 0
        known_prefix.replies = before + sum(item.kind == REPLY for item in self.items)
        known_prefix.answers = self.alignment.answers()
        known_prefix.fingerprints, known_prefix.last = self.snapshot.fingerprints, self.last
        self.record.keep(known_prefix)

    def _is_same_series(self, known_prefix: KnownPrefix) -> bool:
        return known_prefix.thread == self.thread and known_prefix.system == self.system

    def _continuation(self) -> tuple[str, tuple[int, ...]]:
        """Identify a request that names what it continues."""
        return self.snapshot.previous or "", tuple(self.snapshot.fingerprints)

    def _record_answer(self, answer: Answer) -> None:
        """Record the messages of the answer. It replaces an earlier one only if the request brought nothing new."""
        has_new_request = bool(self.new)
        for source in answer.messages:
            match_keys = match_keys_of(source)
            resent = echo(self.snapshot.dialect, source)
            if resent is not None:  # then the app's thread need not read it
                self.record.match_keys[resent] = (match_keys,)
            replaces = None if has_new_request or match_keys[0].kind != REPLY else self._replaced(assistant=True)
            self._record(source, match_keys, replaces, answer=True)
        if answer.response_id:
            self.record.answer_threads[answer.response_id] = self.thread


def _without_old(source: SourceMessage, item: Item) -> tuple[SourceMessage, MatchKeys]:
    """Take only the new part of a message: a text without its old calls, calls without their old text."""
    text, text_keys, call_keys = source.text, item.match_keys[:0], item.match_keys
    if item.kind >= TEXT:
        text_keys, call_keys = item.match_keys[:1], item.match_keys[1:]
    if item.at is not None:
        text, text_keys = "", ()
    new = [n for n, old in enumerate(item.old) if not old]
    source = msgspec.structs.replace(source, text=text, calls=tuple(source.calls[n] for n in new))
    return source, (*text_keys, *(call_keys[n] for n in new))
