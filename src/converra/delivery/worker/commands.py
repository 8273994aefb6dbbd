"""What callers tell the workers."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from converra.delivery.conversation_queue import ConversationQueue
    from converra.delivery.protocol.progress import Progress


class Command(NamedTuple):
    """What a caller has to say. It is carried out by a worker."""

    kind: str
    queue: ConversationQueue | None = None
    payload: Any = None
    since: float = 0.0


class FlushRequest:
    """Done when every conversation has come as far as it was when the flush was asked for."""

    def __init__(self, *, ends: bool = False) -> None:
        self.ends = ends
        """Whether open conversations end with it."""
        self.marks: dict[Progress, int] = {}
        self._done = threading.Event()
        self.complete = False

    @property
    def done(self) -> bool:
        """Whether nobody needs to wait any more."""
        return self._done.is_set()

    def start(self, progresses: Iterable[Progress]) -> None:
        """Remember what is to be waited for; tell the one who waits where that is nothing."""
        found = ((progress, progress.received) for progress in progresses)
        self.marks = {progress: mark for progress, mark in found if not progress.settled(mark)}
        self._finish_if_over()

    def check(self, progress: Progress) -> None:
        """Look at the one conversation that has changed; tell the one who waits if it was the last."""
        mark = self.marks.get(progress)
        if mark is not None and progress.settled(mark):
            del self.marks[progress]
            self._finish_if_over()

    def _finish_if_over(self) -> None:
        if not self.marks:
            self.finish(complete=True)

    def finish(self, *, complete: bool) -> None:
        """Tell the one who waits."""
        self.complete = complete
        self._done.set()

    def wait(self, timeout: float) -> bool:
        """Wait; True where everything was worked off in time."""
        self._done.wait(timeout)
        return self.complete


class Tickets:
    """The flushes that are waited for."""

    def __init__(self) -> None:
        self._waiting: list[FlushRequest] = []

    def start(self, flush_request: FlushRequest, progresses: Iterable[Progress]) -> None:
        """Have a flush wait for what some conversations have received so far."""
        flush_request.start(progresses)
        if not flush_request.done:
            self._waiting.append(flush_request)

    def check(self, progress: Progress) -> None:
        """Look at a conversation that has changed; no other one costs a step."""
        for flush_request in self._waiting:
            flush_request.check(progress)
        self._waiting = [flush_request for flush_request in self._waiting if not flush_request.done]

    def give_up(self) -> None:
        """Nobody should wait for what cannot be sent."""
        for flush_request in self._waiting:
            flush_request.finish(complete=False)
        self._waiting = []
