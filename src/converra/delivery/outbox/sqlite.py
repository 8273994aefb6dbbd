"""The durable outbox, a SQLite file: it outlives the process, and the next process delivers what it holds.

Callers write messages through one connection, workers keep the ledger through another, as with the two counters of the
memory outbox. While the file is full, broken or locked, messages wait in memory instead.
"""

from __future__ import annotations

import math
import sqlite3
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import msgspec

from converra.delivery.outbox import schema
from converra.delivery.outbox.ledger import Row
from converra.delivery.outbox.schema import OpenFile, UnusableError
from converra.delivery.protocol.entry import EncodedMessage, entries_of, entry
from converra.process import lifecycle, waits
from converra.process.guard import guard, log_limited
from converra.wire import json_safe
from converra.wire.json_safe import encode
from converra.wire.models import Message

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from converra.delivery.conversation_queue import ConversationQueue
    from converra.delivery.header import Draft
    from converra.delivery.outbox.memory import MemoryOutbox
    from converra.delivery.protocol.progress import Progress

RETRY_FILE_AFTER = 10.0
"""Seconds for which the file is not used after a failure."""

_CLOSING = 0.2
"""Longest wait for a caller that uses the file while it, or a conversation in it, is to be closed, in seconds."""

_DEGRADED = "converra: the outbox %s cannot be used; messages wait in memory meanwhile: %s"


