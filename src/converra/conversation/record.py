"""What is recorded of one conversation, in the form in which resent history can be recognised.

Nothing of the words is kept but their hashes, except an assistant's text: frameworks resend it edited.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

if TYPE_CHECKING:
    from converra.conversation.turn import Said

SYSTEM, WORDS, REPLY, KEYED = range(4)

MAX_TRAILS = 32
"""How many different resent histories one conversation is compared with; beyond them, the general alignment is used."""


class Atom(NamedTuple):
    """The unit in which messages are recognised.

    SYSTEM: a system text, a member of the set of those recorded. WORDS and REPLY: what the user and what the assistant
    said, compared in order. KEYED: a tool call or a tool result, known by its id (else by name and content), counted.
    """

    kind: int
    key: Any
    """A hash; for KEYED a tuple whose first element says whether it is a call, a result or something appended."""


Atoms = tuple[Atom, ...]


def atoms_of(said: Said) -> Atoms:
    """Take one message apart."""
    if said.role == "system":
        return (Atom(SYSTEM, hash(said.text)),)
    if said.role == "tool" and (said.call_id is not None or said.name is not None):
        return (Atom(KEYED, result_key(said)),)
    calls = tuple(Atom(KEYED, call_key(call.id, call.name, call.arguments)) for call in said.calls)
    if calls and not said.text:
        return calls
    return (Atom(REPLY if said.role == "assistant" else WORDS, text_key(said)), *calls)


def text_key(said: Said) -> int:
    """Words and attachments; white space around them gets lost on the way through frameworks."""
    attached = tuple(hash(a.data or a.url or a.name) for a in said.attachments)
    return hash((said.role, said.text.strip(), attached))


def call_key(call_id: str | None, name: str | None, arguments: object) -> tuple[object, ...]:
    """Id and name, since some providers use an id again; without an id, name and arguments."""
    if call_id:
        return ("call", call_id, name)
    return ("call", None, name, _squashed_arguments(arguments))


def result_key(said: Said) -> tuple[object, ...]:
    """The id of the call that is answered; without one, name and text."""
    if said.call_id:
        return ("result", said.call_id)
    return ("result", None, said.name, hash(said.text))


def _squashed_arguments(arguments: object) -> str:
    """No white space, and nothing at all for an empty object: `""` comes back as `"{}"`."""
    words = "".join(str(arguments).split()) if arguments else ""
    return "" if words == "{}" else words


class Spoken(NamedTuple):
    """One text of the user or the assistant that is recorded."""

    number: int
    """Of the message, counted from 0 in the order of recording."""
    thread: int
    assistant: bool
    text: str | None
    """An assistant's text; None for a user's."""
    version: int


class Trail(msgspec.Struct, kw_only=True):
    """The history that one line of calls resent last, as looks; a request that extends it needs no alignment."""

    thread: int
    system: int | None
    looks: list[int]
    after: int
    """How many texts were recorded when that request had been recorded: its answer begins here, or later."""
    counts: dict[tuple[object, ...], int]
    """Occurrences of KEYED atoms in that request."""
    replies: int
    """How many of an assistant's texts were recorded when that request had been recorded."""


class Record:
    """What is recorded of one conversation. `version` grows with every fold: what it says of time."""

    def __init__(self, *, joining: bool = False) -> None:
        self.joining = joining
        """True until the first fold where another process has recorded the beginning."""
        self.version = 0
        self.messages = 0
        self.threads = 0
        self.trails: list[Trail] = []
        self.known: dict[int, tuple[Atoms, ...]] = {}
        """Look of a message → its atoms, one tuple for each thing said."""
        self.systems: set[int] = set()
        self.counts: dict[Any, int] = {}
        """KEYED atom → how often it is recorded."""
        self.result_texts: dict[Any, set[int]] = {}
        self.calls_by_id: dict[str, int] = {}
        self.call_names: dict[str, str | None] = {}
        self.unnamed_calls: dict[str | None, int] = {}
        """Tool name → calls that were recorded without an id."""
        self.keyed_threads: dict[Any, int] = {}
        self.texts: list[int] = []
        self.spoken: list[Spoken] = []
        """Parallel to `texts`."""
        self.replies = 0
        """How many of them are an assistant's."""
        self.answers: dict[str, int] = {}
        """Provider's answer id → its thread."""
        self.failed_looks: list[int] | None = None
        """The request of the last call, if that failed."""
        self.failed: set[tuple[str, tuple[int, ...]]] = set()
        """Failed calls that named what they continue; a retry of one brings nothing new."""

    def continued(self, looks: list[int]) -> Trail | None:
        """Find the trail that these looks extend, the longest if several do."""
        best: Trail | None = None
        for trail in reversed(self.trails):
            length = len(trail.looks)
            longer = length <= len(looks) and (best is None or length > len(best.looks))
            if longer and trail.looks == (looks if length == len(looks) else looks[:length]):
                best = trail
        return best

    def keep(self, trail: Trail, instead_of: Trail | None) -> None:
        """Remember a trail as the newest one."""
        if instead_of is not None:
            self.trails.remove(instead_of)
        self.trails.append(trail)
        if len(self.trails) > MAX_TRAILS:
            del self.trails[0]

    def add(self, said: Said, atoms: Atoms, number: int, thread: int) -> None:
        """Note that these atoms of a message are recorded now."""
        for atom in atoms:
            if atom.kind == SYSTEM:
                self.systems.add(atom.key)
            elif atom.kind == KEYED:
                self._add_keyed(said, atom.key, thread)
            else:
                assistant = atom.kind == REPLY
                self.replies += assistant
                self.texts.append(atom.key)
                self.spoken.append(Spoken(number, thread, assistant, said.text if assistant else None, self.version))

    def _add_keyed(self, said: Said, key: Any, thread: int) -> None:
        self.counts[key] = self.counts.get(key, 0) + 1
        self.keyed_threads[key] = thread
        kind, identity, *rest = key
        if kind == "result":
            self.result_texts.setdefault(key, set()).add(hash(said.text))
        elif kind == "call" and identity is None:
            self.unnamed_calls[rest[0]] = self.unnamed_calls.get(rest[0], 0) + 1
        elif kind == "call":
            self.calls_by_id[identity] = self.calls_by_id.get(identity, 0) + 1
            self.call_names[identity] = rest[0]
