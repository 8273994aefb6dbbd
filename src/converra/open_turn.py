"""One model call under way, from its request to whatever ends it."""

from __future__ import annotations

from time import perf_counter, time
from typing import TYPE_CHECKING, Protocol

from converra.conversation.turn import Facts, Failure
from converra.guard import guarded
from converra.telemetry import current_span_ids

if TYPE_CHECKING:
    from collections.abc import Callable

    from converra.conversation.turn import Answer
    from converra.conversation.view import View


class Owner(Protocol):
    """What records the turn: the recording of its conversation."""

    def over(self, turn: OpenTurn, view: View, answer: Answer | None, failure: Failure | None, facts: Facts) -> None:
        """Record a turn that is over, and forget its call."""


class OpenTurn:
    """One call under way: the `OpenCall` that integrations see. The first `end`, `fail` or `cut` counts."""

    __slots__ = ("__weakref__", "_first", "_once", "_recording", "_so_far", "_span", "_started", "_ticks", "_view")

    def __init__(self, recording: Owner, view: View) -> None:
        self._recording = recording
        self._view = view
        self._span = current_span_ids()
        self._first: float | None = None
        self._so_far: Callable[[], Answer] | None = None
        self._once = [True]
        self._started = time()
        self._ticks = perf_counter()

    def first_token(self) -> None:
        """Note that the first part of the answer has arrived."""
        if self._first is None:
            self._first = perf_counter()

    def streaming(self, so_far: Callable[[], Answer]) -> None:
        """Remember how to read what has arrived."""
        self._so_far = so_far

    @guarded("recording an answer")
    def end(self, answer: Answer, ended: float | None = None) -> None:
        """Record the turn. An answer that says nothing but what went wrong is that of a call that failed."""
        failure = None if answer.said else _failure_in(answer)
        self._close(None if failure else answer, failure, ended)

    @guarded("recording a failed call")
    def fail(self, error: BaseException, answer: Answer | None = None) -> None:
        """Record the request with its error, and whatever of the answer had arrived."""
        status = getattr(error, "status_code", None)
        self._close(answer, Failure(type(error).__name__, status if isinstance(status, int) else None), None)

    @guarded("recording an open stream")
    def cut(self) -> None:
        """Record what has arrived of a stream."""
        if self._so_far is not None:
            self._close(self._so_far(), None, None)

    def _close(self, answer: Answer | None, failure: Failure | None, ended: float | None) -> None:
        try:
            self._once.pop()  # atomic, unlike a flag: a finalizer and a reader may meet here
        except IndexError:
            return
        first = None if self._first is None else (self._first - self._ticks) * 1000
        latency = ((ended or perf_counter()) - self._ticks) * 1000
        trace_id, span_id = self._span
        facts = Facts(self._started, latency, first, trace_id, span_id)
        self._recording.over(self, self._view, answer, failure, facts)


def _failure_in(answer: Answer) -> Failure | None:
    error = (answer.metadata or {}).get("error")
    return Failure(error["type"]) if error else None
