"""One conversation being recorded: what is handed over of it, and the calls under way in it."""

from __future__ import annotations

from functools import partial
from sys import modules
from time import monotonic, perf_counter, time
from typing import TYPE_CHECKING, Any

from converra.capture.assembler import LATE, Assembler
from converra.capture.call import OpenCall
from converra.history.snapshot import take_snapshot
from converra.history.turn import Facts
from converra.process.guard import guard, log_limited
from converra.process.telemetry import NO_SPAN, TRACES, current_span_ids

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Protocol

    from converra.capture.assembler import Show
    from converra.delivery.conversation_queue import ConversationQueue
    from converra.history.draft import Finish
    from converra.history.record import Record
    from converra.history.snapshot import Snapshot
    from converra.history.turn import Answer, Failure, Origin, Request, SourceMessage
    from converra.process.jobs import JobQueue
    from converra.wire.models import Message

    class JobRunner(Protocol):
        """Has jobs done: `Delivery`."""

        @property
        def jobs(self) -> JobQueue:
            """What waits to be done, and the lock of those who change what is recorded."""

        def submit(self, at: float, weight: int, call: Callable[..., None], *args: Any, wake: bool = False) -> None:
            """Take a job in, at a time of the monotonic clock, that keeps so many bytes alive.

            It is a call that changes nothing but the first of its arguments, and is made after those that came before,
            here and now or by a worker.
            """

    class ImplicitConversations(Protocol):
        """By which an implicit conversation is found again."""

        def note(self, recording: Recording, snapshot: Snapshot, answer: Answer | None) -> None:
            """Note where a turn that was just taken in leaves its conversation."""

        def learn(self, recording: Recording, snapshot: Snapshot, answer: Answer | None) -> None:
            """Note what a turn that is assembled makes its conversation known by."""


