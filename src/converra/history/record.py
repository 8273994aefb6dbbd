"""The record of one conversation, and snapshots of the requests that are compared with it.

A record keeps what was recorded as hashes, by which resent history is recognised. Texts are not kept, except the latest
replies: frameworks resend those edited, which a hash does not show.

A snapshot is a request as it was when its call began, taken on the app's thread. Taking one costs a fingerprint of each
message, one comparison of lists, and the reading of the messages that are new. The worker folds it into the record
later, when the app may have changed its own list of messages. While an earlier call is not folded yet, its request is
compared with instead of the record; before the first fold there is no record at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from converra.history.arguments import canonical
from converra.history.turn import Dialect, SourceMessage

if TYPE_CHECKING:
    from converra.history.turn import Answer, DeferredMessages, Request


SYSTEM, KEYED, TEXT, REPLY = range(4)
"""Kinds of match keys. Those from TEXT on are compared in order."""

MAX_KNOWN_PREFIXES = 32
"""Resent histories that a request is compared with; beyond them, it is aligned as a whole."""

MAX_REPLY_TEXTS = 64
"""Replies whose text is kept, the latest ones."""

START = -1
"""The position before the first text."""


class MatchKey(NamedTuple):
    """The unit in which messages are recognised. A message has one for its text and one for each tool call.

    ======  ==========================================  ====================================
    kind    recognises                                  by
    ======  ==========================================  ====================================
    SYSTEM  a system text                               being among those recorded
    KEYED   a tool call, or a tool result               its id, or its name and content; counted
    TEXT    a text of the user, or a result with no id  its place in the order
    REPLY   a text of the assistant                     its place in the order
    ======  ==========================================  ====================================
    """

    kind: int
    key: Any
    """A hash; for KEYED a tuple that begins with "call", "result" or "appended"."""


MatchKeys = tuple[MatchKey, ...]

Place = tuple[int, int | None, int]
"""Place of a text in the conversation: thread, hash of the system text, position of the text before it."""


def match_keys_of(source: SourceMessage) -> MatchKeys:
    """Make the match keys of one source message."""
    if source.role == "system":
        return (MatchKey(SYSTEM, system_key(source.text)),)
    if source.role == "tool" and (source.call_id is not None or source.name is not None):
        return (MatchKey(KEYED, result_key(source)),)
    words = MatchKey(REPLY if source.role == "assistant" else TEXT, text_key(source))
    if not source.calls:
        return (words,)
    calls = tuple(MatchKey(KEYED, call_key(call.id, call.name, call.arguments)) for call in source.calls)
    return (words, *calls) if source.text.strip() else calls


def system_key(text: str) -> int:
    """Hash a system text without the white space around it."""
    return hash(text.strip())


def text_key(source: SourceMessage) -> int:
    """Hash role, text and attachments, without white space around the text: frameworks lose it."""
    if not source.attachments:
        return hash((source.role, source.text.strip()))
    attached = tuple(hash(a.data or a.url or a.name) for a in source.attachments)
    return hash((source.role, source.text.strip(), attached))


def call_key(call_id: str | None, name: str | None, arguments: object) -> tuple[object, ...]:
    """Identify a call by id and name, since some providers use an id again; without an id, by name and arguments."""
    if call_id:
        return ("call", call_id, name)
    return ("call", None, name, canonical(arguments))


def result_key(source: SourceMessage) -> tuple[object, ...]:
    """Identify a result by the id of its call; without one, by name and text."""
    if source.call_id:
        return ("result", source.call_id)
    return ("result", None, source.name, hash(source.text.strip()))


class RecordedText(msgspec.Struct, gc=False, frozen=True):
    """One recorded text of the user or the assistant."""

    number: int
    """Number of its message, from 0 in the order of recording."""
    thread: int
    """0 for the conversation itself, 1 and up for side calls."""
    system: int | None
    """Hash of the system text of its request; None if that had none."""
    parent: int
    """Position of the text before it in its request; START if there is none."""
    assistant: bool
    version: int
    """Version of the record that it was added in."""
    generated: bool = False
    """It is the answer of a recorded call. Otherwise a request brought it, such as a greeting or an example."""


class KnownPrefix(msgspec.Struct, kw_only=True):
    """The history that a series of calls resent last. In a request that extends it, only the rest is aligned."""

    thread: int
    system: int | None
    fingerprints: list[int]
    """Of its messages. Replaced, not changed, when the next call extends it."""
    last: int
    """Position of the last text of that request: its answer follows."""
    counts: dict[tuple[object, ...], int]
    """Occurrences of KEYED match keys in that request."""
    replies: int
    """Number of replies in that request."""
    answers: int
    """Number of source messages in that request that recorded calls generated."""


class Keyed(msgspec.Struct, eq=False):
    """The recorded tool calls and tool results, by the keys of their KEYED match keys."""

    counts: dict[Any, int] = {}
    """Key → how often it is recorded. Calls without an id also count as `("unnamed", tool)`."""
    threads: dict[Any, int] = {}
    """Key → thread in which it was recorded last."""
    names: dict[str, str | None] = {}
    """Call id → name of the tool."""
    generated: set[Any] = set()
    """Keys of the calls that recorded answers made, not requests brought; `("unnamed", tool)` as above."""
    _calls: dict[str, int] = {}
    """Call id → number of calls that had it."""
    _results: dict[Any, set[int]] = {}
    """Key of a result → hashes of its texts."""

    def add(self, source: SourceMessage, key: Any, thread: int) -> None:
        """Add a call or a result."""
        self.counts[key] = self.counts.get(key, 0) + 1
        self.threads[key] = thread
        kind, identity, *rest = key
        if kind == "result":
            self._results.setdefault(key, set()).add(hash(source.text.strip()))
        elif kind == "call" and identity is None:
            unnamed = ("unnamed", rest[0])
            self.counts[unnamed] = self.counts.get(unnamed, 0) + 1
        elif kind == "call":
            self._calls[identity] = self._calls.get(identity, 0) + 1
            self.names[identity] = rest[0]

    def awaited(self, key: Any) -> bool:
        """Report whether a later call with the same id is still without a result."""
        return key[0] == "result" and key[1] is not None and self.counts.get(key, 0) < self._calls.get(key[1], 0)

    def answered_with(self, key: Any, text: str) -> bool:
        """Report whether a result with this text is recorded under the key."""
        return hash(text.strip()) in self._results.get(key, ())


class Record(msgspec.Struct, kw_only=True, eq=False):
    """The messages of one conversation that are recorded, as far as it takes to recognise them."""

    shared: bool = False
    """Other processes record the same conversation."""
    version: int = 0
    """Number of folds: each call that is recorded makes a new version."""
    messages: int = 0
    """Number of messages, and so the number of the next one."""
    threads: int = 0
    known_prefixes: list[KnownPrefix] = []
    """In the order of their use: the one used last is last."""
    match_keys: dict[int, tuple[MatchKeys, ...]] = {}
    """Fingerprint of a message → match keys of each source message that was read from it."""
    systems: set[int] = set()
    """Hashes of the recorded system texts."""
    system_threads: dict[int | None, int] = {}
    """Hash of a system text → thread of the last call that had it."""
    keyed: Keyed = msgspec.field(default_factory=Keyed)
    texts: list[int] = []
    """Keys of the texts (TEXT and REPLY) in the order of recording. A *position* is an index into this list."""
    recorded_texts: list[RecordedText] = []
    """Parallel to `texts`. It is extended first, so a reader in another thread never finds it shorter."""
    latest: dict[int, int] = {}
    """Key of a text → its last position."""
    reply_texts: dict[int, str] = {}
    """Position → text, of the latest replies."""
    answer_threads: dict[str, int] = {}
    """The provider's id of an answer → its thread."""
    identities: dict[str, int] = {}
    """The id of a user's message → the position of its text; see `Dialect.identity`."""
    failed_fingerprints: list[int] | None = None
    """Fingerprints of the last request, if its call failed."""
    failed_continuations: set[tuple[str, tuple[int, ...]]] = set()
    """Failed requests that name what they continue: that id, and fingerprints. A retry brings nothing new."""

    def continued(self, fingerprints: list[int]) -> tuple[KnownPrefix | None, list[int]]:
        """Find the longest known prefix that these fingerprints extend.

        Returns:
            The prefix or None, and its fingerprints as they are now: another call may replace them.

        """
        best: KnownPrefix | None = None
        prefix: list[int] = []
        for known_prefix in reversed(self.known_prefixes):
            candidate = known_prefix.fingerprints
            length = len(candidate)
            longer = length <= len(fingerprints) and (best is None or length > len(prefix))
            if longer and candidate == (fingerprints if length == len(fingerprints) else fingerprints[:length]):
                best, prefix = known_prefix, candidate
        return best, prefix

    def keep(self, known_prefix: KnownPrefix) -> None:
        """Make a known prefix the newest one; forget the oldest if there are too many."""
        known_prefixes = self.known_prefixes
        if known_prefixes and known_prefixes[-1] is known_prefix:
            return
        if known_prefix in known_prefixes:
            known_prefixes.remove(known_prefix)
        known_prefixes.append(known_prefix)
        if len(known_prefixes) > MAX_KNOWN_PREFIXES:
            del known_prefixes[0]

    def add(
        self, source: SourceMessage, match_keys: MatchKeys, number: int, place: Place, *, generated: bool = False
    ) -> int:
        """Add a message.

        Args:
            source: The message.
            match_keys: Its match keys, or those of its new part.
            number: Its number.
            place: Thread, hash of the system text, position of the text before it.
            generated: It is the answer of a call.

        Returns:
            The position of its text; that of the text before it if it has none.

        """
        at = place[2]
        for kind, key in match_keys:
            if kind >= TEXT:
                at = len(self.texts)
                self.recorded_texts.append(RecordedText(number, *place, kind == REPLY, self.version, generated))
                self.texts.append(key)
                self.latest[key] = at
                if kind == REPLY:
                    self.reply_texts[at] = source.text
                    if len(self.reply_texts) > MAX_REPLY_TEXTS:
                        del self.reply_texts[next(iter(self.reply_texts))]
            elif kind == SYSTEM:
                self.systems.add(key)
            else:
                self.keyed.add(source, key, place[0])
                if generated:
                    self.keyed.generated |= {key, ("unnamed", key[2])} if key[1] is None else {key}
        return at


