"""Forgets the conversations that are too many or too old, and gives their room back to the disk.

In small transactions, on a thread of its own that rests as long as it works: a concurrent writer waits for some
milliseconds at most.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from converra.server.store.database import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from converra.server.store.database import Database

_logger = logging.getLogger("converra")

MESSAGES = 200
"""Messages that one transaction deletes, roughly, …"""

LOOKED_AT = 500
"""… out of at most this many conversations."""

ROWS = 500
"""Expired keys, or requests of the log, that are deleted in one transaction."""

PAGES = 200
"""Pages of the file that are given back at a time."""

MERGED_FROM = 0.25
"""The search index is merged once this share of the messages was deleted: until then it only grows by a deletion."""

SPARE_PAGES = 256
"""Free pages that stay for what comes next: 1 MiB."""

PRUNED = "pruned"
"""The topic under which pages learn of it."""

_DAY_MS = 24 * 60 * 60 * 1000


class Pruning:
    """The bounds of one store. None: no bound."""

    def __init__(self, store: Database, *, conversations: int | None, days: float | None) -> None:
        self._store = store
        self._most = conversations
        self._days = days
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def start(self) -> None:
        """Prune on a thread of its own, unless one is at it."""
        with self._lock:
            if not self._stopping.is_set() and (self._thread is None or not self._thread.is_alive()):
                self._thread = threading.Thread(target=self._work, name="converra-pruning", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """End the thread, within some milliseconds; the rest is left for the next time."""
        with self._lock:
            self._stopping.set()
            thread = self._thread
        if thread is not None:
            thread.join()

    def among(self, ranges: Iterable[tuple[int, int]], *, created_until: int) -> list[int]:
        """Return the numbers that are still there within some ranges, both ends included.

        Numbers are used again after a deletion: `created_until`, in milliseconds since the epoch, tells the
        conversations that a page has shown from later ones with the same numbers.
        """
        sql = "SELECT number FROM conversations WHERE number BETWEEN ? AND ? AND created_at <= ?"
        return [number for first, last in ranges for (number,) in self._store.rows(sql, (first, last, created_until))]

    def forget(self, numbers: Sequence[int]) -> None:
        """Delete some conversations and the whole log of requests, and overwrite their words in the file.

        In small transactions with a rest after each, so that a server keeps running meanwhile.
        """
        self._paced(self._forgetting(numbers))
        self._store.rows("PRAGMA wal_checkpoint(TRUNCATE)")

    def _forgetting(self, numbers: Sequence[int]) -> Iterator[None]:
        """Each is a transaction of its own."""
        for part in self._parts(numbers):
            self._delete(part)
            yield
        while self._delete_some("requests", ("number",), "TRUE"):  # their bodies hold the words, too
            yield
        self._store.touch((PRUNED,))
        yield from self._tidying(merge=True)

    def _parts(self, numbers: Sequence[int]) -> Iterator[list[int]]:
        """Divide conversations into parts that one transaction deletes."""
        part: list[int] = []
        weight = 0
        for number in numbers:
            found = self._store.rows("SELECT messages FROM conversations WHERE number = ?", (number,))
            part.append(number)
            weight += sum(messages + 1 for (messages,) in found)
            if weight > MESSAGES:
                yield part
                part, weight = [], 0
        yield part

    def run(self) -> None:
        """Prune everything now."""
        for _ in self._steps():
            pass

    def _work(self) -> None:
        """Prune, and leave for the next time what a full disk or a damaged file does not allow now."""
        try:
            self._paced(self._steps(), to_the_end=False)
        except DatabaseError as problem:
            _logger.warning("The local server cannot forget old conversations: %s", problem)

    def _paced(self, steps: Iterator[None], *, to_the_end: bool = True) -> None:
        """Rest as long as each step has taken; once the store is about to close, hurry to the end or leave the rest."""
        began = time.monotonic()
        for _ in steps:
            if self._stopping.wait(time.monotonic() - began) and not to_the_end:
                return
            began = time.monotonic()

    def _steps(self) -> Iterator[None]:
        """Each is a transaction of its own."""
        pruned = 0
        for deleted in self._conversations():
            pruned += deleted
            yield
        while self._delete_some("idempotency_keys", ("account", "key"), "expires_at <= ?", self._store.now()):
            yield
        if pruned:
            self._store.touch((PRUNED,))
        ((stay,),) = self._store.rows("SELECT coalesce(sum(messages), 0) FROM conversations")
        yield from self._tidying(merge=pruned > MERGED_FROM * (pruned + stay))

    def _tidying(self, *, merge: bool) -> Iterator[None]:
        """Merge the search index, if that is due, and make the file smaller."""
        more = merge and self._merge(-PAGES)
        while more:
            yield
            more = self._merge(PAGES)
        while self._give_back():
            yield

    def _conversations(self) -> Iterator[int]:
        """Go through those that may have to go, the oldest first; the messages of a part that were deleted."""
        first = self._first_to_stay()
        at = 0
        while True:
            part = self._store.rows(
                "SELECT number, messages, updated_at FROM conversations WHERE number > ? ORDER BY number LIMIT ?",
                (at, LOOKED_AT),
            )
            if not part or (self._days is None and part[0][0] >= first):
                return
            at, numbers, weight = self._outdated(part, first)
            self._delete(numbers)
            yield weight

    def _first_to_stay(self) -> int:
        """The oldest of those that are not too many."""
        if self._most is None:
            return 0
        rows = self._store.rows("SELECT number FROM conversations ORDER BY number DESC LIMIT 1 OFFSET ?", (self._most,))
        return int(rows[0][0]) + 1 if rows else 0

    def _outdated(self, part: Sequence[Any], first: int) -> tuple[int, list[int], int]:
        """Pick the conversations of a part to delete, up to a number of messages.

        Return how far that came, their numbers, and the weight of their messages.
        """
        oldest = 0 if self._days is None else self._store.now() - int(self._days * _DAY_MS)
        numbers: list[int] = []
        weight = at = 0
        for at, messages, updated_at in part:
            if at < first or updated_at < oldest:
                numbers.append(at)
                weight += messages + 1
                if weight > MESSAGES:
                    break
        return at, numbers, weight

    def _delete(self, numbers: Sequence[int]) -> None:
        if numbers:
            marks = ", ".join("?" * len(numbers))
            with self._store.transaction():
                self._store.execute(f"DELETE FROM conversations WHERE number IN ({marks})", numbers)  # noqa: S608 - marks

    def _delete_some(self, table: str, key: Sequence[str], where: str, *values: object) -> bool:
        """Delete some rows of a table, which its `key` names; whether there may be more."""
        columns = ", ".join(key)
        sql = f"DELETE FROM {table} WHERE ({columns}) IN (SELECT {columns} FROM {table} WHERE {where} LIMIT ?)"  # noqa: S608 - literals
        with self._store.transaction():
            return self._store.execute(sql, (*values, ROWS)).rowcount == ROWS

    def _merge(self, pages: int) -> bool:
        """Merge some pages of the search index, which drops what was deleted; whether there is more to merge.

        A negative number begins with all of the index (sqlite.org/fts5.html, "The 'merge' Command").
        """
        changes = "SELECT total_changes()"
        with self._store.transaction():
            ((before,),) = self._store.rows(changes)
            self._store.execute("INSERT INTO message_text (message_text, rank) VALUES ('merge', ?)", (pages,))
            ((after,),) = self._store.rows(changes)
        return int(after - before) > 1

    def _give_back(self) -> bool:
        """Make the file smaller by some pages; whether there is more to give back."""
        ((mode,),) = self._store.rows("PRAGMA auto_vacuum")
        ((free,),) = self._store.rows("PRAGMA freelist_count")
        if not mode or free <= SPARE_PAGES:
            return False
        self._store.rows(f"PRAGMA incremental_vacuum({min(PAGES, free - SPARE_PAGES)})")
        return True
