"""One conversation being recorded: its life cycle, and the calls under way in it.

A call in a conversation only notes what it sent and what came back. Everything else is jobs, which are done one at a
time, in order, and mostly later (`process/jobs.py`). So "ended" means that nothing more is taken in; what was taken in
before may still wait to be assembled and sent.

================  ===================================  ==============================================================
state             in the code                          meaning
================  ===================================  ==============================================================
open              no call in `_calls`, not `ended`     waits for the next call; may fall silent
call under way    `busy`                               a model is answering; never counts as silent
paused            `paused`                             a framework's run is to be resumed; silence does not end it
ending            `_ending`, and `busy`                `end` was called; the last call under way completes it
completed         `_ending`, not `_final`, not `busy`  completed at process exit; a later turn continues it
ended             `ended`                              completed; whatever comes later is logged, and not recorded
================  ===================================  ==============================================================

==================  ==============  ===========  =================  =================  ==============
event               open            under way    paused             ending             completed
==================  ==============  ===========  =================  =================  ==============
`begin`             under way       under way    under way          ending             ending
last call is over   –               open         –                  ended / completed  –
`pause`             paused          paused       paused             –                  –
tool result         open            under way    open               ending             completed
silence             ended           –            –                  –                  ended
`end`               ended           ending       ended              ending             ended
process exit        see below       call is cut  open               ended / completed  completed
fork, in the child  open, empty     open, empty  open, empty        open, empty        open, empty
==================  ==============  ===========  =================  =================  ==============

In the state "ended" nothing changes, except that a forked child starts all recordings anew. At process exit a
framework's session becomes "ended" and an implicit conversation "completed". A conversation of the user stays open
here; delivery completes it, unless it has a session that other processes may continue. A paused run's stays open, too.
"""

from __future__ import annotations

from sys import modules
from time import monotonic, perf_counter, time
from typing import TYPE_CHECKING, Any

import msgspec

from converra.capture.assembler import LATE, LATE_METADATA, Assembler
from converra.capture.open_call import OpenCall, Pending
from converra.capture.spec import fresh_key
from converra.history.record import Snapshot, put_off, take_snapshot
from converra.history.turn import Answer, DeferredMessages, Facts, Failure
from converra.process.guard import guard, log_limited
from converra.process.telemetry import NO_SPAN, TRACES, current_span_ids

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from typing import Protocol

    from converra.capture.assembler import Show
    from converra.capture.feedback import Feedback
    from converra.capture.sightings import Sighting
    from converra.capture.spec import ConversationSpec
    from converra.delivery.conversation_queue import ConversationQueue
    from converra.delivery.delivery import Delivery
    from converra.delivery.header import Header
    from converra.history.draft import Finish
    from converra.history.record import Record
    from converra.history.turn import Origin, Request, SourceMessage
    from converra.wire.models import Message

    class ConversationIndex(Protocol):
        """The index by which an implicit conversation is found again."""

        def note(self, recording: Recording, snapshot: Snapshot, answer: Answer | None, *, failed: bool) -> None:
            """Index the end of the conversation, now that a turn was taken in."""

        def learn(self, recording: Recording, snapshot: Snapshot, answer: Answer | None, *, failed: bool) -> None:
            """Index the texts of a turn, now that it is assembled."""


