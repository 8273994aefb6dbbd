"""Where the local server keeps what it was sent: one SQLite file, readable by its owner only.

The API key itself is never stored: an account is known by the fingerprint of its key.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from converra.server.records import Conversation, LoggedRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from converra.server.records import NewConversation

SCHEMA_VERSION = 1
KEY_LIFETIME_MS = 24 * 60 * 60 * 1000
"""API document, "Idempotency": keys expire after 24 hours."""

_LOGGED_BODY_BYTES = 1024 * 1024
_PRUNE_EVERY = 256


class StoreError(Exception):
    """The file cannot be used; the message says why."""


class Store:
    """Conversations, messages, idempotency keys and the request log. Any thread may use it.

    `path` may be ":memory:". `clock` gives seconds since the epoch. `keep_requests` bounds the request log.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] = ":memory:",
        *,
        clock: Callable[[], float] = time.time,
        keep_requests: int = 10_000,
    ) -> None:
        self.path = os.fspath(path)
        self._clock = clock
        self._keep_requests = keep_requests
        self._lock = threading.RLock()
        self._db = _connect(self.path)

    def close(self) -> None:
        """Close the file. The store cannot be used afterwards."""
        with self._lock:
            self._db.close()

    def now(self) -> int:
        """The store's clock, in milliseconds."""
        return int(self._clock() * 1000)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, and alone: what is read inside cannot change before the end."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            with self._db:  # commits, or rolls back for any exception
                yield

    # conversations

    def create(self, new: NewConversation) -> Conversation:
        """Store a conversation with its first messages."""
        now = self.now()
        row = (new.id, new.account, new.prompt_id, new.status, new.llm_model, new.company_name, new.title, new.content)
        ended = now if new.status == "completed" else None
        number = self._execute(
            "INSERT INTO conversations (id, account, prompt_id, status, llm_model, company_name, title, content,"
            " metadata, created_at, updated_at, completed_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*row, _encode(new.metadata), now, now, ended),
        ).lastrowid
        self._add_messages(number, new.messages, now)
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
        self._add_messages(conversation.number, messages, now)
        self._execute(
            "UPDATE conversations SET content = NULL, metadata = ?, updated_at = ?,"
            " status = CASE WHEN ? THEN 'completed' ELSE status END,"
            " completed_at = CASE WHEN ? THEN ? ELSE completed_at END WHERE number = ?",
            (_encode({**conversation.metadata, **metadata}), now, end, end, now, conversation.number),
        )
        return self._by_number(conversation.number)

    def find(self, account: str | None, conversation_id: str) -> Conversation | None:
        """An account's conversation; None when there is none of this id or it is another account's. None: anybody's."""
        where, values = _where(id=conversation_id, account=account)
        return self._first(f"SELECT * FROM conversations WHERE {where}", values)  # noqa: S608 - `where` is made of literals

    def messages(self, conversation: Conversation) -> list[dict[str, Any]]:
        """The messages of a conversation in order, field for field as they were sent."""
        rows = self._all(
            "SELECT role, content, rest FROM messages WHERE conversation = ? ORDER BY number", (conversation.number,)
        )
        return [{"role": role, "content": content, **_decode(rest)} for role, content, rest in rows]

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
        total = self._all(f"SELECT count(*) FROM conversations WHERE {where}", values)[0][0]  # noqa: S608 - `where` is made of literals
        rows = self._all(
            f"SELECT * FROM conversations WHERE {where} ORDER BY number DESC LIMIT ? OFFSET ?",  # noqa: S608 - as above
            (*values, limit, offset),
        )
        return [_conversation(row) for row in rows], total

    def _add_messages(self, number: int | None, messages: Sequence[Mapping[str, Any]], now: int) -> None:
        rows = ((number, message["role"], message["content"], _encode(_rest(message)), now) for message in messages)
        with self._lock:
            self._db.executemany(
                "INSERT INTO messages (conversation, role, content, rest, received_at) VALUES (?, ?, ?, ?, ?)", rows
            )

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
        self._execute(
            "INSERT OR REPLACE INTO idempotency_keys (account, key, conversation, expires_at) VALUES (?, ?, ?, ?)",
            (account, key, conversation.number, self.now() + KEY_LIFETIME_MS),
        )

    # request log

    def log_request(
        self, *, account: str | None, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> int:
        """Write down a request as it arrives; the number is for `log_answer`."""
        kept = body[:_LOGGED_BODY_BYTES]
        number = self._execute(
            "INSERT INTO requests (received_at, account, method, path, headers, body, body_bytes)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (self.now(), account, method, path, _encode(headers), kept, len(body)),
        ).lastrowid
        assert number is not None  # noqa: S101 - an INSERT has a row id
        if number % _PRUNE_EVERY == 0:
            self._execute("DELETE FROM requests WHERE number <= ?", (number - self._keep_requests,))
        return number

    def log_answer(self, number: int, *, status: int | None, ms: float, answer_bytes: int) -> None:
        """Write down how a request was answered."""
        self._execute(
            "UPDATE requests SET status = ?, ms = ?, answer_bytes = ? WHERE number = ?",
            (status, ms, answer_bytes, number),
        )

    def requests(self, *, limit: int = -1) -> list[LoggedRequest]:
        """The request log, oldest first; with a limit, its newest part."""
        rows = self._all("SELECT * FROM requests ORDER BY number DESC LIMIT ?", (limit,))
        return [LoggedRequest._make((*row[:5], _decode(row[5]), *row[6:])) for row in reversed(rows)]

    # SQLite

    def _execute(self, sql: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        with self._lock:
            return self._db.execute(sql, values)

    def _all(self, sql: str, values: Sequence[Any]) -> list[Any]:
        with self._lock:
            return self._db.execute(sql, values).fetchall()

    def _first(self, sql: str, values: Sequence[Any]) -> Conversation | None:
        rows = self._all(sql, values)
        return _conversation(rows[0]) if rows else None

    def _by_number(self, number: int | None) -> Conversation:
        return _conversation(self._all("SELECT * FROM conversations WHERE number = ?", (number,))[0])


def _connect(path: str) -> sqlite3.Connection:
    """Open or make the file; StoreError where that is impossible."""
    try:
        if path != ":memory:":
            _keep_private(path)
        with contextlib.ExitStack() as on_failure:
            db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            on_failure.callback(db.close)
            _prepare(db)
            on_failure.pop_all()
    except (OSError, sqlite3.Error, StoreError) as error:
        raise StoreError(f"cannot use {path}: {error}") from error
    return db


def _keep_private(path: str) -> None:
    """The owner's alone, also where the file was there before and open to others."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    Path(path).chmod(0o600)


def _prepare(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA foreign_keys = ON")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version == 0:
        schema = files("converra.server").joinpath("schema.sql").read_text("utf-8")
        db.executescript(f"BEGIN; {schema}; PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
    elif version != SCHEMA_VERSION:
        raise StoreError(
            f"it has schema version {version} and this version of converra reads {SCHEMA_VERSION}; use another file"
        )


def _where(**columns: str | None) -> tuple[str, list[str]]:
    given = {name: value for name, value in columns.items() if value is not None}
    return " AND ".join(["1", *(f"{name} = ?" for name in given)]), list(given.values())


def _conversation(row: Sequence[Any]) -> Conversation:
    return Conversation._make((*row[:9], _decode(row[9]), *row[10:]))


def _rest(message: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name not in ("role", "content")}


def _encode(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _decode(text: str) -> Any:
    return msgspec.json.decode(text)