NOTHING: dict[int, tuple[MatchKeys, ...]] = {}
"""The match keys before anything was recorded."""


class Snapshot(msgspec.Struct, gc=False):
    """The messages of a request, with fingerprints, and the new ones read. The app may change its list afterwards."""

    dialect: Dialect
    messages: Sequence[Any]
    fingerprints: list[int]
    read: dict[int, tuple[SourceMessage, ...]]
    """Index of a message → the source messages that were read from it."""
    instructions: str | None
    previous: str | None
    version: int
    """Calls that had ended when this one began, folded or not: the version of the record that it could know."""
    known_prefix: KnownPrefix | None
    """The known prefix that the request extended then."""
    prefix: list[int]
    """The fingerprints of that prefix then. Another call that extends the prefix replaces its list by another."""
    weight: int
    """Characters of the source messages that were read."""
    model: str | None = None
    """The model that the request names."""
    branch: bool = False
    """It begins a side call, unless it continues an answer that is recorded."""
    deferred: bool = False
    """The messages are neither parsed nor fingerprinted yet."""

    def settle(self, record: Record) -> None:
        """Parse and fingerprint the messages, which was deferred."""
        self.deferred = False
        self.messages = tuple(self.messages)
        found = self.dialect.fingerprint(self.messages)
        prefix = record.continued(found)[1] if self.previous is None else []
        self.fingerprints = prefix + found[len(prefix) :]  # equal, and the numbers are kept only once

    def source(self, index: int) -> tuple[SourceMessage, ...]:
        """Return the source messages of the message at `index`; read it now if it was known when the call began."""
        found = self.read.get(index)
        if found is None:
            found = self.read[index] = self.dialect.read(self.messages[index])
        return found

    def echo(self, answer: Answer) -> int | None:
        """Return the fingerprint that an answer will have when it is resent; None if it cannot be foretold."""
        source = answer.messages[0] if len(answer.messages) == 1 else None
        return None if source is None else echo(self.dialect, source)

    def match_keys(self, index: int, record: Record) -> tuple[MatchKeys, ...]:
        """Return the match keys of each source message of the message at `index`."""
        fingerprint = self.fingerprints[index]
        parts = record.match_keys.get(fingerprint)
        if parts is None or index in self.read:
            parts = record.match_keys[fingerprint] = tuple(map(match_keys_of, self.source(index)))
        return parts


