"""One model call under way, from its request to its answer, its error or the end of the process."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Protocol

import msgspec

from converra.history.record import Snapshot
from converra.history.turn import Answer, Facts, Failure, Run
from converra.process.guard import guard, report

HTTP_STATUSES = range(100, 600)


class TurnRecorder(Protocol):
    """Records the turns of one conversation: a `Recording`."""

    def over(
        self, call: OpenCall, snapshot: Snapshot, answer: Answer | None, failure: Failure | None, facts: Facts
    ) -> None:
        """Record a turn that is over, and forget its call.

        Args:
            call: The call under way.
            snapshot: Its request, as it was when the call began.
            answer: What the model answered; None if it answered nothing.
            failure: Why the answer is missing or incomplete.
            facts: When the call began, and how long it took.

        """

    def ask(self, snapshot: Snapshot, facts: Facts) -> None:
        """Record a request whose answer comes much later."""

    def reject(self, answer: Answer, error: BaseException) -> None:
        """Record that the app could not read an answer that was recorded before."""


class OpenCall(msgspec.Struct, eq=False):
    """Implements `integrations.CapturedCall`: one model call under way. The first `end`, `fail` or `cut` counts."""

    _recording: TurnRecorder
    _snapshot: Snapshot
    _span: tuple[int, int]
    _once: list[bool]
    _started: float
    _ticks: float
    _run: Run | None = None
    _first: float | None = None
    _so_far: Callable[[], Answer] | None = None
    asked: bool = False
    """The request is recorded, and the answer has not come yet."""

    def first_token(self) -> None:
        """Note that the first part of the answer has arrived."""
        if self._first is None:
            self._first = perf_counter()

    def streaming(self, so_far: Callable[[], Answer]) -> None:
        """Remember how to read what has arrived of the answer."""
        self._so_far = so_far

    def wait(self) -> None:
        """Record the request now: the answer comes much later, if at all."""
        if not self.asked and self._once:
            self.asked = True
            with guard("recording a request"):
                self._recording.ask(self._snapshot, Facts(self._started, None, None, *self._span, self._run))

    def end(self, answer: Answer | None, ended: float | None = None, failure: Failure | None = None) -> None:
        """Record the turn. An answer that holds nothing but an error counts as a failed call.

        Args:
            answer: What the model answered.
            ended: `time.perf_counter()` of the last chunk, if that was earlier than now.
            failure: Why the call failed.

        """
        try:
            if failure is None and answer is not None and not answer.messages:
                failure = _failure_in(answer)
                answer = None if failure else answer
            try:
                self._once.pop()  # atomic, unlike a flag: a finalizer and a reader may meet here
            except IndexError:
                return
            first = None if self._first is None else (self._first - self._ticks) * 1000
            latency = ((ended or perf_counter()) - self._ticks) * 1000
            facts = Facts(self._started, latency, first, *self._span, self._run)
            self._recording.over(self, self._snapshot, answer, failure, facts)
        except Exception as error:  # noqa: BLE001 - a guard without a frame of its own
            report("recording an answer", error)

    def fail(self, error: BaseException, answer: Answer | None = None) -> None:
        """Record the request with its error, and the part of the answer that had arrived."""
        with guard("recording a failed call"):
            self.end(answer, None, Failure(type(error).__name__, _http_status(error)))

    def rejecter(self, answer: Answer) -> Callable[[BaseException], None]:
        """Return a function that records why the app could not read the answer. It does not keep the request alive."""
        return partial(self._recording.reject, answer)

    def cut(self) -> None:
        """Record what has arrived of a stream."""
        with guard("recording an open stream"):
            if self._so_far is not None:
                self.end(self._so_far())


def _http_status(error: BaseException) -> int | None:
    """Return the HTTP status that an exception carries, under either of its usual names."""
    found = (getattr(error, name, None) for name in ("status_code", "code"))
    return next((status for status in found if type(status) is int and status in HTTP_STATUSES), None)


def _failure_in(answer: Answer) -> Failure | None:
    error = (answer.metadata or {}).get("error")
    return Failure(error["type"]) if error else None
