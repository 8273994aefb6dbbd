"""One conversation being recorded: what is handed over of it, and the calls under way in it."""

from __future__ import annotations

from functools import partial
from sys import modules
from time import monotonic, perf_counter, time
from typing import TYPE_CHECKING, Any

from converra.capture.assembler import LATE, Assembler
from converra.capture.call import OpenTurn
from converra.history.snapshot import freeze
from converra.history.turn import Facts
from converra.process.guard import guard, tell
from converra.process.telemetry import NO_SPAN, TRACES, current_span_ids

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Protocol

    from converra.capture.assembler import Show
    from converra.delivery.conversation_queue import Lane
    from converra.history.draft import Finish
    from converra.history.record import Record
    from converra.history.snapshot import View
    from converra.history.turn import Answer, Failure, Origin, Request, Said
    from converra.process.jobs import Backlog
    from converra.wire.models import Message

    class Office(Protocol):
        """Has jobs done: `Delivery`."""

        @property
        def backlog(self) -> Backlog:
            """What waits to be done, and the lock of those who change what is recorded."""

        def submit(self, at: float, weight: int, call: Callable[..., None], *args: Any, soon: bool = False) -> None:
            """Take a job in, at a time of the steady clock, that keeps so many bytes alive.

            It is a call that changes nothing but the first of its arguments, and is made after those that came before,
            here and now or by a worker.
            """

    class Stitcher(Protocol):
        """By which an implicit conversation is found again."""

        def note(self, recording: Recording, view: View, answer: Answer | None) -> None:
            """Note where a turn that was just taken in leaves its conversation."""

        def learn(self, recording: Recording, view: View, answer: Answer | None) -> None:
            """Note what a turn that is assembled makes its conversation known by."""


