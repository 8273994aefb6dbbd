"""The ledger: the sending side of the durable outbox. It keeps states and owners of conversations, and deletes rows."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from converra.delivery.header import Header
from converra.delivery.protocol.added import is_the_apps
from converra.delivery.protocol.progress import Batch, Opening, Progress, State
from converra.process import waits
from converra.process.lockfile import ProcessLock
from converra.wire.json_safe import encode

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

_DELETE_AT_ONCE = 500
"""Most rows deleted with one statement: SQLite bounds the number of placeholders."""


class Row(NamedTuple):
    """A message that is only in the file, for want of room in memory; the fields are those of `EncodedMessage`."""

    row: int
    whole: int
    already_known: bool = False


class Ledger:
    """Reads and writes through the workers' connection. Used by one worker at a time."""

    def __init__(self, db: sqlite3.Connection, path: str, owner: int) -> None:
        self._db = db
        self._path = path
        self._owner = owner
        self._lock = threading.Lock()
        self._adopted: set[int] = set()
        """Conversations taken over from dead owners, and not yet handed out by `recover`."""

    def pause(self, seconds: float) -> bool:
        """Finish a write under way and close the connection until `resume`; False if that takes too long."""
        if not waits.lock(self._lock, seconds):
            return False
        self._db.close()
        return True

    def resume(self, db: sqlite3.Connection) -> None:
        """Continue with a new connection."""
        self._db = db
        self._lock.release()

    def body(self, row: int) -> bytes | None:
        """Return the encoded message of a row; None if it is gone."""
        with self._lock:
            found = self._db.execute("SELECT body FROM message WHERE id = ?", (row,)).fetchone()
        return found[0] if found else None

    def save(self, progress: Progress, now: float) -> None:
        """Save the state of a conversation, and delete its released messages and merged metadata."""
        with self._transaction():
            self._write_pieces(progress)
            self._delete(progress.rows.left)
            self._db.execute(
                "UPDATE conversation SET state = ?, ended = max(ended, ?), touched = ? WHERE id = ?",
                (encode(progress.state), progress.ended, now, progress.rows.row),
            )
            self._db.execute(
                "DELETE FROM note WHERE conversation = ? AND id <= ?", (progress.rows.row, progress.rows.noted)
            )
        progress.rows.left.clear()

    def forget(self, progress: Progress) -> bool:
        """Delete a conversation that is over; return False if something was recorded in it since, such as feedback."""
        row = progress.rows.row
        with self._transaction():
            self._delete(progress.rows.left)
            (waits,) = self._db.execute(
                "SELECT EXISTS (SELECT 1 FROM message WHERE conversation = ?)"
                " OR EXISTS (SELECT 1 FROM note WHERE conversation = ? AND id > ?)",
                (row, row, progress.rows.noted),
            ).fetchone()
            if not waits:
                self._db.execute("DELETE FROM note WHERE conversation = ?", (row,))
                self._db.execute("DELETE FROM conversation WHERE id = ?", (row,))
                self._adopted.discard(row)
        progress.rows.left.clear()
        return not waits

    def release_ownership(self, process_lock: ProcessLock) -> None:
        """Deregister this process, and remove its lock file, unless undelivered rows remain for others."""
        with self._transaction():
            self._db.execute(
                "DELETE FROM conversation WHERE owner = ? AND state IS NULL"
                " AND NOT EXISTS (SELECT 1 FROM message WHERE conversation = conversation.id)"
                " AND NOT EXISTS (SELECT 1 FROM note WHERE conversation = conversation.id)",
                (self._owner,),
            )
            (remaining,) = self._db.execute(
                "SELECT count(*) FROM conversation WHERE owner = ?", (self._owner,)
            ).fetchone()
            if not remaining:
                self._db.execute("DELETE FROM owner WHERE id = ?", (self._owner,))
                process_lock.remove()

    # -- recovery ------------------------------------------------------------------------------------------------------

    def recover(self, now: float, monotonic: float, idle_timeout: float) -> list[Progress]:
        """Take over the conversations of dead owners, oldest first. `now` is seconds since the epoch.

        Each is completed once it has been idle for `idle_timeout` seconds.
        """
        with self._lock:
            others = self._db.execute("SELECT id, token FROM owner WHERE id != ?", (self._owner,)).fetchall()
        for owner, token in others:
            self._adopt_from(owner, token)
        with self._lock:
            rows = self._db.execute(
                "SELECT id, header, writer, state, ended, always, touched FROM conversation"
                " WHERE owner = ? ORDER BY id",
                (self._owner,),
            ).fetchall()
        adopted = [row for row in rows if row[0] in self._adopted]
        found = [self._rebuilt(row, now - monotonic, idle_timeout) for row in adopted]
        self._adopted.clear()
        return found

    def _adopt_from(self, owner: int, token: str) -> None:
        process_lock = ProcessLock.take(self._path, token)
        if process_lock is None:
            return
        try:
            with self._transaction():
                taken = self._db.execute("SELECT id FROM conversation WHERE owner = ?", (owner,)).fetchall()
                self._db.execute("UPDATE conversation SET owner = ? WHERE owner = ?", (self._owner, owner))
                self._db.execute("DELETE FROM owner WHERE id = ?", (owner,))
                self._db.execute("DELETE FROM message WHERE conversation NOT IN (SELECT id FROM conversation)")
                process_lock.remove()
        finally:
            process_lock.abandon()
        self._adopted.update(row for (row,) in taken)

    def _rebuilt(self, row: tuple[Any, ...], clock: float, idle_timeout: float) -> Progress:
        number, header, writer, state, ended, always, touched = row
        progress = Progress(
            msgspec.json.decode(header, type=Header),
            writer,
            msgspec.json.decode(state, type=State) if state else None,
        )
        progress.rows.row, progress.ended, progress.always = number, bool(ended), bool(always)
        progress.arrived = deque(self._messages(number, clock))
        progress.notes = deque(self._notes(number))
        progress.received = sum(row.whole for _, item in progress.arrived for row in item)
        progress.first_id = progress.state.id
        progress.send_now = True
        if progress.header.shared:
            progress.carry_at = 0.0
        else:
            progress.ends_at = touched - clock + idle_timeout
        self._recount(progress)
        return progress

    def _messages(self, number: int, clock: float) -> Iterator[tuple[float, list[Row]]]:
        with self._lock:
            rows = self._db.execute(
                "SELECT id, whole, learned, since FROM message WHERE conversation = ?"
                " ORDER BY CASE place WHEN 0 THEN id ELSE place END, piece",
                (number,),
            ).fetchall()
        for row, whole, already_known, since in rows:
            yield since - clock, [Row(row, whole, bool(already_known))]

    def _notes(self, number: int) -> list[tuple[int, dict[str, Any], bool]]:
        with self._lock:
            rows = self._db.execute(
                "SELECT id, body FROM note WHERE conversation = ? ORDER BY id", (number,)
            ).fetchall()
        notes = ((row, msgspec.json.decode(body)) for row, body in rows)
        return [(row, metadata, is_the_apps(metadata)) for row, metadata in notes]

    def _recount(self, progress: Progress) -> None:
        """Count the messages of a request under way by their ids: some may have been in memory only, and are lost."""
        state = progress.state
        if state.unsettled is not None:
            state.unsettled = msgspec.structs.replace(
                state.unsettled, entries=self._count_saved(progress, state.unsettled)
            )
        if state.opening is not None:
            state.opening = msgspec.structs.replace(state.opening, entries=self._count_saved(progress, state.opening))

    def _count_saved(self, progress: Progress, step: Batch | Opening) -> int:
        count = 0
        for _, item in list(progress.arrived)[: step.entries]:
            body = self.body(item[0].row) or b"{}"
            metadata = msgspec.json.decode(body).get("metadata") or {}
            count += str(metadata.get("messageId", "")) in step.ids
        return count

    # -- pieces --------------------------------------------------------------------------------------------------------

    def _write_pieces(self, progress: Progress) -> None:
        """Replace a message that was split for this API with its parts."""
        pieces = [(index, entry) for index, entry in enumerate(progress.entries) if entry.row < 0]
        if not pieces:
            return
        row = -pieces[0][1].row
        (place, piece) = self._db.execute("SELECT place, piece FROM message WHERE id = ?", (row,)).fetchone()
        (since,) = self._db.execute("SELECT since FROM message WHERE id = ?", (row,)).fetchone()
        for number, (index, entry) in enumerate(pieces):
            cursor = self._db.execute(
                "INSERT INTO message (conversation, place, piece, whole, learned, since, body)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    progress.rows.row,
                    place or row,
                    f"{piece}{number:05}",
                    entry.whole,
                    entry.already_known,
                    since,
                    entry.raw,
                ),
            )
            progress.entries[index] = msgspec.structs.replace(entry, row=cursor.lastrowid or 0)
        self._db.execute("DELETE FROM message WHERE id = ?", (row,))

    def _delete(self, rows: list[int]) -> None:
        for start in range(0, len(rows), _DELETE_AT_ONCE):
            some = rows[start : start + _DELETE_AT_ONCE]
            marks = ", ".join("?" * len(some))
            self._db.execute(f"DELETE FROM message WHERE id IN ({marks})", some)  # noqa: S608 - only placeholders

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # SQLite has rolled back already after some failures
                    self._db.execute("ROLLBACK")
                raise
