"""Background responses: `create(background=True)` returns a queued response, a later `retrieve` brings the answer."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from converra.conversation.turn import Answer
    from converra.integrations import OpenCall

MAX_WAITING = 1_000
"""Background responses that are waited for at a time; past it, the oldest is recorded as it was: queued."""

_waiting: OrderedDict[str, tuple[OpenCall, Answer]] = OrderedDict()
"""Calls without an answer yet, by the id of the response, in this process."""


class BackgroundCall:
    """A call whose end is put off while the provider is still at work."""

    def __init__(self, call: OpenCall, waiting: Answer | None = None) -> None:
        self._call = call
        self._waiting = waiting
        """What an earlier request told, if this one only asks again."""

    def first_token(self) -> None:
        """Pass it on."""
        self._call.first_token()

    def streaming(self, so_far: Callable[[], Answer]) -> None:
        """Pass it on."""
        self._call.streaming(so_far)

    def end(self, answer: Answer, ended: float | None = None) -> None:
        """Record the turn, or wait for a request that brings the rest of it."""
        if not _wait(self._call, answer):
            self._call.end(answer, ended)

    def fail(self, error: BaseException, answer: Answer | None = None) -> None:
        """Record the failure; one of asking again says nothing about the response."""
        if self._waiting is None or not _wait(self._call, self._waiting):
            self._call.fail(error, answer)


def waited_for(method: str, url: str) -> OpenCall | None:
    """The call that a request brings the answer of: a retrieval (GET /responses/{id}), or a cancellation."""
    if not _waiting:
        return None
    parts = url.partition("?")[0].strip("/").split("/")
    if method == "post" and parts[-1] == "cancel":
        parts.pop()
    elif method != "get":
        return None
    call, answer = _waiting.pop(parts[-1], (None, None))
    return call and BackgroundCall(call, answer)


def _wait(call: OpenCall, answer: Answer) -> bool:
    """Keep a call until its answer is asked for; False if there is nothing to wait for."""
    response_id = (answer.metadata or {}).get("responseId")  # told only of a response that is not finished
    if response_id is None:
        return False
    call.streaming(lambda: answer)
    _waiting[response_id] = call, answer
    if len(_waiting) > MAX_WAITING:
        oldest, queued = _waiting.popitem(last=False)[1]
        oldest.end(queued)
    return True
