"""The request log: what reached the two APIs, as it was received, and how it was answered."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from converra.server.store.changes import REQUESTS
from converra.server.store.records import LoggedRequest, RequestLine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from converra.server.store.database import Database

_BODY_BYTES = 1024 * 1024
_ALL_BODIES_BYTES = 256 * 1024 * 1024
_PRUNE_EVERY = 256
_ENDING = "body_bytes, status, ms, answer_bytes, attempt, reason, fault"
_WHOLE = f"number, received_at, account, method, path, headers, body, {_ENDING}"
_LINE = f"number, received_at, account, method, path, {_ENDING}"


class Resent(NamedTuple):
    """A request to the stand-in model that brought a turn: where to read it, and how many messages it sent."""

    request: int
    sent: int


class RequestLog:
    """The requests of one store; bounded in number, and in the bytes of their bodies."""

    def __init__(self, store: Database, *, keep: int) -> None:
        self._store = store
        self._keep = keep

    def add(self, *, account: str | None, method: str, path: str, headers: Mapping[str, str], body: bytes) -> int:
        """Write down a request as it arrives; the number is for `answered`."""
        digest = _digest(account, method, path, body) if method == "POST" else None
        number = self._store.execute(
            "INSERT INTO requests (received_at, account, method, path, headers, body, body_bytes, digest, attempt)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1 + coalesce(?, (SELECT count(*) FROM requests WHERE digest = ?)))",
            (
                *(self._store.now(), account, method, path, msgspec.json.encode(headers).decode()),
                *(body[:_BODY_BYTES], len(body), digest, _retries(headers), digest),
            ),
        ).lastrowid
        assert number is not None  # noqa: S101 - an INSERT has a row id
        if number % _PRUNE_EVERY == 0:
            self._prune(number)
        return number

    def answered(
        self,
        number: int,
        *,
        status: int | None,
        ms: float,
        answer_bytes: int,
        reason: str | None = None,
        fault: str | None = None,
    ) -> None:
        """Write down how a request was answered."""
        self._store.execute(
            "UPDATE requests SET status = ?, ms = ?, answer_bytes = ?, reason = ?, fault = ? WHERE number = ?",
            (status, ms, answer_bytes, reason, fault, number),
        )
        self._store.touch((REQUESTS,))

    def all(self) -> list[LoggedRequest]:
        """Every request, oldest first."""
        return [_request(row) for row in self._store.rows(f"SELECT {_WHOLE} FROM requests ORDER BY number")]  # noqa: S608 - literals

    def lines(self, limit: int, *, before: int | None = None, refused: bool = False) -> list[RequestLine]:
        """The newest requests without what they brought, newest first: `before` a number, or only those not served."""
        terms = ["number < ?" if before else "? IS NULL", "(status IS NULL OR status >= 400)" if refused else "1"]
        rows = self._store.rows(
            f"SELECT {_LINE} FROM requests WHERE {' AND '.join(terms)} ORDER BY number DESC LIMIT ?",  # noqa: S608 - literals
            (before, limit),
        )
        return [RequestLine._make(row) for row in rows]

    def find(self, number: int) -> LoggedRequest | None:
        """One request by its number; None if it does not exist or was pruned."""
        rows = self._store.rows(f"SELECT {_WHOLE} FROM requests WHERE number = ?", (number,))  # noqa: S608 - literals
        return _request(rows[0]) if rows else None

    def model_turn(self, number: int, *, answer: bytes, sent: int) -> None:
        """Remember the stand-in's answer to a request, by its number of messages."""
        self._store.execute(
            "INSERT OR REPLACE INTO model_turns (request, answer, sent) VALUES (?, ?, ?)", (number, answer, sent)
        )

    def resent(self, answer: bytes, *, until: int, before: int) -> Resent | None:
        """The newest request that got this answer, up to a time and before another request."""
        rows = self._store.rows(
            "SELECT request, sent FROM model_turns JOIN requests ON number = request"
            " WHERE answer = ? AND received_at <= ? AND request < ? ORDER BY request DESC LIMIT 1",
            (answer, until, before),
        )
        return Resent(*rows[0]) if rows else None

    def _prune(self, newest: int) -> None:
        self._store.execute("DELETE FROM requests WHERE number <= ?", (newest - self._keep,))
        self._store.execute(
            "DELETE FROM requests WHERE number <= (SELECT max(number) FROM"
            " (SELECT number, sum(length(body)) OVER (ORDER BY number DESC) AS bytes FROM requests) WHERE bytes > ?)",
            (_ALL_BODIES_BYTES,),
        )


def _digest(*parts: str | bytes | None) -> bytes:
    """Of a request without its headers: a client that tries again sends all of this again."""
    digest = hashlib.sha256()
    for part in parts:
        encoded = part if isinstance(part, bytes) else (part or "").encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.digest()[:16]


def _retries(headers: Mapping[str, str]) -> int | None:
    """Read the retry count that OpenAI's client sends; None for other clients."""
    said = headers.get("x-stainless-retry-count", "")
    return int(said) if said.isascii() and said.isdecimal() and len(said) < 4 else None  # noqa: PLR2004 - a small number


def _request(row: Sequence[Any]) -> LoggedRequest:
    return LoggedRequest._make((*row[:5], msgspec.json.decode(row[5]), *row[6:]))
