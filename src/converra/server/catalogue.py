"""Finds conversations by what they are about: filters, full-text search, and the choices that filters offer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from converra.server.records import conversation
from converra.server.totals import calls

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from converra.server.records import Conversation
    from converra.server.store import Store

_CHOICES = 100
_HITS = "SELECT rowid >> 20, min(rowid) FROM message_text WHERE message_text MATCH ? GROUP BY 1"


class Filters(NamedTuple):
    """What conversations are asked for; an empty text asks for nothing."""

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
    """How many there are in all."""
    places: dict[int, int]
    """The first message with the words that were looked for, by the number of the conversation."""


class Catalogue:
    """The conversations of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def page(self, filters: Filters, *, limit: int, offset: int = 0) -> Page:
        """Those that are asked for, newest first."""
        terms = list(_terms(filters))
        where = " AND ".join(["1", *(term for term, _ in terms)])
        values = [value for _, given in terms for value in given]
        if filters.q.strip():
            return self._searched(filters.q.strip(), where, values, slice(offset, offset + limit))
        found = f"FROM conversations WHERE {where}"
        ((total,),) = self._store.rows(f"SELECT count(*) {found}", values)
        rows = self._store.rows(f"SELECT * {found} ORDER BY number DESC LIMIT ? OFFSET ?", (*values, limit, offset))
        return Page([conversation(row) for row in rows], total, {})

    def _searched(self, q: str, where: str, values: Sequence[Any], part: slice) -> Page:
        """The index is read through only once, and met with the other terms here: SQLite would join it row by row."""
        words = match(q)
        hits = dict(self._store.rows(_HITS, (words,))) if words else {}
        named = self._store.rows("SELECT number FROM conversations WHERE id = ? OR session_id = ?", (q, q))
        asked = {*hits, *(number for (number,) in named)}
        numbers = self._store.rows(f"SELECT number FROM conversations WHERE {where} ORDER BY number DESC", values)  # noqa: S608 - literals
        matching = [number for (number,) in numbers if number in asked]
        rows = [
            self._store.rows("SELECT * FROM conversations WHERE number = ?", (number,))[0] for number in matching[part]
        ]
        return Page(
            [conversation(row) for row in rows], len(matching), {at: hits[at] for at in matching[part] if at in hits}
        )

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
        """How many conversations a session has."""
        ((count,),) = self._store.rows("SELECT count(*) FROM conversations WHERE session_id = ?", (session_id,))
        return int(count)

    def _names(self, sql: str, *values: str) -> list[str]:
        return [name for (name,) in self._store.rows(sql, (*values, _CHOICES))]


def match(q: str) -> str | None:
    """What is looked for in the language of the index: no word of it can be taken for an operator."""
    words = [word.replace('"', '""') for word in q.replace("\0", " ").split() if any(map(str.isalnum, word))]
    return " ".join(f'"{word}"' for word in words) + "*" if words else None


def words_of_calls(message: Mapping[str, Any]) -> str:
    """What the search finds of tool calls: their names, and the arguments of those that are made."""
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
