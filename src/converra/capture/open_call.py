"""One model call under way, and what a recording waits for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter, time
from typing import Protocol

import msgspec

from converra.capture.sightings import Sighting
from converra.history.record import Snapshot
from converra.history.turn import Answer, Facts, Failure, Run
from converra.process.guard import guard, report


class Pending(Protocol):
    """A turn that is still to be recorded: a call under way, or one that a reader of spans holds back."""

    asked: bool

    def cut(self) -> None:
        """Record it as far as it has come: the process ends."""

    def hurry(self) -> None:
        """Record it now if it is over: the conversation ends, and its caller waits for the delivery."""


class Taker(Protocol):
    """The recording that a call belongs to, as the call sees it."""

    def over(
        self, call: OpenCall, snapshot: Snapshot, answer: Answer | None, failure: Failure | None, facts: Facts
    ) -> None:
        """Record a turn that is over."""

    def ask(self, snapshot: Snapshot, facts: Facts) -> None:
        """Record what was asked by a call that stays under way."""

    def forget(self, call: Pending) -> None:
        """Forget a call."""

    def reject(self, answer: Answer, error: BaseException) -> None:
        """Record that the app could not read an answer."""


class OpenCall(msgspec.Struct, eq=False):
    """Implements `integrations.CapturedCall`: one model call under way. The first `end`, `fail` or `cut` counts."""

    _recording: Taker
    _snapshot: Snapshot
    _span: tuple[int, int]
    _once: list[bool]
    _started: float
    _ticks: float
    _run: Run | None = None
    sighting: Sighting | None = None
    """The mark by which a reader of spans recognises the call; None while there is no such reader."""
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
                failure = Failure.in_answer(answer)
                answer = None if failure else answer
            try:
                self._once.pop()  # atomic, unlike a flag: a finalizer and a reader may meet here
            except IndexError:
                return
            first = None if self._first is None else (self._first - self._ticks) * 1000
            latency = ((ended or perf_counter()) - self._ticks) * 1000
            facts = Facts(self._started, latency, first, *self._span, self._run, self.sighting)
            if self.sighting is not None:
                self.sighting.is_open = False
            self._recording.over(self, self._snapshot, answer, failure, facts)
        except Exception as error:  # noqa: BLE001 - a guard without a frame of its own
            report("recording an answer", error)

    def fail(self, error: BaseException, answer: Answer | None = None) -> None:
        """Record the request with its error, and the part of the answer that had arrived."""
        with guard("recording a failed call"):
            self.end(answer, None, Failure.of(error))

    def sent(self) -> None:
        """Note that the request is sent only now: the time of the call begins here."""
        self._started, self._ticks = time(), perf_counter()

    def unsent(self) -> None:
        """Forget the call: its request was never sent."""
        if self._once:
            self._once.clear()
            self._recording.forget(self)
            if self.sighting is not None:
                self.sighting.is_void = True

    def rejecter(self, answer: Answer) -> Callable[[BaseException], None]:
        """Return a function that records why the app could not read the answer. It does not keep the request alive."""
        return partial(self._recording.reject, answer)

    def hurry(self) -> None:
        """Do nothing: the call is still under way."""

    def cut(self) -> None:
        """Record what has arrived of a stream."""
        with guard("recording an open stream"):
            if self._so_far is not None:
                self.end(self._so_far())