class Recording:
    """The state of one conversation. Turns may come from any thread, a finalizer or a signal handler.

    A call only notes what it sent and what came back; all else is jobs that are done one at a time, in order, and
    mostly later: see `process/jobs.py`. So what is said here of `record` may lag behind what was recorded, and the
    lane and the assembler are made by the first of those jobs, unless a caller needs them before.
    """

    __slots__ = (
        *("__weakref__", "_always", "_assembler", "_calls", "_ending", "_finish", "_sends_now", "_shared", "_queue"),
        *(
            "_fingerprints",
            "_job_runner",
            "_open",
            "_show",
            "_implicit",
            "_tools",
            "_turns",
            "ended",
            "origin",
            "paused",
        ),
        *("prompt_id", "used"),
    )

    def __init__(
        self,
        prompt_id: str,
        open_queue: Callable[[], ConversationQueue],
        job_runner: JobRunner,
        finish: Finish,
        *,
        shared: bool = False,
        show: Show | None = None,
        implicit: ImplicitConversations | None = None,
        origin: Origin | None = None,
    ) -> None:
        self.prompt_id = prompt_id
        self.origin = origin
        self._job_runner = job_runner
        self._finish = finish
        self._shared = shared
        self._show = show
        self._implicit = implicit
        self.reset(open_queue)

    def reset(self, open_queue: Callable[[], ConversationQueue]) -> None:
        """Become empty; what is recorded from now on goes to the queue that `open_queue` opens."""
        self._open = open_queue
        self.ended = False
        """Nothing more is taken in."""
        self.paused = False
        """An interrupted run of a framework is to go on in it, here or in another process."""
        self.used = monotonic()
        self._queue: ConversationQueue | None = None
        self._assembler: Assembler | None = None
        self._calls: set[OpenCall] = set()
        self._turns = 0
        """How many turns were taken in; the record has as many once their jobs are done."""
        self._fingerprints: list[int] = []
        """Those of the last of them."""
        self._sends_now = False
        """What comes is to be sent at once."""
        self._ending = self._always = False
        self._tools: list[Any] = []
        """Names of the tools that were declared last."""

    @property
    def record(self) -> Record:
        """What is recorded and assembled; for whoever holds the lock."""
        return self._assembling().record

    @property
    def opened(self) -> ConversationQueue | None:
        """The way to the API, where there was something to take it."""
        return self._queue

    @property
    def busy(self) -> bool:
        """Whether calls are under way in it."""
        return bool(self._calls)

    def begin(self, request: Request, fingerprints: list[int] | None = None) -> OpenCall:
        """Note that a call starts now."""
        self.paused = self._sends_now = False
        assembler = self._assembler
        record = None if assembler is None else assembler.record
        snapshot = take_snapshot(record, request, fingerprints, self._turns, self._fingerprints)
        span = current_span_ids() if TRACES in modules else NO_SPAN
        turn = OpenCall(self, snapshot, span, [True], time(), perf_counter())
        self._calls.add(turn)
        if request.tools:
            self._declare(request.tools)
        return turn

    def over(
        self, turn: OpenCall, snapshot: Snapshot, answer: Answer | None, failure: Failure | None, facts: Facts
    ) -> None:
        """Record a turn that is over, and forget its call."""
        self.used = at = monotonic()
        if self.ended:
            log_limited("ended", LATE)
        else:
            self._turns += 1
            self._fingerprints = snapshot.fingerprints
            if self._implicit is not None:
                with guard("noting where a chat stands"):
                    self._implicit.note(self, snapshot, answer)
            weight = snapshot.weight + answer.weight if answer else snapshot.weight
            self._job_runner.submit(
                at, weight, Recording._job, self, Assembler.fold, snapshot, answer, failure, facts, at
            )
        self._calls.discard(turn)
        if self._ending:
            self.end()

    def ask(self, snapshot: Snapshot, facts: Facts) -> None:
        """Record what was asked by a call that stays under way: its answer comes much later, if at all."""
        if self.ended:
            log_limited("ended", LATE)
            return
        self.used = at = monotonic()
        self._turns += 1
        self._fingerprints = snapshot.fingerprints
        self._job_runner.submit(at, snapshot.weight, Recording._job, self, Assembler.ask, snapshot, facts, at)

    def record_tool_result(self, source: SourceMessage, at: float) -> None:
        """Record a tool's result; a request that resends it brings nothing new. `at` is seconds since the epoch."""
        self.paused = False
        self._message(source.weight, Assembler.record_tool_result, source, Facts(at))

    def add(self, message: Message) -> None:
        """Record a message that was written by hand; a request that resends it brings nothing new."""
        self._message(len(message.content), Assembler.write, message)

    def _message(self, weight: int, step: Callable[..., None], *source: Any) -> None:
        if self.ended:
            log_limited("ended", LATE)
        else:
            self.used = at = monotonic()
            self._job_runner.submit(at, weight, Recording._job, self, step, *source, at)

    def annotate(self, metadata: Mapping[str, Any]) -> None:
        """Merge into the conversation's metadata, which goes with the next message."""
        self._way().annotate(metadata)

    def send_now(self) -> None:
        """Send what is recorded, and what the calls that are under way bring, without waiting for more."""
        self._sends_now = True
        self._job_runner.submit(monotonic(), 0, Recording._job, self, Assembler.send_now, wake=True)

    def end(self, *, always: bool = False) -> None:
        """Complete the conversation, once the calls that were started in it are over.

        Where nothing was recorded nothing is sent, unless `always`: another process may have recorded something.
        """
        self._always = self._always or always
        self._ending = True
        if self._calls:
            if any(turn.asked for turn in list(self._calls)):
                self.send_now()  # the answer may never be asked for
        elif not self.ended:
            self.ended = True
            at = monotonic()
            self._job_runner.submit(at, 0, Recording._job, self, Assembler.end, self._always, at, wake=True)

    def cut(self) -> None:
        """Record what has arrived of the streams that are still open: the process is about to end.

        An answer that is still to come may be brought by another process, where the session goes on without this one.
        """
        shared = self._shared and not self._ending
        for turn in list(self._calls):
            if turn.asked and shared:
                self._calls.discard(turn)
            else:
                turn.cut()

    def after_fork(self, open_queue: Callable[[], ConversationQueue] | None) -> None:
        """Start clean in a child process: what was captured before is the parent's to deliver."""
        self.reset(open_queue or self._open)

    def _job(self, step: Callable[..., None], *args: Any) -> None:
        """Do something that changes what is assembled: a worker does, or whoever holds the lock."""
        assembler = self._assembling()
        assembler.sends_now = self._sends_now
        step(assembler, *args)

    def _assembling(self) -> Assembler:
        if self._assembler is None:
            learn = None if self._implicit is None else partial(self._implicit.learn, self)
            self._assembler = Assembler(self._way(), self._finish, shared=self._shared, show=self._show, learn=learn)
        return self._assembler

    def _way(self) -> ConversationQueue:
        """The way to the API, made now if it was not needed before."""
        queue = self._queue
        if queue is None:
            with self._job_runner.jobs.lock:
                opened = self._open()
                queue = self._queue = self._queue or opened  # a signal handler may have come between
        return queue

    def _declare(self, tools: Sequence[Any]) -> None:
        """Keep the names of the declared tools in the conversation's metadata, when they are others than before."""
        names = _tool_names(tools)
        if names != self._tools:
            self._tools = names
            self._way().annotate({"tools": [name for name in names if isinstance(name, str)]})


def _tool_names(tools: Sequence[Any]) -> list[Any]:
    """Read the names of the declared tools; most requests that declare any have functions of Chat Completions."""
    try:
        return [tool["function"]["name"] for tool in tools]
    except (KeyError, TypeError, IndexError):
        return [_tool_name(tool) for tool in tools]


def _tool_name(tool: Any) -> str | None:
    """Read the name of a declared tool, in either of the provider's shapes; hosted tools have only a type."""
    if not isinstance(tool, dict):
        return None
    function = tool.get("function") or tool.get("custom") or tool
    name = (function.get("name") if isinstance(function, dict) else None) or tool.get("type")
    return name if isinstance(name, str) else None
