"""Background responses: `create(background=True)` returns a queued response, a later `retrieve` brings the answer.

The question is recorded at once. The answer is recorded with it when this process asks for it; one that another process
has asked for, or that was given up here, is recorded where the retrieval itself belongs.
"""

from __future__ import annotations

from collections import OrderedDict
from contextvars import copy_context
from math import nan
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from converra.history.turn import Request
from converra.integrations.openai.responses import RESPONSES
from converra.process import identity

if TYPE_CHECKING:
    from collections.abc import Callable

    from converra.history.turn import Answer
    from converra.integrations import Capture, CapturedCall

MAX_WAITING = 1_000
"""Background responses that are waited for at a time; past it, the oldest is recorded as it was: queued."""

MAX_SECONDS = 3_600.0
"""How long one is waited for, at most: its conversation is open as long. It is looked at when another one comes."""

MAX_RECORDED = 10_000
"""Ids of responses whose answers are recorded, or not this process's to record: they may be retrieved again."""


class _Waiting(NamedTuple):
    call: CapturedCall
    answer: Answer
    """What is known so far."""
    since: float


_waiting: OrderedDict[str, _Waiting] = OrderedDict()
"""Calls without an answer yet, by the id of the response, in this process."""
_recorded: OrderedDict[str, None] = OrderedDict()


def _in_child() -> None:
    """Leave to the parent what it waits for."""
    for response_id in _waiting:
        _remember(response_id)
    _waiting.clear()


identity.in_child(_in_child)


class BackgroundCall:
    """A call whose end is put off while the provider is still at work."""

    def __init__(
        self,
        call: CapturedCall,
        response_id: str | None = None,
        waiting: Answer | None = None,
        since: float | None = None,
    ) -> None:
        self._call = call
        self._id = response_id
        self._waiting = waiting
        """What an earlier request told, if this one only asks again."""
        self._since = monotonic() if since is None else since

    def first_token(self) -> None:
        """Pass it on."""
        self._call.first_token()

    def streaming(self, so_far: Callable[[], Answer]) -> None:
        """Pass it on."""
        self._call.streaming(so_far)

    def wait(self) -> None:
        """Pass it on."""
        self._call.wait()

    def end(self, answer: Answer, ended: float | None = None) -> None:
        """Record the turn, or wait for a request that brings the rest of it."""
        if not self._wait(answer):
            _remember(self._id or answer.response_id)
            self._call.end(answer, ended)

    def fail(self, error: BaseException, answer: Answer | None = None) -> None:
        """Record the failure; one of asking again says nothing about the response."""
        if self._waiting is None or not self._wait(self._waiting):
            self._call.fail(error, answer)

    def _wait(self, answer: Answer) -> bool:
        """Keep the call until its answer is asked for; False if there is nothing to wait for."""
        response_id = (answer.metadata or {}).get("responseId")  # told only of a response that is not finished
        if response_id is None:
            return False
        self._call.streaming(lambda: answer)
        wait = getattr(self._call, "wait", None)  # other captures than ours may not know it
        if wait is not None:
            wait()
        _recorded.pop(response_id, None)
        _waiting[response_id] = _Waiting(self._call, answer, self._since)
        _give_up()
        return True


class RetrievedCall:
    """The retrieval of a response that nobody waits for here: it is a turn if it brings an answer.

    It belongs to the conversation that is active where it is made, or to the one that is known by the response's id.
    """

    def __init__(self, capture: Capture, response_id: str) -> None:
        self._capture = capture
        self._id = response_id
        self._context = copy_context()
        """A stream may end in another."""

    def first_token(self) -> None:
        """When the first token came is not known."""

    def streaming(self, so_far: Callable[[], Answer]) -> None:
        """A retrieval that is cut off says nothing: the answer can be retrieved again."""

    def wait(self) -> None:
        """Nothing was asked."""

    def end(self, answer: Answer, ended: float | None = None) -> None:  # noqa: ARG002 - as others end
        """Record the answer, once, if there is one."""
        at_work = "responseId" in (answer.metadata or {})
        if answer.messages and not at_work and not answer.partial and self._id not in _recorded:
            self._context.run(self._record, answer)

    def fail(self, error: BaseException, answer: Answer | None = None) -> None:
        """A retrieval that failed says nothing about the response."""

    def _record(self, answer: Answer) -> None:
        call = self._capture.begin(Request(RESPONSES, (), previous=self._id))
        if call is not None:
            _remember(self._id)
            metadata = {**(answer.metadata or {}), "responseId": self._id}
            call.end(msgspec.structs.replace(answer, metadata=metadata), nan)


def waited_for(method: str, url: str, capture: Capture | None = None) -> CapturedCall | None:
    """The call that a request brings the answer of: a retrieval (GET /responses/{id}), or a cancellation."""
    if "/responses/" not in url or not (_waiting or capture):
        return None
    parts = url.partition("?")[0].strip("/").split("/")
    if method == "post" and parts[-1] == "cancel":
        parts.pop()
    elif method != "get":
        return None
    *_, above, response_id = ("", *parts)
    if above != "responses":
        return None
    found = _waiting.pop(response_id, None)
    if found is not None:
        return BackgroundCall(found.call, response_id, found.answer, found.since)
    return None if capture is None or response_id in _recorded else RetrievedCall(capture, response_id)


def _remember(response_id: str | None) -> None:
    if response_id is not None:
        _recorded[response_id] = None
        while len(_recorded) > MAX_RECORDED:
            _recorded.popitem(last=False)


def _give_up() -> None:
    """Record those as they are that have been waited for too long, and the oldest of too many."""
    before = monotonic() - MAX_SECONDS
    overdue = max(0, len(_waiting) - MAX_WAITING)
    late = [name for n, (name, one) in enumerate(list(_waiting.items())) if n < overdue or one.since < before]
    for name in late:
        found = _waiting.pop(name, None)
        if found is not None:
            found.call.end(found.answer)
