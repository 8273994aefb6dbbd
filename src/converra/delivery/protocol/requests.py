"""The request that carries out a step of a delivery, and what follows a permanent rejection.

One invalid message must cost no other:

=======  ================================  ========================================================================
request  answer                            next
=======  ================================  ========================================================================
create   400 that names the status         the other status: `in_progress` for `active`
create   400 that names another field,     the conversation is rejected: its messages are set aside
         404 that names the prompt
create   413 with several messages         half the messages
create   other 400, 413                    a create without the app's messages, which then go with an append; then
                                           without metadata; then the conversation is rejected
any      a redirect                        it is not followed, since the key would go along: wait, and try again
any      not the API's own error (a page)  this is not the API: wait, as for a rejected key
append   404                               the rest goes to a further conversation that names this one
append   400 that names the status         another process has completed the conversation: as for 404
append   413                               fewer messages, a further conversation, or smaller parts of the message; if
                                           it holds no recorded message, without metadata
append   any, and the conversation is      the message is set aside: it is feedback on a completed conversation
         closed
append   400                               without metadata, if it has a single message; else half the messages, down
                                           to the invalid one, which is set aside
=======  ================================  ========================================================================

Set aside means: counted as rejected, logged, and not sent again.
"""

from __future__ import annotations

from http import HTTPStatus
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

from converra.api import operations
from converra.api.results import StoredConversation
from converra.delivery.protocol import added, joining
from converra.delivery.protocol.progress import OpeningForm
from converra.errors import APIStatusError, ConverraError, PayloadTooLargeError
from converra.process.guard import log_limited
from converra.wire import details, json_safe
from converra.wire.json_safe import encode
from converra.wire.models import FEEDBACK

if TYPE_CHECKING:
    from converra.api.operations import Accepted, Operation
    from converra.delivery.protocol.entry import EncodedMessage
    from converra.delivery.protocol.progress import Batch, Opening, Progress


_FIRST_ANSWERS = 4
"""Waiting answers that are searched for the conversation's model: the first may be an error that names none."""


def create(progress: Progress, opening: Opening) -> Operation[Accepted | StoredConversation]:
    """Create the conversation (API document, "Create Conversation")."""
    header = progress.header
    return operations.create_encoded(
        prompt_id=header.prompt_id,
        content=_content(progress, opening),
        status=opening.status or None,
        llm_model=_model(progress),
        company_name=json_safe.name(header.company_name) if header.company_name else None,  # an outbox file holds any
        idempotency_key=progress.key,
    )


def _content(progress: Progress, opening: Opening) -> bytes:
    """Put the content field together from messages that are encoded already."""
    sent = [entry.apart() for entry in islice(progress.entries, opening.entries)]
    found = {str(at): msgspec.Raw(rest) for at, (_, rest) in enumerate(sent) if rest}
    metadata = progress.state.annotations | progress.state.metadata
    if progress.writer:
        metadata[joining.OPENED_BY] = progress.writer
        signatures = joining.signatures(progress.entries)
        if signatures:
            metadata[joining.SIGNATURES] = signatures
    if found:  # metadata of the user's with this name was renamed
        metadata[details.DETAILS] = found
    messages = [msgspec.Raw(content) for content, _ in sent or [added.first_words(progress).apart()]]
    return encode({"messages": messages, "metadata": metadata})


def _model(progress: Progress) -> str | None:
    """Find the model that the conversation is created with: that of the first waiting answer that names one."""
    answers = (entry for entry in progress.entries if entry.role in ("assistant", "tool"))
    named = (entry.model for entry in islice(answers, _FIRST_ANSWERS) if entry.model)
    return next((name for name in named if not name.isspace()), None)


def append(progress: Progress, batch: Batch) -> Operation[Accepted | StoredConversation]:
    """Append messages (API document, "Append Messages")."""
    sent = islice(progress.entries, batch.entries) if batch.entries else (added.instead_of_entries(progress, batch),)
    may_replace = progress.header.shared and FEEDBACK in (batch.metadata or ())  # see `judgements`
    return operations.append_encoded(
        progress.state.id or "",
        [entry.raw for entry in sent],
        status="completed" if batch.completes else None,
        metadata=batch.metadata,
        shows=may_replace,
    )


def read_back(progress: Progress) -> Operation[StoredConversation]:
    """Get the conversation (API document, "Get Conversation"), with the details of its messages left in its metadata.

    They hold the ids of the messages of the create, which must not be taken for messages of an append.
    """
    operation = operations.get_conversation(progress.state.id or "", include_insights=False)
    return msgspec.structs.replace(operation, read=StoredConversation.read_as_sent)


_API_REFUSALS = (400, 409, 413, 422)
"""Statuses with which the API itself rejects a request."""

MOVED = (
    "converra: %s answers with a redirect (%d) to %s. Redirects are not followed, because the API key must not travel "
    "to another host: set base_url (CONVERRA_BASE_URL) to the address that answers itself. Recorded messages wait, and "
    "are sent again later."
)
_AFTER_END = (
    "converra: the API takes no feedback on a completed conversation. Give it before: keep the conversation open "
    "(session_id=, keep_open=True), and complete it later (converra.complete)."
)
_METADATA_AFTER_END = (
    "converra: the API takes no metadata on a completed conversation: the fields %s are not recorded. Set them before "
    "the conversation is completed."
)
_GONE = "converra: the API no longer knows a conversation: its fields %s are not recorded."
_WITHOUT_METADATA = "converra: the API rejected a conversation's metadata; continuing without it: %s"

_MAX_ADDRESSES = 10
"""Addresses of redirects that are logged."""

_MAX_ADDRESS = 200
"""Characters of a logged address."""

_FIELDS = ("promptId", "companyName", "idempotencyKey")
"""Fields of a create without which there is no conversation."""


