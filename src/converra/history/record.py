"""What is recorded of one conversation, in the form in which resent history can be recognised.

Nothing of the words is kept but their hashes, except the latest of an assistant: frameworks resend them edited.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from converra.history.arguments import canonical

if TYPE_CHECKING:
    from converra.history.turn import SourceMessage

SYSTEM, KEYED, WORDS, REPLY = range(4)

MAX_TRAILS = 32
"""How many different resent histories one conversation is compared with; beyond them, the general alignment is used."""

MAX_WORDS = 64
"""How many of an assistant's texts are kept, the latest ones, to recognise them when they come back edited."""

START = -1
"""The position before the first text."""


class MatchKey(NamedTuple):
    """The unit in which messages are recognised.

    SYSTEM: a system text, a member of the set of those recorded. KEYED: a tool call or a tool result, known by its id
    (else by name and content), counted. WORDS and REPLY: what the user and what the assistant said, compared in order.
    """

    kind: int
    key: Any
    """A hash; for KEYED a tuple whose first element says whether it is a call, a result or something appended."""


MatchKeys = tuple[MatchKey, ...]

Place = tuple[int, int | None, int]
"""Where something is said: thread, hash of the system text, position of the text before it."""


def match_keys_of(source: SourceMessage) -> MatchKeys:
    """Take one message apart."""
    if source.role == "system":
        return (MatchKey(SYSTEM, system_key(source.text)),)
    if source.role == "tool" and (source.call_id is not None or source.name is not None):
        return (MatchKey(KEYED, result_key(source)),)
    words = MatchKey(REPLY if source.role == "assistant" else WORDS, text_key(source))
    if not source.calls:
        return (words,)
    calls = tuple(MatchKey(KEYED, call_key(call.id, call.name, call.arguments)) for call in source.calls)
    return (words, *calls) if source.text.strip() else calls


def system_key(text: str) -> int:
    """A system text; white space around it does not count."""
    return hash(text.strip())


def text_key(source: SourceMessage) -> int:
    """Words and attachments; white space around them gets lost on the way through frameworks."""
    if not source.attachments:
        return hash((source.role, source.text.strip()))
    attached = tuple(hash(a.data or a.url or a.name) for a in source.attachments)
    return hash((source.role, source.text.strip(), attached))


def call_key(call_id: str | None, name: str | None, arguments: object) -> tuple[object, ...]:
    """Id and name, since some providers use an id again; without an id, name and arguments."""
    if call_id:
        return ("call", call_id, name)
    return ("call", None, name, canonical(arguments))


def result_key(source: SourceMessage) -> tuple[object, ...]:
    """The id of the call that is answered; without one, name and text."""
    if source.call_id:
        return ("result", source.call_id)
    return ("result", None, source.name, hash(source.text.strip()))


class RecordedText(msgspec.Struct, gc=False, frozen=True):
    """One text of the user or the assistant that is recorded."""

    number: int
    """Of the message, counted from 0 in the order of recording."""
    thread: int
    """0 for the conversation itself, 1 and up for side calls."""
    system: int | None
    """Hash of the system text it was said under."""
    parent: int
    """Position of the text before it in the request that brought it; START if there is none."""
    assistant: bool
    version: int
    given: bool = False
    """It was the answer of a call; otherwise a request brought it, such as a greeting or an example."""


class KnownPrefix(msgspec.Struct, kw_only=True):
    """The history that one line of calls resent last, as looks; a request that extends it needs no alignment."""

    thread: int
    system: int | None
    fingerprints: list[int]
    last: int
    """Position of the last text of that request: its answer comes after it."""
    counts: dict[tuple[object, ...], int]
    """Occurrences of KEYED atoms in that request."""
    replies: int
    """How many texts of an assistant are in that request."""
    answers: int
    """How many answers of calls are in that request."""


