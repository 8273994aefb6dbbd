"""Rows of the store as objects."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from converra.server.api import details
from converra.server.store.totals import Totals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def fingerprint(api_key: str) -> str:
    """Placeholder for a key wherever it would be stored or shown."""
    return hashlib.sha256(api_key.encode()).hexdigest()[:16]


class Conversation(NamedTuple):
    """A stored conversation without its messages. Times are milliseconds since the epoch."""

    number: int
    id: str
    account: str
    prompt_id: str
    status: str
    llm_model: str | None
    company_name: str | None
    title: str | None
    content: str | None
    """As it was sent; None once an append has made it the transcript of the messages."""
    sent_metadata: dict[str, Any]
    """As it was sent, with the details of the messages of the create."""
    created_at: int
    updated_at: int
    completed_at: int | None
    session_id: str | None = None
    totals: Totals = Totals()

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata without the details of messages."""
        return details.take(self.sent_metadata).metadata

    @property
    def details(self) -> dict[str, dict[str, Any]]:
        """The details of the messages of the create, by position."""
        return details.take(self.sent_metadata).details


def conversation(row: Sequence[Any]) -> Conversation:
    """A row of the table as a record."""
    totals = Totals._make((*row[14:20], tuple(msgspec.json.decode(row[20]))))
    return Conversation._make((*row[:9], msgspec.json.decode(row[9]), *row[10:14], totals))


class NewConversation(NamedTuple):
    """Arguments of `Store.create`."""

    id: str
    account: str
    prompt_id: str
    status: str
    content: str
    messages: Sequence[Mapping[str, Any]]
    metadata: Mapping[str, Any] = {}
    llm_model: str | None = None
    company_name: str | None = None
    title: str | None = None


class LoggedRequest(NamedTuple):
    """A request as it was received, and how it was answered. `status` is None where no answer was sent."""

    number: int
    received_at: int
    account: str | None
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    body_bytes: int
    status: int | None
    ms: float | None
    answer_bytes: int | None
    attempt: int
    """Number of times this request body has arrived."""
    reason: str | None
    """Why it was refused, in the words of the answer."""
    fault: str | None
    """The fault that was switched on for it."""
    answer: bytes = b""
    """The body of the answer, or its beginning."""
    answer_type: str | None = None
    """The answer's Content-Type."""
    model: str | None = None
    """The model that a request to the stand-in asks for."""

    def json(self) -> Any:
        """The body, decoded; None where there was none."""
        return msgspec.json.decode(self.body) if self.body else None


class RequestLine(NamedTuple):
    """A logged request without what it brought: a line of a list. Fields as in `LoggedRequest`."""

    number: int
    received_at: int
    account: str | None
    method: str
    path: str
    body_bytes: int
    status: int | None
    ms: float | None
    answer_bytes: int | None
    attempt: int
    reason: str | None
    fault: str | None
    model: str | None = None
    """The model that a request to the stand-in asks for."""