Fate = Literal["delivered", "rejected", "withheld"]
"""Stored by the API; refused by it for good; or left out, since another process has sent the message."""


class Settlement(Protocol):
    """Takes the messages that leave the outbox."""

    def settle(self, progress: Progress, messages: list[EncodedMessage], fate: Fate, reason: str = "") -> None:
        """Count messages by what has become of them, and free their room; `reason`: why they were rejected."""


class Refusals:
    """Decides what follows a rejection, and remembers for all conversations what this API rejects.

    Args:
        settlement: Takes the messages that are set aside or delivered.

    """

    def __init__(self, settlement: Settlement) -> None:
        self._settlement = settlement
        self._largest = 0
        """Bytes of content of the largest message that was accepted."""
        self._moved_to: set[str] = set()
        """Addresses of redirects that were logged."""
        self.statuses: frozenset[str] = frozenset()
        """Statuses that this API has rejected by name."""

    def accepted(self, entries: list[EncodedMessage]) -> None:
        """Remember the size of the largest message that this API accepts."""
        self._largest = max(self._largest, max((entry.size for entry in entries), default=0))

    def is_redirect(self, error: ConverraError) -> bool:
        """Report whether the API answered with a redirect."""
        status = _status(error)
        return HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST

    def say_moved(self, error: ConverraError, host: str) -> None:
        """Log once for each address what to do about a redirect."""
        address = _location(error)
        if address not in self._moved_to and len(self._moved_to) < _MAX_ADDRESSES:
            self._moved_to.add(address)
            log_limited(f"redirect:{address}", MOVED, host, _status(error), address)

    def is_elsewhere(self, error: ConverraError) -> bool:
        """Report whether something else than the API answered: the host or path is wrong."""
        if not isinstance(error, APIStatusError) or error.status_code in _API_REFUSALS:
            return False
        unknown_path = error.status_code == HTTPStatus.NOT_FOUND and "prompt" not in error.message.lower()
        return not error.code or unknown_path

    def opening(self, progress: Progress, opening: Opening, error: ConverraError) -> None:
        """Record that a create was rejected: another one is tried, or the conversation is given up."""
        progress.state.opening = None
        named = _named(error)
        if opening.status and ("status" in named or opening.status in str(error)):
            self.statuses |= {opening.status}
        elif _status(error) == HTTPStatus.NOT_FOUND or any(field in named for field in _FIELDS):
            self._give_up(progress, error)
        elif isinstance(error, PayloadTooLargeError) and opening.entries > 1:
            progress.state.most = opening.entries // 2
        else:
            self._try_other_form(progress, opening, error)

    def _try_other_form(self, progress: Progress, opening: Opening, error: ConverraError) -> None:
        if opening.form is OpeningForm.WITH_MESSAGES:
            progress.state.form = OpeningForm.WITHOUT_MESSAGES
        elif progress.drop_metadata():
            log_limited("metadata", _WITHOUT_METADATA, error)
        else:
            self._give_up(progress, error)

    def batch(self, progress: Progress, batch: Batch, error: ConverraError) -> None:
        """Record that an append was rejected: fewer messages, smaller ones or a further conversation are tried."""
        status, named = _status(error), _named(error)
        if progress.state.closed:
            if batch.entries:
                log_limited("after end", _AFTER_END)
            else:
                log_limited("metadata after end", _METADATA_AFTER_END, ", ".join(progress.state.owed))
            self._reject(progress, progress.refused(batch), error)
        elif status == HTTPStatus.NOT_FOUND:
            gone(progress)
        elif isinstance(error, PayloadTooLargeError) and not batch.entries and progress.drop_metadata():
            log_limited("metadata", _WITHOUT_METADATA, error)
            progress.not_stored()
        elif isinstance(error, PayloadTooLargeError):
            self._reject(progress, progress.too_large(batch, self._largest), error)
        elif "status" in named or "already completed" in str(error):
            self._completed_before(progress, batch)
        elif batch.entries <= 1 and progress.drop_metadata():
            log_limited("metadata", _WITHOUT_METADATA, error)
            progress.not_stored()
        else:
            self._reject(progress, progress.refused(batch), error)

    def _completed_before(self, progress: Progress, batch: Batch) -> None:
        """Record that the conversation is completed: by this append, if it was sent before, or by another process."""
        if progress.state.again and not progress.header.shared:
            self._settlement.settle(progress, progress.stored(batch), "delivered")
        progress.not_stored()
        progress.state.closed = True

    def _give_up(self, progress: Progress, error: ConverraError) -> None:
        self._reject(progress, progress.refuse_all(), error)

    def _reject(self, progress: Progress, left: list[EncodedMessage], error: ConverraError) -> None:
        if left:
            self._settlement.settle(progress, left, "rejected", str(error))
            log_limited("rejected", "converra: the API rejected %d messages, which are set aside: %s", len(left), error)


def gone(progress: Progress) -> None:
    """Continue in a further conversation: the API no longer knows this one."""
    if progress.state.owed and not progress.depth:
        log_limited("metadata gone", _GONE, ", ".join(progress.state.owed))
    progress.move_on()


def _status(error: ConverraError) -> int:
    return error.status_code if isinstance(error, APIStatusError) else 0


def _location(error: ConverraError) -> str:
    """Return the address of a redirect without its query, which may hold secrets."""
    location = error.headers.get("location", "") if isinstance(error, APIStatusError) else ""
    return location.partition("?")[0][:_MAX_ADDRESS] or "no address"


def _named(error: ConverraError) -> tuple[str, ...]:
    """Return the fields that an error names (API document, "Validation Error")."""
    fields: Any = error.details if isinstance(error, APIStatusError) else None
    return tuple(map(str, fields)) if isinstance(fields, dict) else ()