class Recording:
    """The state of one conversation. Turns may come from any thread, a finalizer or a signal handler.

    `record` may lag behind what was taken in. The queue and the assembler are made by the first job that needs them.
    """

    __slots__ = (
        "__weakref__",
        "_always",
        "_assembler",
        "_calls",
        "_completed_turns",
        "_delivery",
        "_ending",
        "_final",
        "_fingerprints",
        "_finish",
        "_header",
        "_implicit",
        "_sends_now",
        "_show",
        "_spec",
        "_tools",
        "_turns",
        "ended",
        "opened",
        "origin",
        "paused",
        "prompt_id",
        "used",
    )

    def __init__(
        self,
        spec: ConversationSpec,
        delivery: Delivery,
        finish: Finish | None,
        *,
        show: Show | None = None,
        implicit: ConversationIndex | None = None,
        origin: Origin | None = None,
    ) -> None:
        self.prompt_id: str = spec.prompt_id
        self.origin: Origin | None = origin
        self._spec = spec
        self._delivery = delivery
        self._finish = finish
        self._show = show
        self._implicit = implicit
        self._header: Header | None = None
        """The header to open the conversation with; None: that of the spec."""
        self._reset()

    def _reset(self) -> None:
        self.ended: bool = False
        """Nothing more is taken in."""
        self.paused: bool = False
        """An interrupted run of a framework is to be resumed in it, here or in another process."""
        self.used: float = monotonic()
        self.opened: ConversationQueue | None = None
        """The queue to the API; None until something is to be sent."""
        self._assembler: Assembler | None = None
        self._calls: set[Pending] = set()
        self._turns = 0
        """Turns that were taken in; the record holds as many once their jobs are done."""
        self._completed_turns = -1
        """Turns that were taken in when the conversation was completed last."""
        self._fingerprints: list[int] = []
        """The fingerprints of the last turn."""
        self._sends_now = False
        """New messages are sent at once."""
        self._ending = self._always = False
        self._final = True
        """The end that was asked for last refuses what comes later."""
        self._tools: list[Any] = []
        """Names of the tools that were declared last."""

    @property
    def record(self) -> Record:
        """The assembled part of the conversation. Callers hold the lock of the jobs."""
        return self._assembling().record

    @property
    def busy(self) -> bool:
        """True while calls are under way."""
        return bool(self._calls)

    @property
    def is_begun(self) -> bool:
        """True once something was recorded, or set, that is to be sent."""
        return self._turns > 0 or (self.opened is not None and self.opened.used)

    @property
    def ending(self) -> bool:
        """True once it was asked to end, also while calls are still under way in it."""
        return self._ending

    def begin(
        self, request: Request, fingerprints: list[int] | None = None, sighting: Sighting | None = None
    ) -> OpenCall:
        """Note that a call starts now, and take a snapshot of its request.

        Args:
            request: What is sent to the model.
            fingerprints: Those of its messages, one integer each, if they were computed already.
            sighting: The mark by which a reader of spans recognises the call.

        """
        self.paused = self._sends_now = False
        assembler = self._assembler
        record = None if assembler is None else assembler.record
        messages = request.messages
        if isinstance(messages, DeferredMessages) and fingerprints is None and self._implicit is None:
            snapshot = put_off(request, messages, self._turns)  # the index of implicit conversations needs fingerprints
        else:
            snapshot = take_snapshot(record, request, fingerprints, self._turns, self._fingerprints)
        span = current_span_ids() if TRACES in modules else NO_SPAN
        waited = request.waited
        started, ticks = time() - waited, perf_counter() - waited
        call = OpenCall(self, snapshot, span, [True], started, ticks, request.run, sighting)
        self._calls.add(call)
        if request.tools:
            self._declare(request)
        return call

    def over(
        self, call: Pending | None, snapshot: Snapshot, answer: Answer | None, failure: Failure | None, facts: Facts
    ) -> None:
        """Record a turn that is over, and forget its call; `failure` says why an answer is missing or incomplete."""
        self.used = at = monotonic()
        if self.ended:
            log_limited("ended", LATE)
        else:
            self._turns += 1
            self._fingerprints = snapshot.fingerprints
            if self._implicit is not None:
                with guard("indexing an implicit conversation"):
                    self._implicit.note(self, snapshot, answer, failed=failure is not None)
            weight = snapshot.weight + answer.weight if answer else snapshot.weight
            self._delivery.submit(at, weight, Recording._fold, self, snapshot, answer, failure, facts, at)
        if call is not None:
            self._calls.discard(call)
            if self._ending:
                self.end(final=self._final)

    def record_call(
        self,
        request: Request,
        fingerprints: list[int] | None,
        answer: Answer | None,
        failure: Failure | None,
        facts: Facts,
    ) -> None:
        """Record a call that was not observed while it was under way; arguments as for `begin` and `over`."""
        self.paused = False
        assembler = self._assembler
        record = None if assembler is None else assembler.record
        snapshot = take_snapshot(record, request, fingerprints, self._turns, self._fingerprints)
        if request.tools:
            self._declare(request)
        self.over(None, snapshot, answer, failure, facts)

    def expect(self, turn: Pending) -> None:
        """Stay open for a turn that is over but not recorded yet, until `forget`."""
        self._calls.add(turn)

    def forget(self, call: Pending) -> None:
        """Forget a call that is over, or was never sent; the last one completes a conversation that is ending."""
        self._calls.discard(call)
        if self._ending:
            self.end(final=self._final)

    def ask(self, snapshot: Snapshot, facts: Facts) -> None:
        """Record what was asked by a call that stays under way: its answer comes much later, if at all."""
        if self.ended:
            log_limited("ended", LATE)
            return
        self.used = at = monotonic()
        self._turns += 1
        self._fingerprints = snapshot.fingerprints
        self._delivery.submit(at, snapshot.weight, Recording._job, self, Assembler.ask, snapshot, facts, at)

    def reject(self, answer: Answer, error: BaseException) -> None:
        """Record that the app could not read an answer that was recorded before."""
        failure = Failure(type(error).__name__)
        self._delivery.submit(monotonic(), 0, Recording._job, self, Assembler.reject, answer, failure)

    def record_tool_result(self, source: SourceMessage, at: float) -> None:
        """Record a tool's result; a request that resends it brings nothing new. `at` is seconds since the epoch."""
        self.paused = False
        self._message(source.weight, Assembler.record_tool_result, source, Facts(at))

    def add(self, message: Message, called: datetime) -> None:
        """Record a message that was written by hand; a request that resends it brings nothing new."""
        self._message(len(message.content), Assembler.write, message, called)

    def _message(self, weight: int, step: Callable[..., None], *source: Any) -> None:
        if self.ended:
            log_limited("ended", LATE)
        else:
            self.used = at = monotonic()
            self._delivery.submit(at, weight, Recording._job, self, step, *source, at)

    def rate(self, feedback: Feedback, called: datetime, *, carried: bool) -> None:
        """Record feedback, also on a conversation that has ended; `carried`: it ends in this process."""
        at = monotonic()
        self._delivery.submit(at, 0, Recording._job, self, Assembler.rate, feedback, called, carried, at)

    def annotate(self, metadata: Mapping[str, Any], *, alone: bool = False, soon: bool = False) -> None:
        """Merge into the conversation's metadata; see `ConversationQueue.annotate`."""
        if self.ended:
            log_limited("ended metadata", LATE_METADATA)
        else:
            self._open_queue().annotate(metadata, alone=alone, soon=soon)

    def send_now(self) -> None:
        """Send what is recorded, and the answers of the calls under way, without waiting for more."""
        self._sends_now = True
        self._delivery.submit(monotonic(), 0, Recording._job, self, Assembler.send_now, wake=True)

    def end(self, *, always: bool = False, final: bool = True) -> None:
        """Complete the conversation once no call is under way in it.

        Args:
            always: Complete it even if nothing was recorded here: another process may have recorded something.
            final: Refuse what comes later. False at process exit: a turn that comes later is still recorded, in a
                further conversation that names this one (`metadata.continues`), and completes that one.

        """
        self._always = self._always or always
        self._ending, self._final = True, final
        if self._calls:
            calls = list(self._calls)
            if any(call.asked for call in calls):
                self.send_now()  # the answer may never be asked for
            if self._delivery.waits_at_end:
                for call in calls:
                    call.hurry()
        elif not self.ended and (final or self._completed_turns != self._turns):
            self.ended, self._completed_turns = final, self._turns
            at = monotonic()
            self._delivery.submit(at, 0, Recording._job, self, Assembler.end, self._always, final, at, wake=True)

    def cut(self) -> None:
        """Record what has arrived of open streams: the process is about to end.

        In a session, the answer to a background request is left out: another process may retrieve and record it.
        """
        shared = self._spec.session_id is not None and not self._ending
        for call in list(self._calls):
            if call.asked and shared:
                self._calls.discard(call)
            else:
                call.cut()

    def after_fork(self) -> None:
        """Start clean in a child process: what was captured before is the parent's to deliver."""
        if self.opened is not None:
            header, metadata = self.opened.header, {**self.opened.header.metadata, **self.opened.annotations}
            own = msgspec.structs.replace(header, key=fresh_key(), metadata=metadata)
            self._header = header if header.shared else own
        self._reset()

    def _job(self, step: Callable[..., None], *args: Any) -> None:
        """Run a step that changes what is assembled. A worker does, or the thread that holds the lock."""
        step(self._assembling(), *args)

    def _fold(
        self, snapshot: Snapshot, answer: Answer | None, failure: Failure | None, facts: Facts, at: float
    ) -> None:
        """Assemble a turn, and note what makes its conversation recognisable from now on."""
        if self._assembling().fold(snapshot, answer, failure, facts, at) and self._implicit is not None:
            self._implicit.learn(self, snapshot, answer, failed=failure is not None)

    def _assembling(self) -> Assembler:
        if self._assembler is None:
            self._assembler = Assembler(
                self._open_queue(), self._finish, shared=self._spec.session_id is not None, show=self._show
            )
        self._assembler.sends_now = self._sends_now
        return self._assembler

    def _open_queue(self) -> ConversationQueue:
        """Return the queue to the API, made by the first who needs it."""
        queue = self.opened
        if queue is None:
            with self._delivery.jobs.lock:
                opened = self._delivery.open(self._header or self._spec.header())
                queue = self.opened = self.opened or opened  # a signal handler may have opened it meanwhile
        return queue

    def _declare(self, request: Request) -> None:
        """Put the names of the declared tools into the conversation's metadata if they have changed."""
        names = request.tool_names()
        if names != self._tools:
            self._tools = names
            self._open_queue().annotate({"tools": [name for name in names if isinstance(name, str)]})
