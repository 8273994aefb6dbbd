"""Alignment of a request with the record of its conversation: which of its messages are recorded already.

Chat APIs are stateless, so an app resends the history with each call. It may resend it unchanged, as a window, with a
summary in place of the beginning, with edits, or in another order. The record holds hashes of what was recorded. These
rules decide what a request repeats (*old*); everything else is new. Each rule applies to what the ones before it left
undecided.

===================  ==========================================================================================
part of the request  old if
===================  ==========================================================================================
unchanged prefix     its fingerprints are those of an earlier request: nothing in it is looked at again. This is
                     the common case, and costs one comparison of lists
system text          it was recorded before, anywhere in the conversation
tool call            its id and name were recorded at least as often as the request has them; without an id, its
                     name and arguments. A call that was recorded without an id may come back with an invented one
tool result          the same, by the id of its call; a reused id with another text is another result (see `fold`)
rewritten ids        a call of an unknown id is a recorded call of the same tool whose id is not resent: frameworks
                     rewrite ids for another provider. It is old before an old text; behind the last one, only if
                     that call has no result yet
texts that follow    they are the texts that were recorded right after the prefix, in order
run at the end       they are the last texts of the record: a window. The texts after the run are new, even if they
                     repeat something: a user may say "yes" again
other texts          they are in the longest common subsequence with the recorded texts. There a reply counts
                     double: an assistant's text identifies a place in the chat better than a user's "yes"
edited replies       a reply between two old texts is a recorded one with other formatting, or with text appended
                     to it, which is new
moved texts          a reply follows in the request, and the text was recorded somewhere: calls ran side by side
===================  ==========================================================================================

A request that names what it continues (`previous_response_id`) resends nothing: all of it is new. If a text before the
last reply is recorded, but not after the prefix, the prefix is given up and the whole request is aligned: chats repeat
texts, and the prefix may have been matched in the wrong place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from converra.history import comparison
from converra.history.record import (
    KEYED,
    REPLY,
    START,
    SYSTEM,
    TEXT,
    MatchKey,
    MatchKeys,
    Record,
    system_key,
    take_snapshot,
)
from converra.history.turn import SourceMessage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from converra.history.record import KnownPrefix, Snapshot
    from converra.history.turn import Request

MAX_EDITED = 8
"""Recorded replies that an edited one is compared with: those next to its neighbours."""

EMPTY_REPLY = SourceMessage(role="assistant")


class Item(msgspec.Struct):
    """One source message of the request: a text with or without tool calls, a tool result, or a system text."""

    index: int
    """Index of its message in the request."""
    part: int
    """Index among the source messages that were read from that message."""
    kind: int
    """Kind of its first match key. From TEXT on, it has a text whose place in the order matters."""
    key: Any
    """Key of its first match key."""
    match_keys: MatchKeys
    old: tuple[bool, ...] = ()
    """For each match key, except that of a text: it is recorded."""
    at: int | None = None
    """Position of its text in the record, if it is recorded."""
    appended: list[str] = []
    """Pieces of text that were appended to a recorded reply."""

    @property
    def is_old(self) -> bool:
        """Report whether all of it is recorded."""
        return (self.kind < TEXT or self.at is not None) and all(self.old)


class Alignment:
    """A request laid beside a record. It records nothing.

    `known_prefix` is the prefix, or None; `items` are the source messages after it, each with what of it is old.
    """

    def __init__(self, record: Record, snapshot: Snapshot) -> None:
        self.record: Record = record
        self.snapshot: Snapshot = snapshot
        self.known_prefix = self._known_prefix() if record.known_prefixes else None
        if not self._align() and self.known_prefix:  # the same texts occur twice, and the prefix is the wrong place
            self.known_prefix = None
            self._align()

    def _known_prefix(self) -> KnownPrefix | None:
        """Find the prefix: the one found when the call began, unless another call has been folded since."""
        snapshot, record = self.snapshot, self.record
        if snapshot.previous is not None:
            return None
        # Identity, not equality, of the lists: another call that extends the prefix replaces its list.
        if (
            snapshot.known_prefix
            and snapshot.version == record.version
            and snapshot.known_prefix.fingerprints is snapshot.prefix
        ):
            return snapshot.known_prefix
        return record.continued(snapshot.fingerprints)[0]

    def _align(self) -> bool:
        """Align all that follows the prefix; return False if the prefix must be given up."""
        self.base: int = self.known_prefix.last + 1 if self.known_prefix else 0
        """Texts before this position are matched by the prefix."""
        self.counts: dict[Any, int] = {}
        """Occurrences of KEYED match keys in the request, after the prefix."""
        self.items: list[Item] = self._items()
        if self.record.texts and not self._match_texts([item for item in self.items if item.kind >= TEXT]):
            return False
        if self.record.keyed.counts and self.snapshot.previous is None:
            self._match_rewritten()
        return True

    def source(self, item: Item) -> SourceMessage:
        """Return the source message of an item; an empty one if the app has changed its message during the call."""
        parts = self.snapshot.source(item.index)
        return parts[item.part] if item.part < len(parts) else EMPTY_REPLY

    def answers(self) -> int:
        """Count the source messages of the request that a recorded call generated."""
        return (self.known_prefix.answers if self.known_prefix else 0) + sum(map(self._is_answer, self.items))

    def _is_answer(self, item: Item) -> bool:
        if item.at is not None and self.record.recorded_texts[item.at].generated:
            return True
        calls = [
            match_key.key for match_key in item.match_keys if match_key.kind == KEYED and match_key.key[0] == "call"
        ]
        return not self.record.keyed.generated.isdisjoint((*calls, *(("unnamed", key[2]) for key in calls)))

    def system(self) -> int | None:
        """Hash the first system text of the request, which tells a side call from a new question; None without one."""
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
        """Count a match key whose order does not matter (SYSTEM, KEYED); return True if it is recorded."""
        if match_key.kind == SYSTEM:
            return match_key.key in self.record.systems
        if self.snapshot.previous is not None:  # nothing is resent, so an equal call is another call
            return False
        return self._count(match_key.key) or self._invented_id(match_key.key)

    def accounts_for(self, key: Any) -> bool:
        """Report whether the record has a KEYED match key at least as often as the request so far."""
        before = self.known_prefix.counts.get(key, 0) if self.known_prefix else 0
        return before + self.counts.get(key, 0) <= self.record.keyed.counts.get(key, 0)

    def _items(self) -> list[Item]:
        items, snapshot, record = [], self.snapshot, self.record
        for index in range(len(self.known_prefix.fingerprints) if self.known_prefix else 0, len(snapshot.fingerprints)):
            for part, match_keys in enumerate(snapshot.match_keys(index, record)):
                kind, key = match_keys[0]
                unordered = match_keys[1:] if kind >= TEXT else match_keys
                old = tuple(map(self.is_old, unordered)) if unordered else ()
                items.append(Item(index, part, kind, key, match_keys, old))
        return items

    def _count(self, key: Any) -> bool:
        """Count an occurrence; it is old if at least as many are recorded."""
        self.counts[key] = self.counts.get(key, 0) + 1
        return self.accounts_for(key)

    def _invented_id(self, key: Any) -> bool:
        """Report whether a call was recorded without the id that a framework has invented for it since."""
        return key[0] == "call" and key[1] is not None and self._count(("unnamed", key[2]))

    # -- rewritten ids -------------------------------------------------------------------------------------------

    def _match_rewritten(self) -> None:
        """Match the calls whose ids a framework has rewritten, and their results."""
        if not any(self._is_unknown(key) for item in self.items for key in item.match_keys):
            return
        resent = self.counts.keys() | (self.known_prefix.counts.keys() if self.known_prefix else set())
        missing = [key for key in self.record.keyed.names.items() if ("call", *key) not in resent]
        last = max((n for n, item in enumerate(self.items) if item.at is not None), default=-1)
        rewritten: set[Any] = set()
        for n, item in enumerate(self.items):
            self._match_calls(item, missing, rewritten, answered=n < last)
        followed = False
        for n in range(len(self.items) - 1, -1, -1):
            item = self.items[n]
            if item.kind == KEYED and item.key[0] == "result":
                if item.key[1] in rewritten and (followed or n < last):
                    item.old = (True,)
            else:
                followed = followed or any(key.kind == KEYED and key.key[1] in rewritten for key in item.match_keys)

    def _is_unknown(self, match_key: MatchKey) -> bool:
        """Report whether this is a call with an id that no recorded call has."""
        kind, key = match_key
        return kind == KEYED and key[0] == "call" and key[1] is not None and key[1] not in self.record.keyed.names

    def _match_calls(
        self, item: Item, missing: list[tuple[str, str | None]], rewritten: set[Any], *, answered: bool
    ) -> None:
        """Match the calls of one message with recorded ones, which are then not missing any more."""
        keys = item.match_keys[1:] if item.kind >= TEXT else item.match_keys
        old = list(item.old)
        for n, match_key in enumerate(keys):
            if not self._is_unknown(match_key):
                continue
            if old[n]:  # it was recorded without an id
                rewritten.add(match_key.key[1])
                continue
            for call in missing:
                if call[1] == match_key.key[2] and (answered or ("result", call[0]) not in self.record.keyed.counts):
                    missing.remove(call)
                    rewritten.add(match_key.key[1])
                    old[n] = True
                    break
        item.old = tuple(old)

    # -- texts ---------------------------------------------------------------------------------------------------

    def _match_texts(self, texts: list[Item]) -> bool:
        """Align the texts of the request with those recorded since the prefix; False if the prefix must be given up."""
        if self.snapshot.previous is not None:
            return True
        start, rest = self._follow(texts) if self.known_prefix else (0, texts)
        latest = self.record.latest
        shared = [item for item in rest if latest.get(item.key, START) >= start]
        # The run first: the longest common subsequence would match a repeated "yes" after a window with the old one.
        if shared and not self._slide(rest, start):
            self._subsequence(shared, start)
        followed_by_reply = False
        for item in reversed(rest):
            followed_by_reply = followed_by_reply or item.kind == REPLY
            if followed_by_reply and item.at is None:
                return self._match_loosely(rest, start)
        return True

    def _match_loosely(self, texts: list[Item], start: int) -> bool:
        """Match the texts before the last reply as edited or moved; False if a shorter prefix may match them better."""
        last_reply = max(n for n, item in enumerate(texts) if item.kind == REPLY)
        displaced = [item for item in texts[: last_reply + 1] if item.at is None and item.key in self.record.latest]
        if displaced and self.known_prefix:
            return False
        self._match_edited(texts, start)
        self._match_moved(displaced, texts)
        return True

    def _follow(self, items: list[Item]) -> tuple[int, list[Item]]:
        """Match the texts that were recorded right after the prefix.

        Returns:
            The position after the last match, and the items that are left.

        """
        at, texts = self.base, self.record.texts
        for n, item in enumerate(items):
            if at == len(texts) or texts[at] != item.key:
                return at, items[n:]
            item.at = at
            at += 1
        return at, []

    def _slide(self, items: list[Item], start: int) -> bool:
        """Match a run that ends where the record ends, as in a window that slides along a chat.

        The texts after the run are new even if they repeat something, unless a recorded reply is among them.
        """
        texts, keys = self.record.texts, [item.key for item in items]
        if texts[-1] not in keys:
            return False
        end = len(keys) - keys[::-1].index(texts[-1])
        first = len(texts) - end
        if first < start or texts[first:] != keys[:end]:
            return False
        if any(item.kind == REPLY and item.key in self.record.latest for item in items[end:]):
            return False
        for at, item in enumerate(items[:end], first):
            item.at = at
        return True

    def _subsequence(self, items: list[Item], start: int) -> None:
        """Match the longest common subsequence of the texts that both the request and the record have."""
        # Only texts that both have: that leaves a few of thousands in a long chat.
        texts, recorded_texts = self.record.texts, self.record.recorded_texts
        keys = {item.key for item in items}
        positions = [at for at in range(start, len(texts)) if texts[at] in keys]
        old, old_at = _weighted((texts[at], recorded_texts[at].assistant) for at in positions)
        new, new_at = _weighted((item.key, item.kind == REPLY) for item in items)
        for j, i in comparison.lcs(old, new).items():
            items[new_at[j]].at = positions[old_at[i]]

    def _match_edited(self, items: list[Item], start: int) -> None:
        """Match the edited replies, each with the recorded replies between its old neighbours."""
        until, before = len(self.record.texts), start
        limits: list[int] = []
        for item in reversed(items):
            limits.append(until)
            until = until if item.at is None else item.at
        for item in items:
            limit = limits.pop()
            if item.at is None and item.kind == REPLY and item.key not in self.record.latest:
                self._edited(item, range(before, limit))
            before = before if item.at is None else item.at + 1

    def _edited(self, item: Item, gap: range) -> None:
        """Match a reply with the first recorded one, among the positions of `gap`, of which it is an edited copy."""
        resent, texts = self.source(item).text, self.record.reply_texts
        half = MAX_EDITED // 2
        for at in gap if len(gap) <= MAX_EDITED else (*gap[:half], *gap[-half:]):
            recorded = texts.get(at)
            rest = None if recorded is None else comparison.appended(recorded, resent)
            if rest is None:
                continue
            item.at = at
            if rest:
                later = gap[at - gap.start + 1 :][:MAX_EDITED]
                item.appended, found = comparison.divided(rest, [(n, texts.get(n, "")) for n in later])
                item.at = max((at, *found))
            return

    def _match_moved(self, displaced: list[Item], items: list[Item]) -> None:
        """Match texts in any order, since a reply follows: calls that ran side by side are recorded as they end."""
        taken, keys = {item.at for item in items}, {item.key for item in displaced}
        positions: dict[int, list[int]] = {key: [] for key in keys}
        for at, key in enumerate(self.record.texts):
            if key in keys and at not in taken:
                positions[key].append(at)
        for item in displaced:
            if item.at is None and positions[item.key]:
                item.at = positions[item.key].pop(0)


def _weighted(texts: Iterable[tuple[int, bool]]) -> tuple[list[tuple[int, int]], list[int]]:
    """Write a reply twice, so that it counts double: it identifies its place better than a user's repeated "yes".

    Args:
        texts: Key of each text, and whether it is a reply.

    Returns:
        The keys, and for each of them the index of its text.

    """
    keys: list[tuple[int, int]] = []
    positions: list[int] = []
    for position, (key, is_reply) in enumerate(texts):
        copies = 2 if is_reply else 1
        for copy in range(copies):
            keys.append((key, copy))
            positions.append(position)
    return keys, positions


class Overlap(NamedTuple):
    """Measure of what a request and a record have in common. Fields are compared in order; more is better."""

    shared: int
    """Recorded replies, tool calls and tool results in the request; 0 if no recorded call generated any of them.

    So chats that only open with the same greeting, or the same examples, have nothing in common.
    """
    beyond: int
    """Minus the number of recorded replies that the request does not have."""
    retried: bool
    """The request is the one that failed last."""


def overlap(record: Record, request: Request, fingerprints: list[int]) -> Overlap:
    """Measure how well a request continues a conversation, without recording anything."""
    trial = Alignment(record, take_snapshot(record, request, fingerprints))
    prefix = trial.known_prefix.replies if trial.known_prefix else 0
    old = sum(item.kind in (REPLY, KEYED) and item.is_old for item in trial.items)
    old_replies = sum(item.kind == REPLY and item.at is not None for item in trial.items)
    return Overlap(
        shared=prefix + old if trial.answers() else 0,
        beyond=prefix + old_replies - sum(text.assistant for text in record.recorded_texts),
        retried=record.failed_fingerprints == fingerprints,
    )
