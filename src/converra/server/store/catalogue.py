"""Finds conversations by what they are about: filters, full-text search, and the choices that filters offer."""

from __future__ import annotations

import heapq
from contextlib import closing
from datetime import datetime, timedelta
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


SORTS = {
    "updated": "updated_at DESC, number DESC",
    "turns": "messages DESC, number DESC",
    "tokens": "tokens_in + tokens_out DESC, number DESC",
    "latency": "latency_ms DESC, number DESC",
}
"""Orders of a list, each with an index. Otherwise the newest come first."""

_NEWEST = "number DESC"


READ = 10_000
"""Messages with the words that are read to count conversations, once the page is full."""


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
    since: str = ""
    """A day, as YYYY-MM-DD in the local time zone: only those with a turn on it or later."""
    until: str = ""
    """A day: only those without a later turn."""
    sort: str = ""
    """One of `SORTS`."""

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
        """Those that are asked for, newest first or as `filters.sort` says."""
        where, values = _conditions(filters)
        order = SORTS.get(filters.sort)
        if filters.q.strip():
            return self._searched(filters.q.strip(), Asked(self._numbers(where, values)), order, offset, limit)
        ((total,),) = self._store.rows(f"SELECT count(*) FROM conversations WHERE {where}", values)  # noqa: S608 - literals
        numbers = self._store.rows(
            f"SELECT number FROM conversations WHERE {where} ORDER BY {order or _NEWEST} LIMIT ? OFFSET ?",  # noqa: S608 - literals
            (*values, limit, offset),
        )
        return Page(self.numbered([number for (number,) in numbers]), total, {})

    def numbers(self, filters: Filters) -> list[int]:
        """Return the numbers of all that are asked for, however many, newest first."""
        where, values = _conditions(filters)
        q = filters.q.strip()
        if q:
            return [number for number, _ in self._hits(q, Asked(self._numbers(where, values)))]
        rows = self._store.rows(f"SELECT number FROM conversations WHERE {where} ORDER BY {_NEWEST}", values)  # noqa: S608 - literals
        return [number for (number,) in rows]

    def _searched(self, q: str, asked: Asked, order: str | None, offset: int, limit: int) -> Page:
        """Only as far as the page, and a little further to count; in another `order` those that are counted."""
        full = offset + limit
        most = COUNTED if order else max(COUNTED, full)
        found: dict[int, int] = {}
        more = False
        with closing(self._hits(q, asked)) as hits:
            for number, place in hits:
                more = len(found) >= (most if asked.hits < READ else min(full, most))
                if more:
                    break
                found[number] = place
        numbers = list(found)
        if order:
            marks = ",".join("?" * len(numbers))
            sql = f"SELECT number FROM conversations WHERE number IN ({marks}) ORDER BY {order}"  # noqa: S608 - literals
            numbers = [number for (number,) in self._store.rows(sql, numbers)]
        shown = numbers[offset : offset + limit]
        places = {number: place for number in shown if (place := found[number])}
        return Page(self.numbered(shown), len(numbers), places, more=more)

    def numbered(self, numbers: Sequence[int]) -> list[Conversation]:
        """Return the conversations of some numbers, without those that are gone."""
        rows = (self._store.rows("SELECT * FROM conversations WHERE number = ?", (number,)) for number in numbers)
        return [conversation(found[0]) for found in rows if found]

    def _numbers(self, where: str, values: Sequence[Any]) -> list[int] | None:
        """Return the conversations that other filters let through; None for all."""
        if where == _EVERYTHING:
            return None
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
        ((content, tool_calls),) = self._store.rows("SELECT content, calls FROM messages WHERE number = ?", (place,))
        return f"{content} {tool_calls}".strip()

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

    def ids(self, part: str, limit: int) -> list[str]:
        """Return the newest ids that begin or end with a part; a prefix such as `conv_` may be left out of it."""
        rows = self._store.rows(
            "SELECT id FROM conversations WHERE substr(id, 1, length(?1)) = ?1 OR substr(id, -length(?1)) = ?1"
            " OR substr(id, instr(id, '_') + 1, length(?1)) = ?1 ORDER BY number DESC LIMIT ?2",
            (part, limit),
        )
        return [each for (each,) in rows]

    def neighbours(self, number: int) -> tuple[str | None, str | None]:
        """Return the ids of the conversations before and after one in the list, which begins with the newest."""
        newer = self._store.rows("SELECT id FROM conversations WHERE number > ? ORDER BY number LIMIT 1", (number,))
        older = self._store.rows(
            "SELECT id FROM conversations WHERE number < ? ORDER BY number DESC LIMIT 1", (number,)
        )
        return (newer[0][0] if newer else None, older[0][0] if older else None)

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


def _conditions(filters: Filters) -> tuple[str, list[Any]]:
    """Return the WHERE clause of the filters other than the search, and its values."""
    terms = list(_terms(filters))
    return " AND ".join([_EVERYTHING, *(term for term, _ in terms)]), [value for _, given in terms for value in given]


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
    if (since := _midnight(filters.since)) is not None:
        yield "updated_at >= ?", (since,)
    if (until := _midnight(filters.until, days=1)) is not None:
        yield "updated_at < ?", (until,)
    if filters.insights:
        yield f"completed_at IS {'NOT ' * (filters.insights == 'yes')}NULL", ()


def _midnight(day: str, *, days: int = 0) -> int | None:
    """Return the beginning of a local day, `days` later, in milliseconds since the epoch; None for no day."""
    if not day:
        return None
    try:
        moment = datetime.fromisoformat(day) + timedelta(days=days)
        return int(moment.astimezone().timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        return None