class Keyed:
    """The tool calls and tool results that are recorded."""

    def __init__(self) -> None:
        self.counts: dict[Any, int] = {}
        """Key → how often it is recorded; `("unnamed", tool)` for the calls without an id."""
        self.threads: dict[Any, int] = {}
        """Key → thread in which it was recorded last."""
        self.names: dict[str, str | None] = {}
        """Call id → name of the tool."""
        self.given: set[Any] = set()
        """Keys of the calls that a model made here, and not a request brought; `("unnamed", tool)` as above."""
        self._calls: dict[str, int] = {}
        """Call id → how many calls had it."""
        self._results: dict[Any, set[int]] = {}
        """Key → hashes of the texts."""

    def add(self, source: SourceMessage, key: Any, thread: int) -> None:
        """Note that a call or a result is recorded now."""
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
        """Whether a result is still to come for a later call that had an answered id again."""
        return key[0] == "result" and key[1] is not None and self.counts.get(key, 0) < self._calls.get(key[1], 0)

    def answered_with(self, key: Any, text: str) -> bool:
        """Whether a result with this text is recorded."""
        return hash(text.strip()) in self._results.get(key, ())


class Record:
    """What is recorded of one conversation. `version` grows with every fold: what it says of time."""

    def __init__(self, *, shared: bool = False) -> None:
        self.shared = shared
        """Whether other processes record the same conversation."""
        self.version = 0
        self.messages = 0
        self.threads = 0
        self.known_prefixes: list[KnownPrefix] = []
        """The one used last is last."""
        self.known: dict[int, tuple[MatchKeys, ...]] = {}
        """Look of a message → its atoms, one tuple for each thing said."""
        self.systems: set[int] = set()
        self.system_threads: dict[int | None, int] = {}
        """System text → thread of the last call under it."""
        self.keyed = Keyed()
        self.texts: list[int] = []
        """Keys of WORDS and REPLY, in the order of recording: an index into it is a position."""
        self.recorded_texts: list[RecordedText] = []
        """Parallel to `texts`, and never shorter."""
        self.latest: dict[int, int] = {}
        """Key of a text → its last position."""
        self.words: dict[int, str] = {}
        """Position → text, of the latest replies."""
        self.answers: dict[str, int] = {}
        """Provider's answer id → its thread."""
        self.failed_fingerprints: list[int] | None = None
        """The request of the last call, if that failed."""
        self.failed: set[tuple[str, tuple[int, ...]]] = set()
        """Failed calls that named what they continue; a retry of one brings nothing new."""

    def continued(self, fingerprints: list[int]) -> tuple[KnownPrefix | None, list[int]]:
        """Find the trail that these looks extend, the longest if several do; and its looks, which may change soon."""
        best: KnownPrefix | None = None
        prefix: list[int] = []
        for known_prefix in reversed(self.known_prefixes):
            own = known_prefix.fingerprints
            length = len(own)
            longer = length <= len(fingerprints) and (best is None or length > len(prefix))
            if longer and own == (fingerprints if length == len(fingerprints) else fingerprints[:length]):
                best, prefix = known_prefix, own
        return best, prefix

    def keep(self, known_prefix: KnownPrefix) -> None:
        """Make a trail the newest one."""
        known_prefixes = self.known_prefixes
        if known_prefixes and known_prefixes[-1] is known_prefix:
            return
        if known_prefix in known_prefixes:
            known_prefixes.remove(known_prefix)
        known_prefixes.append(known_prefix)
        if len(known_prefixes) > MAX_TRAILS:
            del known_prefixes[0]

    def add(
        self, source: SourceMessage, match_keys: MatchKeys, number: int, place: Place, *, given: bool = False
    ) -> int:
        """Note that these atoms of a message are recorded now; say the position of its text, or else its parent's."""
        at = place[2]
        for kind, key in match_keys:
            if kind >= WORDS:
                at = len(self.texts)
                self.recorded_texts.append(RecordedText(number, *place, kind == REPLY, self.version, given))
                self.texts.append(key)
                self.latest[key] = at
                if kind == REPLY:
                    self._add_reply(at, source.text)
            elif kind == SYSTEM:
                self.systems.add(key)
            else:
                self.keyed.add(source, key, place[0])
                if given:
                    self.keyed.given |= {key, ("unnamed", key[2])} if key[1] is None else {key}
        return at

    def _add_reply(self, at: int, text: str) -> None:
        self.words[at] = text
        if len(self.words) > MAX_WORDS:
            del self.words[next(iter(self.words))]
