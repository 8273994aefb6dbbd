"""Sends one recorded conversation to the API, once: whatever was sent before is found out first.

An append has no idempotency key, so each carries the number of messages that are sent by then in the conversation's
metadata. After an answer that does not say whether it was stored the conversation is read back, and that number tells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from converra.errors import (
    APIConnectionError,
    ConverraError,
    InternalServerError,
    UnreadableResponseError,
    ValidationError,
)
from converra.transcript import build_structured, parse
from converra.wire import json_safe
from converra.wire.details import CONTENT_FIELDS
from converra.wire.limits import MAX_CONTENT_BYTES
from converra.wire.models import to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from converra.api.conversations import Conversations
    from converra.api.operations import AppendStatus
    from converra.api.results import StoredConversation
    from converra.wire.models import Status

    Message = Mapping[str, Any]

COUNTER = "pushed"
"""Metadata: how many messages have been sent."""

MAX_BATCH = 100
MAX_BATCH_BYTES = MAX_CONTENT_BYTES // 2
ATTEMPTS = 5

_IDS = {"messageId", "traceId", "spanId"}
_UNCLEAR = (APIConnectionError, InternalServerError, UnreadableResponseError)


class UnclearError(ConverraError):
    """The API does not show whether messages arrived, so sending them again could double them."""


class Recorded(NamedTuple):
    """A conversation of the local store."""

    id: str
    prompt_id: str
    status: str
    company_name: str | None
    llm_model: str | None
    metadata: Mapping[str, Any]
    messages: Sequence[Any]
    """As the API shows them."""


class Push:
    """One conversation on its way. `begun`, `remote_id` and `sent` say how far an earlier run has got."""

    def __init__(
        self,
        api: Conversations,
        recorded: Recorded,
        *,
        begun: bool = False,
        remote_id: str | None = None,
        sent: int = 0,
        sleep: Callable[[float], None],
    ) -> None:
        self._api = api
        self._recorded = recorded
        self._sleep = sleep
        self._begun = begun
        self.remote_id: str | None = remote_id
        self.sent: int = sent

    @property
    def total(self) -> int:
        """Messages there are to send."""
        return len(self._recorded.messages)

    def run(self, progress: Callable[[Push], None]) -> None:
        """Send all that is missing; `progress` is called at first and after each request. Raises the API's errors."""
        progress(self)
        if self.remote_id is None:
            self._create()
            progress(self)
        else:
            self._look()
        while self.sent < self.total:
            self._append_surely()
            progress(self)

    def _create(self) -> None:
        """Open the conversation, or find what an earlier run has opened with the same key."""
        opening = _opening(self._recorded.messages)
        whole = opening == self.total
        for last, status in _statuses(self._recorded.status, whole=whole):
            try:
                made = self._created(opening, status)
            except ValidationError:
                if last:
                    raise
            else:
                break
        self.remote_id, self.sent = made.id, opening
        if self._begun and not whole:
            self._look()

    def _created(self, opening: int, status: Status) -> StoredConversation:
        recorded = self._recorded
        return self._api.create(
            prompt_id=recorded.prompt_id,
            content=build_structured(recorded.messages[:opening], {**recorded.metadata, COUNTER: opening}),
            status=status,
            company_name=json_safe.name(recorded.company_name),
            llm_model=json_safe.name(recorded.llm_model),
            idempotency_key=f"push-{recorded.id}",
        )

    def _append_surely(self) -> None:
        """Send the next batch; where it is unclear whether it was stored, find out before sending it again."""
        for attempt in range(ATTEMPTS):
            try:
                return self._append()
            except _UNCLEAR:
                if attempt == ATTEMPTS - 1:
                    raise
                self._sleep(2.0**attempt / 4)
                before = self.sent
                self._look()
                if self.sent > before:
                    return None
        return None

    def _append(self) -> None:
        batch = _batch(self._recorded.messages[self.sent :])
        upto = self.sent + len(batch)
        ends = upto == self.total and self._recorded.status == "completed"
        status: AppendStatus | None = "completed" if ends else None
        self._api.append_messages(self._id(), messages=batch, status=status, metadata={COUNTER: upto})
        self.sent = upto

    def _look(self) -> None:
        """Count the messages that the API has: by our counter, else by the API's messages, else by their texts."""
        found = self._api.get(self._id(), include_insights=False)
        counted = (found.metadata or {}).get(COUNTER)
        if isinstance(counted, int):
            self.sent = max(self.sent, counted)
        elif found.shows_messages:
            self.sent = max(self.sent, len(found.messages))
        elif found.content is not None:
            self.sent = max(self.sent, _spoken(found.content, self._recorded.messages))
        else:
            raise UnclearError(f"the API does not show whether the last messages arrived in {self.remote_id}")

    def _id(self) -> str:
        if not self.remote_id:
            raise UnclearError("the API gave no id for the conversation that it created")
        return self.remote_id


def _statuses(status: str, *, whole: bool) -> Iterator[tuple[bool, Status]]:
    """Statuses to create with, best first, each with whether it is the last: a server may not know `active`."""
    ended: dict[str, list[Status]] = {"completed": ["completed"], "abandoned": ["abandoned"]}
    opened: list[Status] = ["active", "in_progress"]
    statuses = ended.get(status, opened) if whole else opened
    yield from ((each == statuses[-1], each) for each in statuses)


def _spoken(content: str, messages: Sequence[Message]) -> int:
    """Count the messages of a transcript that match, in order; structured content is as it was created."""
    if content.lstrip().startswith("{"):
        return len(parse(content).messages)
    at = count = 0
    for number, message in enumerate(messages, 1):
        text = message["content"].strip()
        found = content.find(text, at) if text else -1
        if found >= 0:
            at, count = found + len(text), number
        elif text:
            break
    return count


def _opening(messages: Sequence[Message]) -> int:
    """Count the messages for the create: the leading ones that lose nothing by it, at least one."""
    plain, size = 0, 0
    for message in messages:
        size += len(to_json(message))
        if message["role"] not in ("system", "user") or not _loses_nothing(message) or size > MAX_BATCH_BYTES:
            break
        plain += 1
    return max(1, plain)


def _loses_nothing(message: Message) -> bool:
    more = message.keys() - {*CONTENT_FIELDS, "metadata"}
    return not more and (message.get("metadata") or {}).keys() <= _IDS


def _batch(messages: Sequence[Any]) -> Sequence[Any]:
    size = 0
    for at, message in enumerate(messages[:MAX_BATCH]):
        size += len(message["content"].encode())
        if at and size > MAX_BATCH_BYTES:
            return messages[:at]
    return messages[:MAX_BATCH]
