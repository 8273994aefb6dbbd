"""Commands that callers post to the workers. A caller posts one in a single step in C, and never waits for a lock."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from converra.delivery.conversation_queue import ConversationQueue

if TYPE_CHECKING:
    from collections.abc import Iterable

    from converra.delivery.protocol.progress import Progress


class Append(msgspec.Struct, frozen=True, gc=False):
    """Add messages to a conversation."""

    queue: ConversationQueue
    items: Sequence[Any]
    """One for each message, in the form that the outbox keeps; see `Outbox.put`."""
    since: float
    """When they were recorded, by the monotonic clock."""


class Annotate(msgspec.Struct, frozen=True, gc=False):
    """Merge metadata into that of a conversation."""

    queue: ConversationQueue
    row: int
    """Its row in a durable outbox; 0 for none."""
    metadata: dict[str, Any]


class SendNow(msgspec.Struct, frozen=True, gc=False):
    """Send a conversation's waiting messages without waiting for the flush interval."""

    queue: ConversationQueue


class End(msgspec.Struct, frozen=True, gc=False):
    """Complete a conversation once its messages are delivered."""

    queue: ConversationQueue
    always: bool
    """Complete it even if this process recorded nothing: another one may have opened it."""


class FlushRequest:
    """A flush that a caller waits for: done when each conversation has sent what it had received when this was posted.

    `ends`: open conversations are completed as well.
    """

    def __init__(self, *, ends: bool = False) -> None:
        self.ends: bool = ends
        self.complete: bool = False
        """Everything was delivered or set aside; False if the workers gave up."""
        self.marks: dict[Progress, int] = {}
        """Conversations to wait for: how many messages each had received."""
        self._done = threading.Event()

    @property
    def done(self) -> bool:
        """Return True once the caller need not wait any longer."""
        return self._done.is_set()

    def start(self, progresses: Iterable[Progress]) -> None:
        """Mark how far each conversation must come; finish at once if all of them are there."""
        found = ((progress, progress.received) for progress in progresses)
        self.marks = {progress: mark for progress, mark in found if not progress.settled(mark)}
        self._finish_if_over()

    def check(self, progress: Progress) -> None:
        """Look at the one conversation that has changed; finish if it was the last to wait for."""
        mark = self.marks.get(progress)
        if mark is not None and progress.settled(mark):
            del self.marks[progress]
            self._finish_if_over()

    def _finish_if_over(self) -> None:
        if not self.marks:
            self.finish(complete=True)

    def finish(self, *, complete: bool) -> None:
        """Release the waiting caller."""
        self.complete = complete
        self._done.set()

    def wait(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds; return True if the flush is complete by then."""
        self._done.wait(timeout)
        return self.complete


Command = Append | Annotate | SendNow | End | FlushRequest


class FlushRequests:
    """The flush requests under way."""

    def __init__(self) -> None:
        self._waiting: list[FlushRequest] = []

    def start(self, request: FlushRequest, progresses: Iterable[Progress]) -> None:
        """Have a request wait for what these conversations have received so far."""
        request.start(progresses)
        if not request.done:
            self._waiting.append(request)

    def check(self, progress: Progress) -> None:
        """Update the requests for one conversation that has changed. The others need no look."""
        for request in self._waiting:
            request.check(progress)
        self._waiting = [request for request in self._waiting if not request.done]

    def give_up(self) -> None:
        """Release all waiting callers: nothing can be sent at present."""
        for request in self._waiting:
            request.finish(complete=False)
        self._waiting = []
