"""Carries out the next request of one conversation, and takes in what came of it."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from converra.api import retry
from converra.delivery.protocol import readback, requests
from converra.delivery.protocol.batching import ReadBack, plan
from converra.delivery.protocol.progress import Batch, Opening
from converra.delivery.protocol.refusals import Refusals
from converra.delivery.worker.transport import WAITS
from converra.errors import APIConnectionError, APIStatusError, APITimeoutError, ConverraError, UnreadableResponseError
from converra.process.guard import guard, log_limited
from converra.wire import json_safe

if TYPE_CHECKING:
    from collections.abc import Callable

    from converra.api.operations import Operation
    from converra.api.results import Conversation
    from converra.config import Config
    from converra.delivery.outbox import Outbox
    from converra.delivery.protocol.batching import Step
    from converra.delivery.protocol.entry import EncodedMessage
    from converra.delivery.protocol.progress import Progress
    from converra.delivery.stats import Counters
    from converra.delivery.worker.transport import Connection

_OVER = ("completed", "abandoned")

QUICK_REFUSALS = 20
"""So many refusals in a row are answered without a pause; finding one bad message among 500 takes nine."""


TELL_AFTER = 3
"""So many failures in a row are said, and one that took a whole timeout at once: nobody should find out at the end."""


BLIND_AFTER = 3
"""So many tries in a row that bring no answer which can be read, and a conversation is not read back any more."""


class Outcome(NamedTuple):
    """What a request means for the others: idle (there was none), answered, failed, limited, refused (the key)."""

    kind: str
    wait: float = 0.0


IDLE = Outcome("idle")
ANSWERED = Outcome("answered")


class Sender:
    """Serves one conversation at a time; any number of threads may use it for different conversations."""

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
        self._counters = counters
        self._interval = config.flush_interval
        self._settling = config.timeout / 4
        """Seconds for which an append that got no answer in time may still be stored."""
        self._host = urlsplit(config.base_url).netloc.rpartition("@")[2]
        self._monotonic = monotonic
        self._now = now
        self._jitter = jitter
        self._refusals = Refusals(self._left)

    def serve(self, progress: Progress, connection: Connection, timeout: float) -> Outcome:
        """Do the one thing that is next for a conversation."""
        step = self._decide(progress)
        if step is None:
            return IDLE
        answer = self._send(progress, step, connection, timeout)
        if isinstance(answer, ConverraError):
            outcome = self._failed(progress, step, answer)
        else:
            progress.attempts, progress.refusals, progress.retry_at = 0, 0, 0.0
            self._succeeded(progress, step, answer)
            outcome = ANSWERED
        self._outbox.save(progress)
        return outcome

    def _decide(self, progress: Progress) -> Step:
        """Plan, and write down what is about to be sent: a crash from here on leaves a question, not a doubt."""
        ended = progress.ended  # read before the messages: when it is set, all of them are there
        self._prepare(progress)
        fresh = (
            not (ended or progress.send_now)
            and progress.entries
            and progress.newest + self._interval > self._monotonic()
        )
        step = plan(progress, ended=ended, held_back=1 if fresh else 0, refused=self._refusals.statuses)
        if isinstance(step, Opening):
            progress.state.opening = step
        elif isinstance(step, Batch):
            progress.state.unsettled, progress.accepted = step, False
        if step is not None:
            self._outbox.save(progress)
        return step

    def _prepare(self, progress: Progress) -> None:
        while progress.notes:
            row, metadata = progress.notes.popleft()
            progress.file.noted = max(progress.file.noted, row)
            progress.annotate(json_safe.plain(metadata))
        while progress.arrived:
            made = self._outbox.entries(*progress.arrived.popleft())
            progress.entries.extend(made or ())
            if not made:
                self._counters.add(**{"rejected" if made is None else "withheld": 1})
                progress.gone += 1

    def _send(
        self, progress: Progress, step: Opening | Batch | ReadBack, connection: Connection, timeout: float
    ) -> Any:
        """The answer, or the error; an exception of another kind (a test's network guard) may mean anything."""
        self._counters.add(requests=1)
        with guard("sending to the API"):
            try:
                operation = _operation(progress, step)
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
        elif isinstance(step, Opening):
            self._created(progress, step, answer)
        elif progress.state.opener_unknown:
            self._joined(progress, answer)
        else:
            self._settled(progress, answer)

    def _created(self, progress: Progress, opening: Opening, answer: Conversation) -> None:
        progress.state.id = answer.id
        if not (progress.header.shared and (opening.entries or progress.has_already_known)):
            self._opened(progress, opening, answer, ours=True)
        else:
            progress.state.opener_unknown = True

    def _joined(self, progress: Progress, answer: Conversation) -> None:
        opening = progress.state.opening
        if opening is not None:
            held = [progress.entries[index] for index in range(opening.entries)] or [progress.first_words]
            ours = readback.is_ours(answer, progress, held)
            self._opened(progress, opening, answer, ours=ours)
            if not ours:
                texts, signatures = readback.system_texts(answer), readback.opener_signatures(answer)
                self._withhold(progress, progress.drop_sent_by_opener(texts, signatures))

    def _withhold(self, progress: Progress, left: list[EncodedMessage]) -> None:
        """Let go of messages that are not ours to send."""
        self._counters.add(withheld=sum(entry.whole for entry in left))
        self._outbox.release(progress, left)

    def _opened(self, progress: Progress, opening: Opening, answer: Conversation, *, ours: bool) -> None:
        left = progress.opened(answer.id or progress.state.id or "", opening, ours=ours)
        if progress.header.shared and answer.status in _OVER:
            progress.state.closed = True
        self._delivered(progress, left)

    def _settled(self, progress: Progress, answer: Conversation) -> None:
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

    def _delivered(self, progress: Progress, left: list[EncodedMessage]) -> None:
        self._refusals.accepted(left)
        self._left(progress, left, rejected=False)

    def _left(self, progress: Progress, left: list[EncodedMessage], *, rejected: bool = True) -> None:
        whole = sum(entry.whole for entry in left)
        self._counters.add(rejected=whole * rejected, delivered=whole * (not rejected))
        self._outbox.release(progress, left)

    # -- failure -------------------------------------------------------------------------------------------------------

    def _failed(self, progress: Progress, step: Opening | Batch | ReadBack, error: ConverraError) -> Outcome:
        self._counters.last_error = self._told(error)
        if self._refusals.is_redirect(error):
            self._refusals.say_moved(error, self._host)
            return self._later(progress, step, error)
        if self._stops_all(step, error):
            if isinstance(step, Batch):
                progress.not_stored()
            return Outcome("refused")
        if isinstance(step, Batch) and isinstance(error, UnreadableResponseError):
            progress.accepted = True
        if (retry.transient(error) and not self._is_hopeless(progress, step, error)) or self._may_pass(
            progress, step, error
        ):
            return self._later(progress, step, error)
        progress.attempts, progress.refusals = 0, progress.refusals + 1
        progress.retry_at = self._patience(progress)
        if isinstance(step, Opening):
            self._refusals.opening(progress, step, error)
        elif isinstance(step, Batch):
            self._refusals.batch(progress, step, error)
        else:
            self._blind(progress, _status(error))
        return ANSWERED

    def _stops_all(self, step: Opening | Batch | ReadBack, error: ConverraError) -> bool:
        """Whether it is not about this conversation: the key is refused, or this is not the API."""
        if retry.transient(error):
            return False
        if _status(error) in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return True
        lost = isinstance(step, Batch) and _status(error) == HTTPStatus.NOT_FOUND
        return not isinstance(step, ReadBack) and not lost and self._refusals.is_elsewhere(error)

    def _patience(self, progress: Progress) -> float:
        """At once, as each refusal leads to another request; but whoever refuses all of them is asked ever less."""
        too_many = progress.refusals - QUICK_REFUSALS
        return self._monotonic() + retry.backoff(too_many, 1.0) if too_many > 0 else 0.0

    def _told(self, error: ConverraError) -> str:
        if not isinstance(error, APIStatusError):
            return str(error)  # names the host
        what = "the answer cannot be read" if isinstance(error, UnreadableResponseError) else error.message
        return f"{error.status_code} from {self._host}: {what}"

    def _later(self, progress: Progress, step: Opening | Batch | ReadBack, error: ConverraError) -> Outcome:
        if isinstance(step, Batch) and retry.nothing_stored(error):
            progress.not_stored()
        self._counters.add(retries=1)
        progress.attempts += 1
        limited = _status(error) == HTTPStatus.TOO_MANY_REQUESTS
        said = limited or self._refusals.is_redirect(error)
        if progress.attempts >= (1 if isinstance(error, APITimeoutError) else TELL_AFTER) and not said:
            log_limited("unreachable", WAITS, self._counters.last_error)
        asked = retry.retry_after(error, self._now())
        wait = retry.backoff(progress.attempts, self._jitter()) if asked is None else asked
        if isinstance(step, Batch) and isinstance(error, APITimeoutError):
            wait = max(wait, self._settling)
        progress.retry_at = self._monotonic() + wait
        return Outcome("limited" if limited else "failed", wait)

    def _is_hopeless(self, progress: Progress, step: Opening | Batch | ReadBack, error: ConverraError) -> bool:
        """Whether a conversation cannot be read back because no answer about it can be read."""
        unreadable = isinstance(step, ReadBack) and isinstance(error, UnreadableResponseError)
        return unreadable and progress.attempts >= BLIND_AFTER

    def _may_pass(self, progress: Progress, step: Opening | Batch | ReadBack, error: ConverraError) -> bool:
        """Whether a 404 may be a replica that lags behind, or a gateway that lost its way."""
        if (
            isinstance(step, Opening)
            or not isinstance(error, APIStatusError)
            or error.status_code != HTTPStatus.NOT_FOUND
        ):
            return False
        return progress.attempts < (1 if error.code else 3)

    def _blind(self, progress: Progress, status: int) -> None:
        """The conversation cannot be read back: it is gone, or the API does not let us."""
        if status == HTTPStatus.NOT_FOUND:
            progress.move_on()
        elif progress.state.unsettled is not None and progress.accepted:
            self._delivered(progress, progress.stored(progress.state.unsettled))
        elif progress.state.unsettled is not None:
            self._send_again(progress, progress.state.unsettled, sure=False)
        elif progress.state.opening is not None:
            self._delivered(progress, progress.opened(progress.state.id or "", progress.state.opening, ours=True))


def _operation(progress: Progress, step: Opening | Batch | ReadBack) -> Operation[Any]:
    if isinstance(step, Opening):
        return requests.create(progress, step)
    if isinstance(step, Batch):
        return requests.append(progress, step)
    return requests.read_back(progress)


def _status(error: ConverraError) -> int:
    return error.status_code if isinstance(error, APIStatusError) else 0
