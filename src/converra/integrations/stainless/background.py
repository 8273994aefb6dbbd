"""Answers made in the background: one request queues the answer, a later one retrieves it.

The question is recorded at once. If this process retrieves the answer, it is recorded in the same turn. An answer that
another process queued, or that was given up here, is recorded where its retrieval belongs.
"""

from __future__ import annotations

from collections import OrderedDict
from contextvars import copy_context
from math import nan
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from converra.history.turn import Request
from converra.process import lifecycle

if TYPE_CHECKING:
    from collections.abc import Callable

    from converra.history.turn import Answer, Dialect
    from converra.integrations import Capture, CapturedCall

MAX_WAITING = 1_000
"""Most queued answers that are waited for at a time. Past it, the oldest is recorded as it was: queued."""

MAX_SECONDS = 3_600.0
"""Longest wait for a queued answer, since its conversation stays open meanwhile. Checked when another one is queued."""

MAX_RECORDED = 10_000
"""Most ids kept of answers that this process has recorded, or must not record: they may be retrieved again."""


class _Waiting(NamedTuple):
    """A call whose answer is still queued."""

    call: CapturedCall
    answer: Answer
    """The answer as far as it is known."""
    since: float


_waiting: OrderedDict[str, _Waiting] = OrderedDict()
"""Calls of this process without an answer yet, by the id of the answer."""
_recorded: OrderedDict[str, None] = OrderedDict()


class _ParentsCalls:
    """The calls that the parent of a forked child waits for."""

    def after_fork(self) -> None:
        """Leave them to the parent."""
        for response_id in _waiting:
            _remember(response_id)
        _waiting.clear()


_parents_calls = _ParentsCalls()
lifecycle.in_child(lifecycle.Phase.CAPTURE, _parents_calls)


class BackgroundCall:
    """A call that stays open while the provider is still at work on its answer."""

    def __init__(
        self,
        call: CapturedCall,
        response_id: str | None = None,
        queued: Answer | None = None,
        since: float | None = None,
    ) -> None:
        self._call = call
        self._id = response_id
        self._queued = queued
        """The answer to the earlier request, if this one retrieves."""
        self._since = monotonic() if since is None else since

    def first_token(self) -> None:
        """Note the first token at the call."""
        self._call.first_token()

    def streaming(self, so_far: Callable[[], Answer]) -> None:
        """Register the stream at the call."""
        self._call.streaming(so_far)

    def wait(self) -> None:
        """Record the question now."""
        self._call.wait()

    def end(self, answer: Answer, ended: float | None = None) -> None:
        """Record the turn, or keep the call until a request retrieves the rest of its answer."""
        if not self._wait(answer):
            _remember(self._id or answer.response_id)
            self._call.end(answer, ended)

    def fail(self, error: BaseException, answer: Answer | None = None) -> None:
        """Record the failure. A retrieval that fails says nothing about the answer: the call stays open."""
        if self._queued is None or not self._wait(self._queued):
            self._call.fail(error, answer)

    def _wait(self, answer: Answer) -> bool:
        """Keep the call until its answer is retrieved; return False if the answer is finished."""
        response_id = (answer.metadata or {}).get("responseId")  # only unfinished answers have it
        if response_id is None:
            return False
        self._call.streaming(lambda: answer)
        wait = getattr(self._call, "wait", None)  # a Capture of another package may lack it
        if wait is not None:
            wait()
        _recorded.pop(response_id, None)
        _waiting[response_id] = _Waiting(self._call, answer, self._since)
        _give_up_overdue()
        return True


class RetrievedCall:
    """The retrieval of an answer that this process does not wait for; a turn only if it brings an answer.

    It belongs to the conversation that is active where it is made, or to the one known by the response's id.
    """

    def __init__(self, capture: Capture, response_id: str, dialect: Dialect) -> None:
        self._capture = capture
        self._id = response_id
        self._dialect = dialect
        self._context = copy_context()
        """The context of the request: a stream may end in another."""

    def first_token(self) -> None:
        """Do nothing: the time of the first token is not known."""

    def streaming(self, so_far: Callable[[], Answer]) -> None:
        """Do nothing: a retrieval that is cut short can be made again."""

    def wait(self) -> None:
        """Do nothing: a retrieval asks no question."""

    def end(self, answer: Answer, ended: float | None = None) -> None:  # noqa: ARG002 - the Protocol's signature
        """Record the answer, once, if it is finished."""
        at_work = "responseId" in (answer.metadata or {})
        if answer.messages and not at_work and not answer.partial and self._id not in _recorded:
            self._context.run(self._record, answer)

    def fail(self, error: BaseException, answer: Answer | None = None) -> None:
        """Do nothing: a failed retrieval says nothing about the answer."""

    def _record(self, answer: Answer) -> None:
        call = self._capture.begin(Request(self._dialect, (), previous=self._id))
        if call is not None:
            _remember(self._id)
            metadata = {**(answer.metadata or {}), "responseId": self._id}
            call.end(msgspec.structs.replace(answer, metadata=metadata), nan)


def resume(response_id: str, capture: Capture, dialect: Dialect) -> BackgroundCall | RetrievedCall | None:
    """Return the call that a retrieval of this answer ends; None if the answer is recorded already."""
    waiting = _waiting.pop(response_id, None)
    if waiting is not None:
        return BackgroundCall(waiting.call, response_id, waiting.answer, waiting.since)
    return None if response_id in _recorded else RetrievedCall(capture, response_id, dialect)


def _remember(response_id: str | None) -> None:
    if response_id is not None:
        _recorded[response_id] = None
        while len(_recorded) > MAX_RECORDED:
            _recorded.popitem(last=False)


def _give_up_overdue() -> None:
    """Record calls as they are if they have waited for too long, or are the oldest of too many."""
    before = monotonic() - MAX_SECONDS
    surplus = max(0, len(_waiting) - MAX_WAITING)
    overdue = [
        response_id
        for n, (response_id, waiting) in enumerate(list(_waiting.items()))
        if n < surplus or waiting.since < before
    ]
    for response_id in overdue:
        waiting = _waiting.pop(response_id, None)
        if waiting is not None:
            waiting.call.end(waiting.answer)
