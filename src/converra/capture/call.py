"""One model call under way, from its request to whatever ends it."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Protocol

import msgspec

from converra.history.snapshot import Snapshot
from converra.history.turn import Answer, Facts, Failure
from converra.process.guard import guard, report


class Owner(Protocol):
    """What records the turn: the recording of its conversation."""

    def over(
        self, turn: OpenCall, snapshot: Snapshot, answer: Answer | None, failure: Failure | None, facts: Facts
    ) -> None:
        """Record a turn that is over, and forget its call."""

    def ask(self, snapshot: Snapshot, facts: Facts) -> None:
        """Record what was asked by a turn whose answer comes much later."""


class OpenCall(msgspec.Struct, eq=False):
    """One call under way: the `CapturedCall` that integrations see. The first `end`, `fail` or `cut` counts."""

    _recording: Owner
    _snapshot: Snapshot
    _span: tuple[int, int]
    _once: list[bool]
    _started: float
    _ticks: float
    _first: float | None = None
    _so_far: Callable[[], Answer] | None = None
    asked: bool = False
    """The question is recorded, and the answer is not there yet."""

    def first_token(self) -> None:
        """Note that the first part of the answer has arrived."""
        if self._first is None:
            self._first = perf_counter()

    def streaming(self, so_far: Callable[[], Answer]) -> None:
        """Remember how to read what has arrived."""
        self._so_far = so_far

    def wait(self) -> None:
        """Record the question now: the answer comes much later, if at all."""
        if not self.asked and self._once:
            self.asked = True
            with guard("recording a question"):
                self._recording.ask(self._snapshot, Facts(self._started, None, None, *self._span))

    def end(self, answer: Answer | None, ended: float | None = None, failure: Failure | None = None) -> None:
        """Record the turn. An answer that says nothing but what went wrong is that of a call that failed."""
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
            facts = Facts(self._started, latency, first, *self._span)
            self._recording.over(self, self._snapshot, answer, failure, facts)
        except Exception as error:  # noqa: BLE001 - a guard without a frame of its own
            report("recording an answer", error)

    def fail(self, error: BaseException, answer: Answer | None = None) -> None:
        """Record the request with its error, and whatever of the answer had arrived."""
        with guard("recording a failed call"):
            status = getattr(error, "status_code", None)
            self.end(answer, None, Failure(type(error).__name__, status if isinstance(status, int) else None))

    def cut(self) -> None:
        """Record what has arrived of a stream."""
        with guard("recording an open stream"):
            if self._so_far is not None:
                self.end(self._so_far())


def _failure_in(answer: Answer) -> Failure | None:
    error = (answer.metadata or {}).get("error")
    return Failure(error["type"]) if error else None