class SQLiteOutbox:
    """The durable outbox at `path`.

    `memory` bounds the messages that are kept in memory besides the file, and takes those that the file cannot.
    """

    recover_every: float = 5.0

    def __init__(self, path: str, memory: MemoryOutbox, *, idle_timeout: float) -> None:
        self._path = path
        self._memory = memory
        self._idle_timeout = idle_timeout
        self._entering = threading.RLock()
        self._opening = threading.RLock()
        self._file: OpenFile | None = None
        self._not_before = 0.0
        lifecycle.pause_at_fork(self)

    @property
    def file(self) -> SQLiteOutbox:
        """Return the outbox itself: all of it is for the file."""
        return self

    @property
    def durable(self) -> bool:
        """Return True unless the file has just failed."""
        return time.monotonic() >= self._not_before

    @property
    def captured(self) -> int:
        """Number of messages recorded."""
        return self._memory.captured

    @property
    def dropped(self) -> int:
        """Number of messages dropped: no room in the file nor in memory."""
        return self._memory.dropped

    @property
    def pending_bytes(self) -> int:
        """Bytes that wait in memory."""
        return self._memory.pending_bytes

    # -- recording -----------------------------------------------------------------------------------------------------

    def put(
        self, queue: ConversationQueue, drafts: Sequence[Draft]
    ) -> Sequence[Sequence[EncodedMessage | Row] | None] | None:
        """Build the messages now, so that redaction comes before the disk, and write them."""
        items = [_made(draft) for draft in drafts]
        written = self._written(queue, [made for item in items for made in item or ()])
        size = sum(draft.size for draft, item in zip(drafts, items, strict=True) if item)
        if written is None:
            return items if self._memory.admit(size, len(drafts)) else None
        rows = iter(written)
        kept = [item and [msgspec.structs.replace(made, row=next(rows)) for made in item] for item in items]
        if self._memory.admit(size, len(drafts), elsewhere=True):
            return kept
        return [item and [Row(made.row, made.whole, made.already_known) for made in item] for item in kept]

    def note(self, queue: ConversationQueue, metadata: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """Write metadata, and the conversation if it is not there yet."""
        plain = json_safe.plain(dict(metadata))
        with self._entering, self._failing():
            file = self._opened()
            if file is not None:
                queue.rows.row = queue.rows.row or self._conversation(file, queue)
                sql = "INSERT INTO note (conversation, body) VALUES (?, ?)"
                return file.front.execute(sql, (queue.rows.row, encode(plain))).lastrowid or 0, plain
        return 0, plain

    def end(self, queue: ConversationQueue, *, always: bool) -> None:
        """Write that a conversation has ended."""
        with self._entering, self._failing():
            file = self._opened()
            if file is not None and queue.rows.row:
                sql = "UPDATE conversation SET ended = 1, always = ? WHERE id = ?"
                file.front.execute(sql, (always, queue.rows.row))

    def _written(self, queue: ConversationQueue, made: Sequence[EncodedMessage]) -> Sequence[int] | None:
        with self._entering, self._failing():
            file = self._opened()
            if file is not None:
                queue.rows.row = queue.rows.row or self._conversation(file, queue)
                return _insert(file.front, queue.rows.row, made)
        return None

    def _conversation(self, file: OpenFile, queue: ConversationQueue) -> int:
        """Write the conversation. Feedback may come when it is delivered and forgotten: the row names it by its id.

        By its key the next process would find it for 24 hours only (API document, "Idempotency").
        """
        header = msgspec.structs.replace(queue.header, metadata=json_safe.plain(queue.header.metadata))
        progress = queue.progress if queue.progress is not None and queue.progress.state.id is not None else None
        state, ended = (None, False) if progress is None else (encode(progress.state), progress.ended)
        row = file.front.execute(
            "INSERT INTO conversation (owner, header, writer, state, ended, touched) VALUES (?, ?, ?, ?, ?, ?)",
            (file.owner, encode(header), queue.writer, state, ended, time.time()),
        ).lastrowid
        return row or 0

    # -- sending -------------------------------------------------------------------------------------------------------

    def entries(self, since: float, item: Sequence[EncodedMessage | Row] | None) -> list[EncodedMessage] | None:
        """Return the messages that were kept in memory, and read the others from the file."""
        if item is None:
            return None
        found = (made if isinstance(made, EncodedMessage) else self._read(made, since) for made in item)
        return [msgspec.structs.replace(made, since=since) for made in found if made is not None]

    def _read(self, row: Row, since: float) -> EncodedMessage | None:
        with self._failing():
            body = self._file.ledger.body(row.row) if self._file else None
            if body is not None:
                message = msgspec.json.decode(body, type=Message)
                made = entry(message, since, whole=row.whole, already_known=row.already_known, raw=body)
                return msgspec.structs.replace(made, row=row.row)
        return None

    def release(self, progress: Progress, left: Sequence[EncodedMessage], rejected: str = "") -> None:
        """Free the room in memory; the next `save` deletes the rows."""
        self._memory.release(progress, left, rejected)
        progress.rows.left.extend(made.row for made in left if made.row > 0)

    def save(self, progress: Progress, *, sends: bool = False) -> bool:  # noqa: ARG002 - the file has one owner
        """Save the state and delete the released messages, in one transaction. Sending never waits for the file."""
        with self._failing():
            if self._file is not None and progress.rows.row:
                self._file.ledger.save(progress, time.time())
        return True

    def forget(self, progress: Progress) -> None:
        """Delete the conversation, unless a caller is writing to it: then its command brings it back.

        The lock is for that. Without it a message could get a row of a conversation that is just being deleted.
        """
        if not progress.rows.row or not self._entering.acquire(timeout=_CLOSING):
            return
        try:
            with self._failing():
                if self._file is not None and self._file.ledger.forget(progress):
                    progress.rows.row = 0
        finally:
            self._entering.release()

    def recover(self) -> list[Progress]:
        """Take over the conversations of dead owners of the file."""
        found: list[Progress] = []
        with self._failing():
            file = self._opened()
            if file is not None:
                found = file.ledger.recover(time.time(), time.monotonic(), self._idle_timeout)
        for progress in found:
            self._memory.recovered(progress.received)
        return found

    # -- the file ------------------------------------------------------------------------------------------------------

    def _opened(self) -> OpenFile | None:
        """Return the open file; None for a while after a failure."""
        if time.monotonic() < self._not_before:
            return None
        if self._file is None or self._file.broken:
            self._open()
        return self._file

    def _open(self) -> None:
        with self._opening:
            if self._file is None or self._file.broken:
                self._file = OpenFile(self._path)

    def _failing(self) -> _Failing:
        return _Failing(self)

    def failed(self, error: Exception) -> None:
        """Log a failure, and do not use the file for a while; never again if it is not an outbox."""
        log_limited("outbox", _DEGRADED, self._path, error)
        # SQLite raises a plain DatabaseError for a file that is no database.
        unusable = isinstance(error, UnusableError) or type(error) is sqlite3.DatabaseError
        self._not_before = math.inf if unusable else time.monotonic() + RETRY_FILE_AFTER

    def close(self) -> None:
        """Close the file; a later message opens it again. It stays open while a caller uses it.

        Waiting longer could deadlock: a signal handler may have interrupted that caller, and wait for this worker.
        """
        if not self._entering.acquire(timeout=_CLOSING):
            return
        try:
            with self._opening, self._failing():
                file, self._file = self._file, None
                if file is not None:
                    file.close()
        finally:
            self._entering.release()

    # -- forks ---------------------------------------------------------------------------------------------------------

    def pause(self, seconds: float) -> bool:
        """Keep callers out and close the file until `resume`; return False if that takes more than `seconds`."""
        until = time.monotonic() + seconds
        with ExitStack() as undo:
            for lock in (self._entering, self._opening):
                if not waits.lock(lock, max(0.0, until - time.monotonic())):
                    return False
                undo.callback(lock.release)
            if self._file is not None and not self._file.pause(max(0.0, until - time.monotonic())):
                return False
            undo.pop_all()
        return True

    def resume(self) -> None:
        """Open the file again, in the parent."""
        with self._failing():
            if self._file is not None:
                self._file.resume()
        self._opening.release()
        self._entering.release()

    def inherited(self, *, paused: bool) -> None:
        """Leave the file to the parent, in the child: inherited green threads must not open it again."""
        file, self._file = self._file, None
        self._not_before = math.inf
        if paused:  # inherited green threads may wait for the locks
            self._opening.release()
            self._entering.release()
        else:
            if file is not None or not self._opening.acquire(blocking=False):
                schema.leave_alone(self._path)
            self._entering, self._opening = threading.RLock(), threading.RLock()
        if file is not None:
            file.inherited(paused=paused)


class _Failing:
    """A `with` block that swallows failures of the file, and has the outbox work without it."""

    __slots__ = ("_outbox",)

    def __init__(self, outbox: SQLiteOutbox) -> None:
        self._outbox = outbox

    def __enter__(self) -> None:
        """Set up nothing."""

    def __exit__(self, kind: object, error: BaseException | None, tb: object) -> bool:
        if isinstance(error, (sqlite3.Error, OSError)):
            self._outbox.failed(error)
            return True
        return False


def _made(draft: Draft) -> list[EncodedMessage] | None:
    with guard("preparing a message"):
        message = draft.message()
        return [] if message is None else entries_of(message, 0.0, charge=draft.size, already_known=draft.already_known)
    return None


def _insert(db: sqlite3.Connection, conversation: int, made: Sequence[EncodedMessage]) -> Sequence[int]:
    """Write messages with one statement, so that a signal handler never finds a transaction open. Return their rows."""
    if not made:
        return []
    now = time.time()
    values: list[Any] = []
    for message in made:
        values += (conversation, message.whole, message.already_known, now, message.raw)
    places = ", ".join(["(?, ?, ?, ?, ?)"] * len(made))
    sql = f"INSERT INTO message (conversation, whole, learned, since, body) VALUES {places}"  # noqa: S608 - only placeholders
    last = db.execute(sql, values).lastrowid or 0
    return range(last - len(made) + 1, last + 1)
