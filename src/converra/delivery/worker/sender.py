"""The sender: carries out the next request of one conversation, and applies its answer to the conversation.

`plan` names the request, the progress keeps it until its fate is known, and the outbox saves the progress before the
request and after it. So after a crash the next process knows which request may have been stored.

========  ===========================  =================================================================================
request   answer                       then
========  ===========================  =================================================================================
create    success                      the conversation is open; what the create held is delivered
create    success, shared session      read it back, to learn whether this process or another one opened it
append    success                      its messages are delivered
append    with feedback, in a shared   before it, read it back: the feedback of other processes is sent again, since
          session                      the API would replace it
append    unknown: a timeout, a lost   read it back: the batch is delivered if it is there, else it is sent again
          answer, a 5xx
any       408, 425, 429, 5xx, network  retry with backoff, or after `Retry-After`
any       401, 403, not this API       all conversations wait for a slow probe
any       another refusal              see `protocol/requests.py`
========  ===========================  =================================================================================
"""

from __future__ import annotations

import math
from enum import Enum, auto
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from converra.api import retry
from converra.api.results import StoredConversation
from converra.delivery.protocol import added, judgements, late_errors, readback, requests
from converra.delivery.protocol.batching import ReadBack, plan
from converra.delivery.protocol.progress import Batch, Opening
from converra.delivery.protocol.requests import Refusals
from converra.delivery.worker.transport import WAITS
from converra.errors import APIConnectionError, APIStatusError, APITimeoutError, ConverraError, UnreadableResponseError
from converra.process.guard import guard, log_limited
from converra.wire import json_safe

if TYPE_CHECKING:
    from collections.abc import Callable

    from converra.api.operations import Accepted, Operation
    from converra.config import Config
    from converra.delivery.outbox import Outbox
    from converra.delivery.protocol.batching import Step
    from converra.delivery.protocol.entry import EncodedMessage
    from converra.delivery.protocol.progress import Progress
    from converra.delivery.protocol.requests import Fate
    from converra.delivery.stats import Counters
    from converra.delivery.worker.transport import Connection

_OVER = ("completed", "abandoned")

QUICK_REFUSALS = 20
"""Refusals in a row after which the next request follows at once; finding one bad message among 500 takes nine."""

UNSAVED_SECONDS = 0.5
"""Seconds until a request whose state could not be saved is tried again."""

LOG_AFTER = 3
"""Failures in a row until one is logged. A timeout is logged at once: else it may stay unknown until the exit."""

UNREADABLE_AFTER = 3
"""Unreadable answers in a row after which a conversation is no longer read back."""


class OutcomeKind(Enum):
    """The meaning of one request's outcome for the other conversations."""

    IDLE = auto()
    """There was nothing to send."""
    ANSWERED = auto()
    """The API is well: it stored the request, or refused it for a reason of its own."""
    FAILED = auto()
    """The API failed or could not be reached."""
    RATE_LIMITED = auto()
    KEY_REFUSED = auto()
    """The API refused the key, or the host is not the API."""


class Outcome(NamedTuple):
    """The outcome of one request, with the seconds until the next one may go where it failed or was rate limited."""

    kind: OutcomeKind
    wait: float = 0.0


IDLE = Outcome(OutcomeKind.IDLE)
ANSWERED = Outcome(OutcomeKind.ANSWERED)


class OutboxSettlement:
    """Counts the messages that leave the outbox, and frees their room. Implements `refusals.Settlement`."""

    def __init__(self, outbox: Outbox, counters: Counters) -> None:
        self._outbox = outbox
        self._counters = counters

    def settle(self, progress: Progress, messages: list[EncodedMessage], fate: Fate, reason: str = "") -> None:
        """Count the recorded ones: a split message counts once, a synthetic one not at all. Free their room."""
        self._counters.add(**{fate: sum(message.whole for message in messages)})
        self._outbox.release(progress, messages, reason)