def echo(dialect: Dialect, source: SourceMessage) -> int | None:
    """Return the fingerprint of the message in which most apps will resend a reply; None if it cannot be foretold."""
    if dialect.echo is None or source.role != "assistant" or source.attachments:
        return None
    return dialect.fingerprint((dialect.echo(source),))[0]


def take_snapshot(
    record: Record | None,
    request: Request,
    fingerprints: list[int] | None = None,
    turns: int | None = None,
    old: list[int] | None = None,
) -> Snapshot:
    """Fingerprint every message of a request, unless that is done, and read the last and those not recorded yet.

    `turns` counts the calls that have ended, by default those folded; `old`: fingerprints of the last one's request.
    """
    messages = tuple(request.messages)
    if fingerprints is None:
        fingerprints = request.dialect.fingerprint(messages)
    known, version = (NOTHING, 0) if record is None else (record.match_keys, record.version)
    turns = version if turns is None else turns
    known_prefix: KnownPrefix | None = None
    prefix: list[int] = []
    start = 0
    if request.previous is None:
        if turns != version:
            if old and old == fingerprints[: len(old)]:
                start = len(old)
                fingerprints = old + fingerprints[start:]  # equal, and the numbers are kept only once
        elif record is not None:
            known_prefix, prefix = record.continued(fingerprints)
            start = len(prefix)
            fingerprints = prefix + fingerprints[start:]  # as above
    newest = len(messages) - 1  # read in any case: most probably new, even if it repeats an earlier message
    read, weight = {}, 0
    for index in range(start, newest + 1):
        if index == newest or fingerprints[index] not in known:
            read[index] = parts = request.dialect.read(messages[index])
            for source in parts:
                weight += len(source.text)
                if source.calls or source.attachments or source.metadata:
                    weight += source.beside
    return Snapshot(
        request.dialect,
        messages,
        fingerprints,
        read,
        request.instructions,
        request.previous,
        turns,
        known_prefix,
        prefix,
        weight,
        request.model,
        request.branch,
    )


def put_off(request: Request, messages: DeferredMessages, turns: int) -> Snapshot:
    """Return the snapshot of a request whose messages are parsed by the fold; `turns` as for `take_snapshot`."""
    previous, model = request.previous, request.model
    snapshot = Snapshot(request.dialect, messages, [], {}, request.instructions, previous, turns, None, [], 0, model)
    snapshot.weight, snapshot.branch, snapshot.deferred = messages.size, request.branch, True
    return snapshot
