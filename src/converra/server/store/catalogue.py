"""Finds conversations by what they are about: filters, full-text search, and the choices that filters offer."""

from __future__ import annotations

import heapq
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from converra.server.store import search
from converra.server.store.records import conversation
from converra.server.store.search import Asked
from converra.server.store.totals import calls

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from converra.server.store.database import Database
    from converra.server.store.records import Conversation

_CHOICES = 100
_EVERYTHING = "1"
NO_WORDS = '""'
"""Matches nothing."""

COUNTED = 500
"""Hits of a search that are counted; beyond, the page only says that there are more."""


class Filters(NamedTuple):
    """Filters of a conversation list; an empty text does not filter."""

    q: str = ""
    """Words that all stand in one message, the last of them perhaps unfinished; or a conversation's or session's id."""
    status: str = ""
    prompt: str = ""
    model: str = ""
    session: str = ""
    insights: str = ""
    """`yes` or `no`."""
    errors: str = ""
    """Anything: only those with errors."""

    def given(self) -> dict[str, str]:
        """Those that ask for something."""
        return {name: value for name, value in self._asdict().items() if value}


class Page(NamedTuple):
    """A page of conversations."""

    conversations: list[Conversation]
    total: int
    """Number of all hits."""
    places: dict[int, int]
    """The first message with the words that were looked for, by the number of the conversation."""
    more: bool = False
    """There are more than `total`."""


class Catalogue:
    """The conversations of one store."""

    def __init__(self, store: Database) -> None:
        self._store = store

    def page(self, filters: Filters, *, limit: int, offset: int = 0) -> Page:
        """Those that are asked for, newest first."""
        terms = list(_terms(filters))
        where = " AND ".join([_EVERYTHING, *(term for term, _ in terms)])
        values = [value for _, given in terms for value in given]
        if filters.q.strip():
            return self._searched(filters.q.strip(), where, values, offset, limit)
        found = f"FROM conversations WHERE {where}"
        ((total,),) = self._store.rows(f"SELECT count(*) {found}", values)
        rows = self._store.rows(f"SELECT * {found} ORDER BY number DESC LIMIT ? OFFSET ?", (*values, limit, offset))
        return Page([conversation(row) for row in rows], total, {})

    def _searched(self, q: str, where: str, values: Sequence[Any], offset: int, limit: int) -> Page:
        """Only as far as the page, and a little further to count; with filters, among what they let through."""
        asked = Asked(None if where == _EVERYTHING else self._numbers(where, values))
        most = max(COUNTED, offset + limit) + 1
        with closing(self._hits(q, asked)) as hits:
            found = dict(islice(hits, most))
        shown = list(found)[offset : offset + limit]
        rows = [self._store.rows("SELECT * FROM conversations WHERE number = ?", (number,))[0] for number in shown]
        places = {number: place for number in shown if (place := found[number])}
        return Page([conversation(row) for row in rows], min(len(found), most - 1), places, more=len(found) == most)

    def _numbers(self, where: str, values: Sequence[Any]) -> list[int]:
        rows = self._store.rows(f"SELECT number FROM conversations WHERE {where} ORDER BY number", values)  # noqa: S608 - literals
        return [number for (number,) in rows]

    def _hits(self, q: str, asked: Asked) -> Generator[tuple[int, int]]:
        """Numbers and places, newest first; place 0 where only the name of a conversation or session was found."""
        words = match(q)
        named = self._store.rows(
            "SELECT number FROM conversations WHERE id = ? OR session_id = ? ORDER BY number DESC", (q, q)
        )
        by_name = [(number, 0) for (number,) in named if number in asked]
        with closing(search.conversations(self._store, words or NO_WORDS, asked)) as by_words:
            last = 0
            for number, place in heapq.merge(by_words, by_name, key=_newest_first):
                if number != last:
                    last = number
                    yield number, place

    def said(self, place: int) -> str:
        """The words of a message that the search found: its content, or else its tool calls."""
        ((content, calls),) = self._store.rows("SELECT content, calls FROM messages WHERE number = ?", (place,))
        return f"{content} {calls}".strip()

    def prompts(self) -> list[str]:
        """The prompts there are."""
        return self._names("SELECT DISTINCT prompt_id FROM conversations ORDER BY prompt_id LIMIT ?")

    def models(self) -> list[str]:
        """The models that answered."""
        return self._names("SELECT DISTINCT model FROM conversation_models ORDER BY model LIMIT ?")

    def continuations(self, conversation_id: str) -> list[str]:
        """The conversations that go on where this one was full."""
        return self._names(
            "SELECT id FROM conversations WHERE json_extract(metadata, '$.continues') = ? ORDER BY number LIMIT ?",
            conversation_id,
        )

    def of_session(self, session_id: str) -> int:
        """Count the conversations of a session."""
        ((count,),) = self._store.rows("SELECT count(*) FROM conversations WHERE session_id = ?", (session_id,))
        return int(count)

    def _names(self, sql: str, *values: str) -> list[str]:
        return [name for (name,) in self._store.rows(sql, (*values, _CHOICES))]


def match(q: str) -> str | None:
    """Translate the search text into the index's query language, with every word quoted."""
    words = [word.replace('"', '""') for word in q.replace("\0", " ").split() if any(map(str.isalnum, word))]
    if not words:
        return None
    unfinished = len(words[-1]) > 1 or not words[-1].isascii()  # one letter begins more words than anybody looks for
    return " ".join(f'"{word}"' for word in words) + "*" * unfinished


def _newest_first(hit: tuple[int, int]) -> int:
    return -hit[0]


def words_of_calls(message: Mapping[str, Any]) -> str:
    """Return the searchable text of tool calls: names, and the arguments of calls."""
    return "\n".join(f"{call.get('name', '')} {_words(call.get('arguments'))}" for call in calls(message))


def _words(arguments: Any) -> str:
    if isinstance(arguments, str):
        return arguments
    return "" if arguments is None else msgspec.json.encode(arguments).decode()


def _terms(filters: Filters) -> Iterator[tuple[str, Sequence[Any]]]:
    for column, value in (
        ("status", filters.status),
        ("prompt_id", filters.prompt),
        ("session_id", filters.session),
    ):
        if value:
            yield f"{column} = ?", (value,)
    if filters.model:
        yield "number IN (SELECT conversation FROM conversation_models WHERE model = ?)", (filters.model,)
    if filters.errors:
        yield "errors > 0", ()
    if filters.insights:
        yield f"completed_at IS {'NOT ' * (filters.insights == 'yes')}NULL", ()
