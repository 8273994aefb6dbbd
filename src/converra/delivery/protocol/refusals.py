"""What the API refuses for good, and what is tried instead, so that one bad message costs no other.

=====  =================================  =========================================================================
what   answer                             then
=====  =================================  =========================================================================
create 400 that names the status          the other status: `in_progress` for `active`
create 400 that names another field, 404  the conversation is refused
       that names the prompt
create 413 with several messages          half the messages
create 400, 413                           with no message of the user's, which then go with an append, then without
                                          metadata; then the conversation is refused
any    a redirect                         it is not followed, since the key would go along: wait, and try again
any    no error of the API (a 404 page)   this is not the API: wait, as for a refused key
append 404                                the rest goes on in a new conversation that names the old
append 400 that names the status          the conversation was completed by another: as for 404
append 413                                fewer messages, a new conversation, or smaller parts of the message
append 400                                half the messages, down to the one that is bad, which is set aside
=====  =================================  =========================================================================
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

from converra.delivery.protocol.progress import OpeningForm
from converra.errors import APIStatusError, ConverraError, PayloadTooLargeError
from converra.process.guard import log_limited

if TYPE_CHECKING:
    from converra.delivery.protocol.entry import EncodedMessage
    from converra.delivery.protocol.progress import Batch, Opening, Progress

_API_REFUSALS = (400, 409, 413, 422)
MOVED = (
    "converra: %s answers with a redirect (%d) to %s. Redirects are not followed, because the API key must not travel "
    "to another host: set base_url (CONVERRA_BASE_URL) to the address that answers itself. What is recorded waits, and "
    "is tried again."
)
_MOST_SAID = 10
_LONGEST_ADDRESS = 200
_FIELDS = ("promptId", "companyName", "idempotencyKey")


class Leave(Protocol):
    """Takes messages that were refused."""

    def __call__(self, progress: Progress, left: list[EncodedMessage], *, rejected: bool = True) -> None:
        """Count them and let go of them."""


class Refusals:
    """Remembers what this API refuses, for all conversations."""

    def __init__(self, leave: Leave) -> None:
        self._leave = leave
        self._largest = 0
        self._moved_to: set[str] = set()
        self.statuses: frozenset[str] = frozenset()
        """Refused by name."""

    def accepted(self, entries: list[EncodedMessage]) -> None:
        """Remember how large a message this API takes."""
        self._largest = max(self._largest, max((entry.size for entry in entries), default=0))

    def is_redirect(self, error: ConverraError) -> bool:
        """Whether the API answered that it is somewhere else."""
        status = _status(error)
        return HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST

    def say_moved(self, error: ConverraError, host: str) -> None:
        """Say once for each address what to do about a redirect."""
        where = _location(error)
        if where not in self._moved_to and len(self._moved_to) < _MOST_SAID:
            self._moved_to.add(where)
            log_limited(f"redirect:{where}", MOVED, host, _status(error), where)

    def is_elsewhere(self, error: ConverraError) -> bool:
        """Whether something answered that is not the API: a wrong host or path."""
        if not isinstance(error, APIStatusError) or error.status_code in _API_REFUSALS:
            return False
        unknown_path = error.status_code == HTTPStatus.NOT_FOUND and "prompt" not in error.message.lower()
        return not error.code or unknown_path

    def opening(self, progress: Progress, opening: Opening, error: ConverraError) -> None:
        """A create was refused: try another one, or give the conversation up."""
        progress.state.opening = None
        named = _named(error)
        if opening.status and ("status" in named or opening.status in str(error)):
            self.statuses |= {opening.status}
        elif _status(error) == HTTPStatus.NOT_FOUND or any(field in named for field in _FIELDS):
            self._give_up(progress, error)
        elif isinstance(error, PayloadTooLargeError) and opening.entries > 1:
            progress.state.most = opening.entries // 2
        else:
            self._other_form(progress, opening, error)

    def _other_form(self, progress: Progress, opening: Opening, error: ConverraError) -> None:
        if opening.form is OpeningForm.WITH_MESSAGES:
            progress.state.form = OpeningForm.WITHOUT_MESSAGES
        elif progress.drop_metadata():
            log_limited(
                "metadata", "converra: the API refused the metadata of a conversation, which goes without: %s", error
            )
        else:
            self._give_up(progress, error)

    def batch(self, progress: Progress, batch: Batch, error: ConverraError) -> None:
        """An append was refused."""
        status, named = _status(error), _named(error)
        if status == HTTPStatus.NOT_FOUND:
            progress.move_on()
        elif isinstance(error, PayloadTooLargeError):
            self._reject(progress, progress.too_large(batch, self._largest), error)
        elif "status" in named or "already completed" in str(error):
            self._over(progress, batch)
        elif batch.entries <= 1 and progress.drop_metadata():
            log_limited(
                "metadata", "converra: the API refused the metadata of a conversation, which goes without: %s", error
            )
            progress.not_stored()
        else:
            self._reject(progress, progress.refused(batch), error)

    def _over(self, progress: Progress, batch: Batch) -> None:
        """The conversation is completed already: by our own append of unknown fate, or by somebody else."""
        if progress.state.again and not progress.header.shared:
            self._leave(progress, progress.stored(batch), rejected=False)
        progress.not_stored()
        progress.state.closed = True

    def _give_up(self, progress: Progress, error: ConverraError) -> None:
        self._reject(progress, progress.refuse_all(), error)

    def _reject(self, progress: Progress, left: list[EncodedMessage], error: ConverraError) -> None:
        if left:
            self._leave(progress, left)
            log_limited("rejected", "converra: the API refused %d messages, which are set aside: %s", len(left), error)


def _status(error: ConverraError) -> int:
    return error.status_code if isinstance(error, APIStatusError) else 0


def _location(error: ConverraError) -> str:
    """Where a redirect leads, without what a query may hold."""
    location = error.headers.get("location", "") if isinstance(error, APIStatusError) else ""
    return location.partition("?")[0][:_LONGEST_ADDRESS] or "no address"


def _named(error: ConverraError) -> tuple[str, ...]:
    """The fields that an error names (API document, "Validation Error")."""
    details: Any = error.details if isinstance(error, APIStatusError) else None
    return tuple(map(str, details)) if isinstance(details, dict) else ()