class Recording:
    """The state of one conversation. Turns may come from any thread, a finalizer or a signal handler.

    A call only notes what it sent and what came back; all else is jobs that are done one at a time, in order, and
    mostly later: see `process/jobs.py`. So what is said here of `record` may lag behind what was recorded, and the
    lane and the assembler are made by the first of those jobs, unless a caller needs them before.
    """

    __slots__ = (
        *("__weakref__", "_always", "_assembler", "_calls", "_ending", "_finish", "_hasty", "_joining", "_lane"),
        *("_looks", "_office", "_open", "_show", "_stitcher", "_tools", "_turns", "ended", "origin", "paused"),
        *("prompt_id", "used"),
    )

    def __init__(
        self,
        prompt_id: str,
        open_lane: Callable[[], Lane],
        office: Office,
        finish: Finish,
        *,
        joining: bool = False,
        show: Show | None = None,
        stitcher: Stitcher | None = None,
        origin: Origin | None = None,
    ) -> None:
        self.prompt_id = prompt_id
        self.origin = origin
        self.ended = False
        """Nothing more is taken in."""
        self.paused = False
        """An interrupted run of a framework is to go on in it, here or in another process."""
        self.used = monotonic()
        self._open = open_lane
        self._office = office
        self._finish = finish
        self._joining = joining
        self._show = show
        self._stitcher = stitcher
        self._lane: Lane | None = None
        self._assembler: Assembler | None = None
        self._calls: set[OpenTurn] = set()
        self._turns = 0
        """How many turns were taken in; the record has as many once their jobs are done."""
        self._looks: list[int] = []
        """Those of the last of them."""
        self._hasty = False
        """What comes is to be sent at once."""
        self._ending = self._always = False
        self._tools: list[Any] = []
        """Names of the tools that were declared last."""

    @property
    def record(self) -> Record:
        """What is recorded and assembled; for whoever holds the lock."""
        return self._assembling().record

    @property
    def opened(self) -> Lane | None:
        """The way to the API, where there was something to take it."""
        return self._lane

    @property
    def busy(self) -> bool:
        """Whether calls are under way in it."""
        return bool(self._calls)

    def begin(self, request: Request, looks: list[int] | None = None) -> OpenTurn:
        """Note that a call starts now."""
        self.paused = self._hasty = False
        assembler = self._assembler
        record = None if assembler is None else assembler.record
        view = freeze(record, request, looks, self._turns, self._looks)
        span = current_span_ids() if TRACES in modules else NO_SPAN
        turn = OpenTurn(self, view, span, [True], time(), perf_counter())
        self._calls.add(turn)
        if request.tools:
            self._declare(request.tools)
        return turn

    def over(self, turn: OpenTurn, view: View, answer: Answer | None, failure: Failure | None, facts: Facts) -> None:
        """Record a turn that is over, and forget its call."""
        self.used = at = monotonic()
        if self.ended:
            tell("ended", LATE)
        else:
            self._turns += 1
            self._looks = view.looks
            if self._stitcher is not None:
                with guard("noting where a chat stands"):
                    self._stitcher.note(self, view, answer)
            weight = view.weight + answer.weight if answer else view.weight
            self._office.submit(at, weight, Recording._job, self, Assembler.fold, view, answer, failure, facts, at)
        self._calls.discard(turn)
        if self._ending:
            self.end()

    def ask(self, view: View, facts: Facts) -> None:
        """Record what was asked by a call that stays under way: its answer comes much later, if at all."""
        if self.ended:
            tell("ended", LATE)
            return
        self.used = at = monotonic()
        self._turns += 1
        self._looks = view.looks
        self._office.submit(at, view.weight, Recording._job, self, Assembler.ask, view, facts, at)

    def say(self, said: Said, at: float) -> None:
        """Record a tool's result; a request that resends it brings nothing new. `at` is seconds since the epoch."""
        self.paused = False
        self._message(said.weight, Assembler.say, said, Facts(at))

    def add(self, message: Message) -> None:
        """Record a message that was written by hand; a request that resends it brings nothing new."""
        self._message(len(message.content), Assembler.write, message)

    def _message(self, weight: int, step: Callable[..., None], *said: Any) -> None:
        if self.ended:
            tell("ended", LATE)
        else:
            self.used = at = monotonic()
            self._office.submit(at, weight, Recording._job, self, step, *said, at)

    def annotate(self, metadata: Mapping[str, Any]) -> None:
        """Merge into the conversation's metadata, which goes with the next message."""
        self._way().annotate(metadata)

    def hasten(self) -> None:
        """Send what is recorded, and what the calls that are under way bring, without waiting for more."""
        self._hasty = True
        self._office.submit(monotonic(), 0, Recording._job, self, Assembler.hasten, soon=True)

    def end(self, *, always: bool = False) -> None:
        """Complete the conversation, once the calls that were started in it are over.

        Where nothing was recorded nothing is sent, unless `always`: another process may have recorded something.
        """
        self._always = self._always or always
        self._ending = True
        if self._calls:
            if any(turn.asked for turn in list(self._calls)):
                self.hasten()  # the answer may never be asked for
        elif not self.ended:
            self.ended = True
            at = monotonic()
            self._office.submit(at, 0, Recording._job, self, Assembler.end, self._always, at, soon=True)

    def cut(self) -> None:
        """Record what has arrived of the streams that are still open: the process is about to end.

        An answer that is still to come may be brought by another process, where the session goes on without this one.
        """
        shared = self._joining and not self._ending
        for turn in list(self._calls):
            if turn.asked and shared:
                self._calls.discard(turn)
            else:
                turn.cut()

    def after_fork(self, open_lane: Callable[[], Lane] | None) -> None:
        """Start clean in a child process: what was captured before is the parent's to deliver."""
        Recording.__init__(
            self,
            self.prompt_id,
            open_lane or self._open,
            self._office,
            self._finish,
            joining=self._joining,
            show=self._show,
            stitcher=self._stitcher,
            origin=self.origin,
        )

    def _job(self, step: Callable[..., None], *args: Any) -> None:
        """Do something that changes what is assembled: a worker does, or whoever holds the lock."""
        assembler = self._assembling()
        assembler.hasty = self._hasty
        step(assembler, *args)

    def _assembling(self) -> Assembler:
        if self._assembler is None:
            learn = None if self._stitcher is None else partial(self._stitcher.learn, self)
            self._assembler = Assembler(self._way(), self._finish, joining=self._joining, show=self._show, learn=learn)
        return self._assembler

    def _way(self) -> Lane:
        """The way to the API, made now if it was not needed before."""
        lane = self._lane
        if lane is None:
            with self._office.backlog.lock:
                opened = self._open()
                lane = self._lane = self._lane or opened  # a signal handler may have come between
        return lane

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
