"""Where the local server keeps what it was sent: one SQLite file, readable by its owner only.

The API key itself is never stored: an account is known by the fingerprint of its key.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec

from converra.server.api.details import take
from converra.server.store import records
from converra.server.store.catalogue import Catalogue, words_of_calls
from converra.server.store.changes import ELSEWHERE, Changes
from converra.server.store.database import connect
from converra.server.store.pruning import Pruning
from converra.server.store.readers import Readers
from converra.server.store.request_log import RequestLog
from converra.server.store.search import PLACE_BITS
from converra.server.store.totals import together, total
from converra.wire.details import put_back

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from converra.server.store.records import Conversation, NewConversation

KEY_LIFETIME_MS = 24 * 60 * 60 * 1000
"""API document, "Idempotency": keys expire after 24 hours."""

_PRUNE_EVERY = 256


class Store:
    """Conversations, messages and idempotency keys. Any thread may use it.

    `path` may be ":memory:". `clock` gives seconds since the epoch. `keep_conversations` is how many stay, the newest;
    `keep_days` how long one stays after its last message; `keep_requests` bounds the request log. None: no bound.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] = ":memory:",
        *,
        clock: Callable[[], float] = time.time,
        keep_conversations: int | None = None,
        keep_days: float | None = None,
        keep_requests: int = 10_000,
    ) -> None:
        self.path: str = os.fspath(path)
        self._clock = clock
        self._lock = threading.RLock()
        self._touched: set[str] = set()
        self._db = connect(self.path)
        self._readers = Readers(self.path)
        self.changes: Changes = Changes()
        """Tells what is written here, once it is there for all to read."""
        self.log: RequestLog = RequestLog(self, keep=keep_requests)
        """The requests as they were received."""
        self.catalogue: Catalogue = Catalogue(self)
        """The conversations by what they are about."""
        self.pruning: Pruning = Pruning(self, conversations=keep_conversations, days=keep_days)
        """Happens in the background: once the server runs, and as conversations come in."""
        self._version = self._data_version()

    def close(self) -> None:
        """Close the file. The store cannot be used afterwards."""
        self.pruning.stop()
        self._readers.close()
        with self._lock:
            self._db.close()

    def reading(self) -> AbstractContextManager[None]:
        """Have the current thread read through a connection of its own, so that it never waits for a writer."""
        return self._readers.lent()

    def now(self) -> int:
        """The store's clock, in milliseconds."""
        return int(self._clock() * 1000)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, and alone: what is read inside cannot change before the end. They nest."""
        with self._lock:
            if self._db.in_transaction:
                yield
                return
            self._touched = set()
            self._db.execute("BEGIN IMMEDIATE")
            with self._db:  # commits, or rolls back for any exception
                yield
            if self._touched:  # pruning mostly finds nothing to delete
                self.changes.publish(self._touched)

    def touch(self, topics: Collection[str]) -> None:
        """Collect the topics that the current transaction changes; outside of one, listeners are notified at once."""
        with self._lock:
            if self._db.in_transaction:
                self._touched.update(topics)
            else:
                self.changes.publish(topics)

    def poll_changes(self) -> None:
        """Publish a change that another process has written to the file since the last poll."""
        version = self._data_version()
        if version != self._version:
            self._version = version
            self.changes.publish((ELSEWHERE,))

    # conversations

    def create(self, new: NewConversation) -> Conversation:
        """Store a conversation with its first messages."""
        now = self.now()
        row = (new.id, new.account, new.prompt_id, new.status, new.llm_model, new.company_name, new.title, new.content)
        ended = now if new.status == "completed" else None
        with self.transaction():
            number = self.execute(
                "INSERT INTO conversations (id, account, prompt_id, status, llm_model, company_name, title, content,"
                " created_at, updated_at, completed_at, metadata, messages, tokens_in, tokens_out, calls, errors,"
                " models)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '{}', 0, 0, 0, 0, 0, '[]')",
                (*row, now, now, ended),
            ).lastrowid
            made = self._by_number(number)
            self._extend(made, new.messages, new.metadata, now)
            if made.number % _PRUNE_EVERY == 0:
                self.pruning.start()
            return self._by_number(number)

    def append(
        self,
        conversation: Conversation,
        messages: Sequence[Mapping[str, Any]],
        *,
        metadata: Mapping[str, Any],
        end: bool,
    ) -> Conversation:
        """Add messages, shallow-merge metadata and, with `end`, complete the conversation."""
        now = self.now()
        with self.transaction():
            self.execute(
                "UPDATE conversations SET content = NULL, updated_at = ?,"
                " status = CASE WHEN ? THEN 'completed' ELSE status END,"
                " completed_at = CASE WHEN ? THEN ? ELSE completed_at END WHERE number = ?",
                (now, end, end, now, conversation.number),
            )
            self._extend(self._by_number(conversation.number), messages, metadata, now)
            return self._by_number(conversation.number)

    def entitle(self, conversation: Conversation, title: str) -> Conversation:
        """Give it another title, where it is another."""
        if title == conversation.title:
            return conversation
        self.execute("UPDATE conversations SET title = ? WHERE number = ?", (title, conversation.number))
        return self._by_number(conversation.number)

    def _extend(
        self, held: Conversation, messages: Sequence[Mapping[str, Any]], metadata: Mapping[str, Any], now: int
    ) -> None:
        """Put messages and metadata to what is held, and keep the totals true."""
        first = (held.number << PLACE_BITS) + held.totals.messages
        whole = messages if held.totals.messages else put_back(messages, take(metadata).details)
        self._db.executemany(
            "INSERT INTO messages (number, conversation, role, content, calls, rest, received_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                (number, held.number, message["role"], message["content"], words_of_calls(full), _rest(message), now)
                for number, (message, full) in enumerate(zip(messages, whole, strict=True), first)
            ),
        )
        merged = {**held.sent_metadata, **metadata}
        session = merged.get("sessionId") if isinstance(merged.get("sessionId"), str) else None
        sums = together(held.totals, total(whole))
        self.execute(
            "UPDATE conversations SET metadata = ?, session_id = ?, messages = ?, tokens_in = ?, tokens_out = ?,"
            " latency_ms = ?, calls = ?, errors = ?, models = ? WHERE number = ?",
            (_encode(merged), session, *sums[:6], _encode(sums.models), held.number),
        )
        self._db.executemany(
            "INSERT OR IGNORE INTO conversation_models (model, conversation) VALUES (?, ?)",
            ((model, held.number) for model in sums.models),
        )
        self.touch((held.id,))

    def prune(self) -> None:
        """Forget the conversations that are too many or too old, and the keys that have expired."""
        self.pruning.run()

    def find(self, account: str | None, conversation_id: str) -> Conversation | None:
        """An account's conversation; None when there is none of this id or it is another account's. None: anybody's."""
        where, values = _where(id=conversation_id, account=account)
        return self._first(f"SELECT * FROM conversations WHERE {where}", values)  # noqa: S608 - `where` is made of literals

    def messages(self, conversation: Conversation) -> list[dict[str, Any]]:
        """The messages of a conversation in order, with the details that its create has sent beside them."""
        return put_back(self.sent(conversation), conversation.details)

    def sent(self, conversation: Conversation) -> list[dict[str, Any]]:
        """The messages of a conversation in order, field for field as they were sent."""
        rows = self.rows(
            "SELECT role, content, rest FROM messages WHERE conversation = ? ORDER BY number", (conversation.number,)
        )
        return [{"role": role, "content": content, **msgspec.json.decode(rest)} for role, content, rest in rows]

    def received(self, conversation: Conversation) -> list[int]:
        """When each of its messages arrived, in milliseconds since the epoch."""
        rows = self.rows(
            "SELECT received_at FROM messages WHERE conversation = ? ORDER BY number", (conversation.number,)
        )
        return [at for (at,) in rows]

    def conversations(
        self,
        *,
        account: str | None = None,
        prompt_id: str | None = None,
        status: str | None = None,
        completed: bool | None = None,
        limit: int = 20,
        offset: int = 0,
    ) -> tuple[list[Conversation], int]:
        """A page of conversations, newest first, and how many there are in all. `account=None`: of every account."""
        where, values = _where(account=account, prompt_id=prompt_id, status=status)
        if completed is not None:
            where += f" AND completed_at IS {'NOT ' * completed}NULL"
        number = self.rows(f"SELECT count(*) FROM conversations WHERE {where}", values)[0][0]  # noqa: S608 - `where` is made of literals
        rows = self.rows(
            f"SELECT * FROM conversations WHERE {where} ORDER BY number DESC LIMIT ? OFFSET ?",  # noqa: S608 - as above
            (*values, limit, offset),
        )
        return [records.conversation(row) for row in rows], number

    # idempotency keys

    def keyed(self, account: str, key: str) -> Conversation | None:
        """The conversation that was created with this key in the last 24 hours."""
        return self._first(
            "SELECT c.* FROM conversations c JOIN idempotency_keys k ON k.conversation = c.number"
            " WHERE k.account = ? AND k.key = ? AND k.expires_at > ?",
            (account, key, self.now()),
        )

    def remember_key(self, account: str, key: str, conversation: Conversation) -> None:
        """From now on for 24 hours this key stands for this conversation."""
        self.execute(
            "INSERT OR REPLACE INTO idempotency_keys (account, key, conversation, expires_at) VALUES (?, ?, ?, ?)",
            (account, key, conversation.number, self.now() + KEY_LIFETIME_MS),
        )

    # SQLite, for the parts of the store too

    def execute(self, sql: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run a statement that writes."""
        with self._lock:
            return self._db.execute(sql, values)

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows of a query."""
        reader = self._readers.mine
        if reader is not None:
            return reader.execute(sql, values).fetchall()
        with self._lock:
            return self._db.execute(sql, values).fetchall()

    def each(self, sql: str, values: Sequence[Any] = ()) -> Generator[Any]:
        """The rows of a query one by one, for those who stop early: it is to be closed then."""
        reader = self._readers.mine
        with (
            contextlib.nullcontext() if reader else self._lock,
            contextlib.closing((reader or self._db).execute(sql, values)) as cursor,
        ):
            yield from cursor

    def _data_version(self) -> int:
        return int(self.rows("PRAGMA data_version")[0][0])

    def _first(self, sql: str, values: Sequence[Any]) -> Conversation | None:
        rows = self.rows(sql, values)
        return records.conversation(rows[0]) if rows else None

    def _by_number(self, number: int | None) -> Conversation:
        return records.conversation(self.rows("SELECT * FROM conversations WHERE number = ?", (number,))[0])


def _where(**columns: str | None) -> tuple[str, list[str]]:
    given = {name: value for name, value in columns.items() if value is not None}
    return " AND ".join(["1", *(f"{name} = ?" for name in given)]), list(given.values())


def _rest(message: Mapping[str, Any]) -> str:
    return _encode({name: value for name, value in message.items() if name not in ("role", "content")})


def _encode(value: Any) -> str:
    return msgspec.json.encode(value).decode()
