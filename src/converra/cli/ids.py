"""Ids as people type them: whole, any unique beginning or end, or `last`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NoReturn

from converra.errors import InvalidArgumentError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from converra.server.store.conversations import Store
    from converra.server.store.records import Conversation

LAST = "last"
"""Stands for the newest conversation wherever an id does."""

SHORTEST = 4
"""Characters of the shortest label of a conversation."""

_LISTED = 5
"""Number of ids that an error about an ambiguous one lists."""


def fits(part: str, whole: str) -> bool:
    """Return True if an id begins or ends with the part; its prefix, such as `conv_`, may be left out."""
    return whole.startswith(part) or whole.endswith(part) or _bare(whole).startswith(part)


def label(conversation_id: str, store: Store) -> str:
    """Return the shortest end of an id, of at least four characters, by which a command finds it in this store."""
    ends = (conversation_id[-length:] for length in range(SHORTEST, len(conversation_id)))
    return next((end for end in ends if len(store.catalogue.ids(end, 2)) == 1), conversation_id)


def labels(ids: Sequence[str]) -> list[str]:
    """Return for each id its shortest end, of one length for all, that no other of them begins or ends with."""
    longest = max(map(len, ids), default=0)
    for length in range(SHORTEST, longest):
        found = Counter(part for each in ids for part in {each[:length], each[-length:], _bare(each)[:length]})
        short = [each[-length:] for each in ids]
        if all(found[end] == 1 for end in short):
            return short
    return list(ids)


def _bare(conversation_id: str) -> str:
    """Return an id without its prefix, such as `conv_`."""
    return conversation_id[conversation_id.find("_") + 1 :]


def found_in(store: Store, word: str) -> Conversation:
    """Return the conversation of a store that a word stands for.

    Raises:
        NotFoundError: There is none.
        InvalidArgumentError: There are several.

    """
    if word == LAST:
        newest, _ = store.conversations(limit=1)
        if not newest:
            raise missing("there are no conversations")
        return newest[0]
    found = store.find(None, word)
    if found is None:
        parts = store.catalogue.ids(word, _LISTED + 1) if word else []
        found = store.find(None, only(word, parts)) if parts else None
    if found is None:
        raise missing(f"no conversation {word} in {store.path}")
    return found


def only(word: str, found: Sequence[str]) -> str:
    """Return the one id; InvalidArgumentError with the candidates if there are several."""
    return found[0] if len(found) == 1 else _ambiguous(word, found)


def _ambiguous(word: str, found: Sequence[str]) -> NoReturn:
    more = ", …" if len(found) > _LISTED else ""
    raise InvalidArgumentError(f"{word} is ambiguous: {', '.join(found[:_LISTED])}{more}; type more of the id")


class _MissingError(NotFoundError):
    """No HTTP status: the conversation is missing from a local store."""

    def __str__(self) -> str:
        return self.message


def missing(message: str) -> NotFoundError:
    """Make the error for a missing conversation of a local store."""
    return _MissingError(message, status_code=404)


def matching(word: str, ids: Iterable[str]) -> list[str]:
    """Return the ids that a part fits."""
    return [each for each in ids if fits(word, each)]
