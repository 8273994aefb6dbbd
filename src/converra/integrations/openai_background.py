"""Background responses: `create(background=True)` returns a queued response, a later `retrieve` brings the answer."""

from __future__ import annotations

from collections import OrderedDict
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from converra import process

if TYPE_CHECKING:
    from collections.abc import Callable

    from converra.conversation.turn import Answer
    from converra.integrations import OpenCall

MAX_WAITING = 1_000
"""Background responses that are waited for at a time; past it, the oldest is recorded as it was: queued."""

MAX_SECONDS = 3_600.0
"""How long one is waited for, at most: its conversation is open as long. It is looked at when another one comes."""


class _Waiting(NamedTuple):
    call: OpenCall
    answer: Answer
    """What is known so far."""
    since: float


_waiting: OrderedDict[str, _Waiting] = OrderedDict()
"""Calls without an answer yet, by the id of the response, in this process: a forked child leaves them to its parent."""

process.in_child(_waiting.clear)


class BackgroundCall:
    """A call whose end is put off while the provider is still at work."""

    def __init__(self, call: OpenCall, waiting: Answer | None = None, since: float | None = None) -> None:
        self._call = call
        self._waiting = waiting
        """What an earlier request told, if this one only asks again."""
        self._since = monotonic() if since is None else since

    def first_token(self) -> None:
        """Pass it on."""
        self._call.first_token()

    def streaming(self, so_far: Callable[[], Answer]) -> None:
        """Pass it on."""
        self._call.streaming(so_far)

    def end(self, answer: Answer, ended: float | None = None) -> None:
        """Record the turn, or wait for a request that brings the rest of it."""
        if not self._wait(answer):
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
        _waiting[response_id] = _Waiting(self._call, answer, self._since)
        _give_up()
        return True


def waited_for(method: str, url: str) -> OpenCall | None:
    """The call that a request brings the answer of: a retrieval (GET /responses/{id}), or a cancellation."""
    if not _waiting:
        return None
    parts = url.partition("?")[0].strip("/").split("/")
    if method == "post" and parts[-1] == "cancel":
        parts.pop()
    elif method != "get":
        return None
    found = _waiting.pop(parts[-1], None)
    return None if found is None else BackgroundCall(found.call, found.answer, found.since)


def _give_up() -> None:
    """Record those as they are that have been waited for too long, and the oldest of too many."""
    before = monotonic() - MAX_SECONDS
    overdue = max(0, len(_waiting) - MAX_WAITING)
    late = [name for n, (name, one) in enumerate(list(_waiting.items())) if n < overdue or one.since < before]
    for name in late:
        found = _waiting.pop(name, None)
        if found is not None:
            found.call.end(found.answer)
