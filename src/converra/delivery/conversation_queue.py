"""The queue of one conversation, and the commands by which callers hand its messages to the workers.

A caller posts a command in a single step in C, and never waits for a lock.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from converra.delivery.protocol.progress import OutboxRows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from converra.delivery.header import Draft, Header
    from converra.delivery.protocol.progress import Progress


class QueueOwner(Protocol):
    """The delivery that a queue hands its commands to."""

    @property
    def generation(self) -> int:
        """Changes when messages recorded so far are no longer this process's to send: after a fork, for example."""

    def append(self, queue: ConversationQueue, drafts: Sequence[Draft], at: float | None = None) -> None:
        """See `ConversationQueue.append`."""

    def annotate(
        self, queue: ConversationQueue, metadata: Mapping[str, Any], *, alone: bool = False, soon: bool = False
    ) -> None:
        """See `ConversationQueue.annotate`."""

    def send_now(self, queue: ConversationQueue) -> None:
        """See `ConversationQueue.send_now`."""

    def end(self, queue: ConversationQueue, *, always: bool = False) -> None:
        """See `ConversationQueue.end`."""

    def look_up(self, queue: ConversationQueue) -> None:
        """Look for the id of a conversation that another process opens."""


class ConversationQueue:
    """The messages of one conversation, in order, on their way to the API.

    Any thread may call any method; none raises, and none waits for the network unless the mode of the flusher says so.
    Callers change all attributes but `progress`, under the lock of the job queue; workers change `progress`.
    """

    __slots__ = (
        "__weakref__",
        "_owner",
        "annotations",
        "found_id",
        "generation",
        "header",
        "progress",
        "rows",
        "used",
        "writer",
    )

    def __init__(self, owner: QueueOwner, header: Header) -> None:
        self._owner = owner
        self.header: Header = header
        self.start()

    def start(self) -> None:
        """Set the initial state; also in a forked child, as earlier messages are the parent's."""
        self.progress: Progress | None = None
        self.rows: OutboxRows = OutboxRows()
        self.found_id: str | None = None
        """The server's id, where a relay has opened the conversation and this process has looked it up."""
        self.used: bool = False
        """Something is to be sent."""
        self.annotations: dict[str, Any] = {}
        """Metadata that the app has set."""
        self.writer: str = os.urandom(4).hex() if self.header.shared else ""
        """Tells apart the processes that share a conversation."""
        self.generation: int = self._owner.generation

    def begin_with(self, metadata: Mapping[str, Any]) -> None:
        """Merge metadata into the header, before the first message."""
        self.header = msgspec.structs.replace(self.header, metadata={**self.header.metadata, **metadata})

    def fork(self) -> None:
        """Continue in a child process.

        A shared session continues; any other continues in a conversation of its own that names the parent's.
        """
        if not self.header.shared:
            opened = self.found_id if self.progress is None else self.progress.first_id
            metadata = {**self.header.metadata, **self.annotations, "forkedFrom": opened or self.header.key}
            key = f"{self.header.key}-{os.urandom(4).hex()}"
            self.header = msgspec.structs.replace(self.header, key=key, metadata=metadata)
        self.start()

    def __repr__(self) -> str:
        return f"ConversationQueue({self.header.key!r})"

    @property
    def id(self) -> str | None:
        """Return the server's id of the conversation; None until it is created.

        With a fleet's outbox None until a worker has looked it up, which this asks for.
        """
        if self.progress is not None:
            return self.progress.first_id
        if self.found_id is None and self.used:
            self._owner.look_up(self)
        return self.found_id

    def append(self, drafts: Sequence[Draft], at: float | None = None) -> None:
        """Add messages, recorded `at` a time of the monotonic clock (default: now)."""
        self._owner.append(self, drafts, at)

    def annotate(self, metadata: Mapping[str, Any], *, alone: bool = False, soon: bool = False) -> None:
        """Merge metadata into the conversation's; sent with the next request.

        Args:
            metadata: The fields to set.
            alone: The app has set them: a flush or `send_now` sends them even if no message waits.
            soon: They are also sent so after the flush interval.

        """
        self._owner.annotate(self, metadata, alone=alone, soon=soon)

    def send_now(self) -> None:
        """Send all messages now: another process may continue the conversation."""
        self._owner.send_now(self)

    def end(self, *, always: bool = False) -> None:
        """Complete the conversation once all of its messages are delivered. Idempotent.

        A conversation without messages is not sent, unless `always`: another process may have opened it. A shared
        session with metadata of the app's is sent as well.
        """
        self._owner.end(self, always=always)


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
    alone: bool = False
    """The app has set it: it is delivered even if no message follows."""
    soon: bool = False
    """It is, after the flush interval at the latest."""


class SendNow(msgspec.Struct, frozen=True, gc=False):
    """Send a conversation's waiting messages and metadata without waiting for the flush interval."""

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
        self.done: threading.Event = threading.Event()
        """Set once the caller need not wait any longer."""

    def finish(self, *, complete: bool) -> None:
        """Release the waiting caller."""
        self.complete = complete
        self.done.set()


Command = Append | Annotate | SendNow | End | FlushRequest


class FlushRequests:
    """The flush requests under way."""

    def __init__(self) -> None:
        self._waiting: list[FlushRequest] = []

    def start(self, request: FlushRequest, progresses: Iterable[Progress]) -> None:
        """Have a request wait for what these conversations have received so far; finish it if all of that is sent."""
        found = ((progress, progress.received) for progress in progresses)
        request.marks = {progress: mark for progress, mark in found if not progress.settled(mark)}
        if request.marks:
            self._waiting.append(request)
        else:
            request.finish(complete=True)

    def check(self, progress: Progress) -> None:
        """Finish the requests that waited for this conversation last. The others need no look."""
        for request in list(self._waiting):
            mark = request.marks.get(progress)
            if mark is not None and progress.settled(mark):
                del request.marks[progress]
                if not request.marks:
                    self._waiting.remove(request)
                    request.finish(complete=True)

    def give_up(self) -> None:
        """Release all waiting callers: nothing can be sent at present."""
        for request in self._waiting:
            request.finish(complete=False)
        self._waiting = []