class Sender:
    """Serves one conversation at a time; any number of threads may use it for different conversations.

    `monotonic` and `now` return seconds, `jitter` a random number from 0 to 1.
    """

    def __init__(
        self,
        outbox: Outbox,
        counters: Counters,
        *,
        config: Config,
        monotonic: Callable[[], float],
        now: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        self._outbox = outbox
        self._file = outbox.file
        self._counters = counters
        self._interval = config.flush_interval
        self._storing_seconds = config.timeout / 4
        """Seconds for which the API may still be storing an append that it did not answer in time."""
        self._host = urlsplit(config.base_url).netloc.rpartition("@")[2]
        self._monotonic = monotonic
        self._now = now
        self._jitter = jitter
        self._settlement = OutboxSettlement(outbox, counters)
        self._refusals = Refusals(self._settlement)

    def serve(self, progress: Progress, connection: Connection, timeout: float) -> Outcome:
        """Send the next request of a conversation, waiting at most `timeout` seconds for its answer."""
        step = self._decide(progress)
        if step is None:
            return IDLE
        if self._file is not None and not self._file.save(progress, sends=True):
            if isinstance(step, Batch):
                progress.not_stored()
            progress.retry_at = self._monotonic() + UNSAVED_SECONDS
            return IDLE
        answer = self._send(progress, step, connection, timeout)
        if isinstance(answer, ConverraError):
            outcome = self._failed(progress, step, answer)
        else:
            progress.attempts, progress.refusals, progress.retry_at = 0, 0, 0.0
            self._succeeded(progress, step, answer)
            outcome = ANSWERED
        if self._file is not None:
            self._file.save(progress)
        return outcome

    def _decide(self, progress: Progress) -> Step:
        """Plan the next request, which is saved before it is sent: after a crash it may have been stored."""
        ended = progress.ended  # read before the messages: once it is set, all of them are there
        carry_at, now = progress.carry_at, self._monotonic()
        if carry_at <= now:
            progress.carry_at = math.inf  # before the metadata is merged: more may come, and be asked for, meanwhile
        self._prepare(progress)
        fresh = not (ended or progress.send_now) and progress.entries and progress.newest + self._interval > now
        held_back, carry = 1 if fresh else 0, carry_at <= now
        step = plan(progress, ended=ended, held_back=held_back, refused=self._refusals.statuses, carry=carry)
        if isinstance(step, Batch):
            progress.state.unsettled, progress.accepted = step, False
            return step
        progress.carry_at = min(progress.carry_at, carry_at)
        if isinstance(step, Opening):
            if progress.state.opening is None:
                progress.offered = frozenset(progress.state.owed)
            progress.state.opening = step
        return step

    def _prepare(self, progress: Progress) -> None:
        """Encode the messages that have arrived, and merge the metadata."""
        while progress.arrived:
            made = self._outbox.entries(*progress.arrived.popleft())
            if made:
                progress.entries.extend(made)
                continue
            if made is None:
                self._counters.add(rejected=1)
            else:
                self._counters.add(withheld=1)
            progress.gone += 1
        while progress.notes:
            row, metadata, alone = progress.notes[0]
            progress.rows.noted = max(progress.rows.noted, row)
            try:
                progress.annotate(late_errors.take(progress, json_safe.plain(metadata)), alone=alone)
            finally:
                progress.notes.popleft()  # last: a flush that asks meanwhile what is owed finds it in either place
        if progress.state.late_errors:
            late_errors.apply(progress)

    def _send(
        self, progress: Progress, step: Opening | Batch | ReadBack, connection: Connection, timeout: float
    ) -> Any:
        """Return the answer, or the error that came instead of it.

        An exception of another kind, such as a test's network guard, counts as a lost answer.
        """
        self._counters.add(requests=1, readbacks=isinstance(step, ReadBack))
        with guard("sending to the API"):
            try:
                if isinstance(step, Opening):
                    operation: Operation[Any] = requests.create(progress, step)
                elif isinstance(step, Batch):
                    operation = requests.append(progress, step)
                else:
                    operation = requests.read_back(progress)
                answer = connection.send(operation, timeout=timeout)
                if isinstance(step, Opening) and not answer.id:
                    raise APIConnectionError("the answer to a create has no id")
            except ConverraError as error:
                return error
            self._counters.add(bytes=len(operation.body or b""))
            return answer
        return APIConnectionError("the request failed in an unexpected way")

    # -- success -------------------------------------------------------------------------------------------------------

    def _succeeded(self, progress: Progress, step: Opening | Batch | ReadBack, answer: Any) -> None:
        if isinstance(step, Batch):
            self._delivered(progress, progress.stored(step))
            if isinstance(answer, StoredConversation):
                judgements.restore(progress, step, answer)
        elif isinstance(step, Opening):
            self._created(progress, step, answer)
        else:
            judgements.learn(progress, answer)
            if progress.state.opener_unknown:
                self._joined(progress, answer)
            else:
                self._settle_batch(progress, answer)

    def _created(self, progress: Progress, opening: Opening, answer: Accepted | StoredConversation) -> None:
        progress.state.id = answer.id
        if progress.header.shared and (opening.entries or progress.has_already_known):
            progress.state.opener_unknown = True  # another process may have opened it: read it back
        else:
            self._opened(progress, opening, answer, ours=True)

    def _joined(self, progress: Progress, answer: StoredConversation) -> None:
        """Learn from a read-back who opened a shared conversation; skip what another process has sent."""
        opening = progress.state.opening
        if opening is None:
            return
        created = [progress.entries[index] for index in range(opening.entries)] or [added.first_words(progress)]
        ours = readback.is_ours(answer, progress, created)
        self._opened(progress, opening, answer, ours=ours)
        if not ours:
            texts, signatures = readback.system_texts(answer), readback.opener_signatures(answer)
            dropped = progress.drop_sent_by_opener(texts, signatures)  # these the opener has sent
            self._settlement.settle(progress, dropped, "withheld")

    def _opened(
        self, progress: Progress, opening: Opening, answer: Accepted | StoredConversation, *, ours: bool
    ) -> None:
        sent = progress.opened(answer.id or progress.state.id or "", opening, ours=ours)
        if progress.header.shared and answer.status in _OVER:
            progress.state.closed = True
        self._delivered(progress, sent)

    def _settle_batch(self, progress: Progress, answer: StoredConversation) -> None:
        """Learn from a read-back whether the last append was stored."""
        batch = progress.state.unsettled
        if batch is None:
            return
        stored = readback.is_stored(answer, progress, batch)
        if stored:
            self._delivered(progress, progress.stored(batch))
        else:
            self._send_again(progress, batch, sure=stored is not None)

    def _send_again(self, progress: Progress, batch: Batch, *, sure: bool) -> None:
        progress.not_stored()
        progress.state.again = True
        self._counters.add(retries=1, duplicated_risk=0 if sure else max(1, batch.entries))

    def _delivered(self, progress: Progress, messages: list[EncodedMessage]) -> None:
        self._refusals.accepted(messages)
        self._settlement.settle(progress, messages, "delivered")

    # -- failure -------------------------------------------------------------------------------------------------------

    def _failed(self, progress: Progress, step: Opening | Batch | ReadBack, error: ConverraError) -> Outcome:
        self._counters.last_error = self._described(error)
        if self._refusals.is_redirect(error):
            self._refusals.say_moved(error, self._host)
            return self._retry_later(progress, step, error)
        if self._concerns_all(step, error):
            if isinstance(step, Batch):
                progress.not_stored()
            return Outcome(OutcomeKind.KEY_REFUSED)
        if isinstance(step, Batch) and isinstance(error, UnreadableResponseError):
            progress.accepted = True
        if retry.transient(error) and not self._is_unreadable(progress, step, error):
            return self._retry_later(progress, step, error)
        if self._may_pass(progress, step, error):
            return self._retry_later(progress, step, error)
        self._refused(progress, step, error)
        return ANSWERED

    def _refused(self, progress: Progress, step: Opening | Batch | ReadBack, error: ConverraError) -> None:
        """Find another request that the API may accept."""
        progress.attempts, progress.refusals = 0, progress.refusals + 1
        # At once, as each refusal leads to another request; slower where an API refuses every one of them.
        too_many = progress.refusals - QUICK_REFUSALS
        progress.retry_at = self._monotonic() + retry.backoff(too_many, 1.0) if too_many > 0 else 0.0
        if isinstance(step, Opening):
            self._refusals.opening(progress, step, error)
        elif isinstance(step, Batch):
            self._refusals.batch(progress, step, error)
        else:
            self._cannot_read_back(progress, _status(error))

    def _concerns_all(self, step: Opening | Batch | ReadBack, error: ConverraError) -> bool:
        """Return True if the error is not about this conversation: the key is refused, or this is not the API."""
        if retry.transient(error):
            return False
        if _status(error) in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return True
        lost = isinstance(step, Batch) and _status(error) == HTTPStatus.NOT_FOUND
        return not isinstance(step, ReadBack) and not lost and self._refusals.is_elsewhere(error)

    def _described(self, error: ConverraError) -> str:
        if not isinstance(error, APIStatusError):
            return str(error)  # names the host
        what = "the answer cannot be read" if isinstance(error, UnreadableResponseError) else error.message
        return f"{error.status_code} from {self._host}: {what}"

    def _retry_later(self, progress: Progress, step: Opening | Batch | ReadBack, error: ConverraError) -> Outcome:
        if isinstance(step, Batch) and retry.nothing_stored(error):
            progress.not_stored()
        self._counters.add(retries=1)
        progress.attempts += 1
        limited = _status(error) == HTTPStatus.TOO_MANY_REQUESTS
        if not limited and not self._refusals.is_redirect(error):  # a redirect is logged already
            self._log_failures(progress, error)
        asked = retry.retry_after(error, self._now())
        wait = retry.backoff(progress.attempts, self._jitter()) if asked is None else asked
        if isinstance(step, Batch) and isinstance(error, APITimeoutError):
            wait = max(wait, self._storing_seconds)
        progress.retry_at = self._monotonic() + wait
        return Outcome(OutcomeKind.RATE_LIMITED if limited else OutcomeKind.FAILED, wait)

    def _log_failures(self, progress: Progress, error: ConverraError) -> None:
        if progress.attempts >= (1 if isinstance(error, APITimeoutError) else LOG_AFTER):
            log_limited("unreachable", WAITS, self._counters.last_error)

    def _is_unreadable(self, progress: Progress, step: Opening | Batch | ReadBack, error: ConverraError) -> bool:
        """Return True if a conversation cannot be read back, because no answer about it can be decoded."""
        unreadable = isinstance(step, ReadBack) and isinstance(error, UnreadableResponseError)
        return unreadable and progress.attempts >= UNREADABLE_AFTER

    def _may_pass(self, progress: Progress, step: Opening | Batch | ReadBack, error: ConverraError) -> bool:
        """Return True for a 404 that may come from a lagging replica or a misrouting gateway."""
        if (
            isinstance(step, Opening)
            or not isinstance(error, APIStatusError)
            or error.status_code != HTTPStatus.NOT_FOUND
        ):
            return False
        return progress.attempts < (1 if error.code else 3)

    def _cannot_read_back(self, progress: Progress, status: int) -> None:
        """Continue without reading the conversation back: it is gone, or the API does not show it."""
        progress.unread_feedback = False
        if status == HTTPStatus.NOT_FOUND:
            requests.gone(progress)
        elif progress.state.unsettled is not None and progress.accepted:
            self._delivered(progress, progress.stored(progress.state.unsettled))
        elif progress.state.unsettled is not None:
            self._send_again(progress, progress.state.unsettled, sure=False)
        elif progress.state.opening is not None:
            self._delivered(progress, progress.opened(progress.state.id or "", progress.state.opening, ours=True))


def _status(error: ConverraError) -> int:
    return error.status_code if isinstance(error, APIStatusError) else 0
