"""The request log: what reached the two APIs, as it was received, and how it was answered."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from converra.server.store.changes import REQUESTS
from converra.server.store.records import LoggedRequest, RequestLine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from converra.server.store.database import Database

BODY_BYTES = 1024 * 1024
"""Bytes of a request's body and of its answer that are kept."""
_ALL_BODIES_BYTES = 256 * 1024 * 1024
_PRUNE_EVERY = 256
_MODEL_IN_PATH = re.compile(r"/models/([^/:?]+):")
_ENDING = "body_bytes, status, ms, answer_bytes, attempt, reason, fault"
_WHOLE = (
    f"number, received_at, account, method, path, headers, body, {_ENDING}, coalesce(answer, x''), answer_type, model"
)
_LINE = f"number, received_at, account, method, path, {_ENDING}, model"


class Resent(NamedTuple):
    """A request to the stand-in model that brought a turn: where to read it, and how many messages it sent."""

    request: int
    sent: int


class RequestLog:
    """The requests of one store; bounded in number, and in the bytes of their bodies."""

    def __init__(self, store: Database, *, keep: int) -> None:
        self._store = store
        self._keep = keep

    def add(
        self,
        *,
        account: str | None,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        keep_body: bool = True,
    ) -> int:
        """Write down a request as it arrives; the number is for `answered`. With `keep_body=False` without its body."""
        model = _model(path, body) if keep_body and not path.startswith("/api/") else None
        digest = _digest(account, method, path, body) if method == "POST" else None
        number = self._store.execute(
            "INSERT INTO requests (received_at, account, method, path, headers, body, body_bytes, model, digest,"
            " attempt) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?,"
            " 1 + coalesce(?, (SELECT count(*) FROM requests WHERE digest = ?)))",
            (
                *(self._store.now(), account, method, path, msgspec.json.encode(headers).decode()),
                *(body[: BODY_BYTES * keep_body], len(body), model, digest, _retries(headers), digest),
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
        answer: bytes | None = None,
        answer_type: str | None = None,
    ) -> None:
        """Write down how a request was answered, with the `answer` as far as it was sent; None leaves what is there."""
        self._store.execute(
            "UPDATE requests SET status = ?, ms = ?, answer_bytes = ?, reason = ?, fault = ?,"
            " answer = coalesce(?, answer), answer_type = ? WHERE number = ?",
            (status, ms, answer_bytes, reason, fault, answer and answer[:BODY_BYTES], answer_type, number),
        )
        self._store.touch((REQUESTS,))

    def all(self) -> list[LoggedRequest]:
        """Every request, oldest first."""
        return [_request(row) for row in self._store.rows(f"SELECT {_WHOLE} FROM requests ORDER BY number")]  # noqa: S608 - literals

    def lines(
        self, limit: int, *, before: int | None = None, refused: bool = False, api: str = "", words: str = ""
    ) -> list[RequestLine]:
        """Read the newest requests without their bodies, newest first.

        Args:
            limit: How many at most.
            before: A number; only older ones.
            refused: Only those without an answer or with an error.
            api: A prefix of the path, such as `/openai/`.
            words: A part of the path, or of the name of the model.

        """
        where, values = ["1"], list[Any]()
        if before:
            where.append("number < ?")
            values.append(before)
        if refused:
            where.append("(status IS NULL OR status >= 400)")
        if api:
            where.append("substr(path, 1, ?) = ?")
            values += [len(api), api]
        if words:
            where.append("(instr(lower(path), ?) OR instr(lower(model), ?))")
            values += [words.lower(), words.lower()]
        found = (
            f"SELECT number FROM requests INDEXED BY requests_as_lines WHERE {' AND '.join(where)}"  # noqa: S608 - literals
            " ORDER BY number DESC LIMIT ?"
        )
        rows = self._store.rows(
            f"SELECT {_LINE} FROM requests WHERE number IN ({found}) ORDER BY number DESC",  # noqa: S608 - as above
            (*values, limit),
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
            " WHERE model_turns.answer = ? AND received_at <= ? AND request < ? ORDER BY request DESC LIMIT 1",
            (answer, until, before),
        )
        return Resent(*rows[0]) if rows else None

    def _prune(self, newest: int) -> None:
        self._store.execute("DELETE FROM requests WHERE number <= ?", (newest - self._keep,))
        self._store.execute(
            "DELETE FROM requests WHERE number <= (SELECT max(number) FROM"
            " (SELECT number, sum(length(body) + coalesce(length(answer), 0)) OVER (ORDER BY number DESC) AS bytes"
            " FROM requests) WHERE bytes > ?)",
            (_ALL_BODIES_BYTES,),
        )


class _Asked(msgspec.Struct):
    """The field of a request to a model that names it."""

    model: str | None = None


def _model(path: str, body: bytes) -> str | None:
    """Return the model that a request asks for: in its address, as Gemini has it, or in its body."""
    named = _MODEL_IN_PATH.search(path)
    if named is not None:
        return named[1]
    try:
        return msgspec.json.decode(body, type=_Asked).model
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


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
