"""One conversation being recorded: what is recorded of it, its lane to the API, and the calls under way in it."""

from __future__ import annotations

import os
import time
from collections import deque
from threading import RLock, get_ident
from typing import TYPE_CHECKING, Any

import msgspec

from converra.conversation.assembly import fold, say, write
from converra.conversation.draft import Draft, Written
from converra.conversation.messages import tool_call
from converra.conversation.record import Record
from converra.conversation.turn import Call, Facts, Said
from converra.conversation.view import freeze
from converra.guard import guard, tell
from converra.open_turn import OpenTurn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from converra.conversation.assembly import Heard
    from converra.conversation.draft import Finish
    from converra.conversation.models import Message, ToolCall
    from converra.conversation.turn import Answer, Failure, Origin, Request
    from converra.conversation.view import View
    from converra.delivery.lane import Lane

    Show = Callable[[Sequence[Draft | Written]], None]
    Learn = Callable[["Recording", list[int], Answer | None], None]

LOCK_SECONDS = 1.0
"""Longest wait for another thread's fold, which takes microseconds; then the turn is left to that thread."""


class Recording:
    """The state of one conversation. Turns may come from any thread, a finalizer or a signal handler.

    Folding must not run twice at a time, nor inside itself: so every change is a job in a queue, and whoever finds the
    lock free works it off. A finalizer that fires inside a fold leaves its turn in the queue for that fold's thread.
    """

    def __init__(
        self,
        lane: Lane,
        finish: Finish,
        *,
        joining: bool = False,
        show: Show | None = None,
        learn: Learn | None = None,
        origin: Origin | None = None,
    ) -> None:
        self.lane = lane
        self.origin = origin
        self.ended = False
        self.paused = False
        """An interrupted run of a framework is to go on in it, here or in another process."""
        self.used = time.monotonic()
        self._finish = finish
        self._show = show
        self._learn = learn
        self.record = Record(shared=joining)
        self._nonce = os.urandom(8).hex()
        self._jobs: deque[Callable[[], None]] = deque()
        self._lock = RLock()
        self._owner: int | None = None
        self._calls: set[OpenTurn] = set()
        self._ending = False
        self._always = False
        self._hasty = False
        self._tools: tuple[str, ...] = ()
        self._early: dict[str | None, tuple[Said, Facts]] = {}
        """Results of tools that came before the first call of a shared session, by the id of their call."""

    @property
    def busy(self) -> bool:
        """Whether calls are under way in it."""
        return bool(self._calls)

    def begin(self, request: Request, looks: list[int] | None = None) -> OpenTurn:
        """Note that a call starts now."""
        self.used = time.monotonic()
        self.paused = self._hasty = False
        turn = OpenTurn(self, freeze(self.record, request, looks))
        self._calls.add(turn)
        if request.tools:
            self._declare(request.tools)
        return turn

    def turn(self, view: View, answer: Answer | None, failure: Failure | None, facts: Facts) -> None:
        """Record a turn that is over."""
        self._submit(lambda: self._fold(view, answer, failure, facts))

    def say(self, said: Said, at: float) -> None:
        """Record a tool's result; a request that resends it brings nothing new. `at` is seconds since the epoch."""
        self.paused = False
        self._submit(lambda: self._say(said, Facts(at)))

    def add(self, message: Message) -> None:
        """Record a message that was written by hand; a request that resends it brings nothing new."""
        self._submit(lambda: self._write(message))

    def annotate(self, metadata: Mapping[str, Any]) -> None:
        """Merge into the conversation's metadata, which goes with the next message."""
        self.lane.annotate(metadata)

    def hasten(self) -> None:
        """Send what is recorded, and what the calls that are under way bring, without waiting for more."""
        self._hasty = True
        self._submit(self._send)

    def end(self, *, always: bool = False) -> None:
        """Complete the conversation, once the calls that were started in it are over.

        Where nothing was recorded nothing is sent, unless `always`: another process may have recorded something.
        """
        self._always = self._always or always
        self._submit(self._end)

    def closed(self, turn: OpenTurn) -> None:
        """Forget a call that is over."""
        self._calls.discard(turn)
        if self._ending:
            self.end()

    def cut(self) -> None:
        """Record what has arrived of the streams that are still open: the process is about to end."""
        for turn in list(self._calls):
            turn.cut()

    def after_fork(self, lane: Lane, *, joining: bool) -> None:
        """Start clean in a child process: what was captured before is the parent's to deliver."""
        Recording.__init__(
            self, lane, self._finish, joining=joining, show=self._show, learn=self._learn, origin=self.origin
        )

    # -- one job at a time -----------------------------------------------------------------------------------------

    def _submit(self, job: Callable[[], None]) -> None:
        self._jobs.append(job)
        if self._owner == get_ident():
            return
        while self._jobs and self._lock.acquire(timeout=LOCK_SECONDS):
            self._owner = get_ident()
            try:
                self._work()
            finally:
                self._owner = None
                self._lock.release()

    def _work(self) -> None:
        while self._jobs:
            with guard("recording a turn"):
                self._jobs.popleft()()

    def _fold(self, view: View, answer: Answer | None, failure: Failure | None, facts: Facts) -> None:
        if self._over():
            return
        heard = [self._timed(h) for h in fold(self.record, view, answer)]
        carrier = _carrier(heard) if answer else None
        self._append([self._draft(h, answer, failure, facts, carries=_carries(h, carrier)) for h in heard])
        self._say_early()
        if self._learn is not None:
            self._learn(self, view.looks, answer)

    def _draft(
        self, heard: Heard, answer: Answer | None, failure: Failure | None, facts: Facts, *, carries: bool
    ) -> Draft:
        """Make the message to be: the carrier has the facts of the answer; with none, what was asked has the error."""
        return Draft(
            said=heard.said,
            id=self._id(heard.number),
            finish=self._finish,
            started=facts.started,
            answer=answer if carries else None,
            failure=failure if carries else None,
            latency_ms=facts.latency_ms if carries and answer else None,
            first_token_ms=facts.first_token_ms if carries and answer else None,
            span=(facts.trace_id, facts.span_id) if heard.answer else (0, 0),
            extra=self._extra(heard),
            learned=heard.learned,
        )

    def _extra(self, heard: Heard) -> dict[str, Any] | None:
        extra: dict[str, Any] = {}
        if heard.thread:
            extra["thread"] = heard.thread
        if heard.replaces is not None:
            extra["replaces"] = self._id(heard.replaces)
        return extra or None

    def _id(self, number: int) -> str:
        return f"{self._nonce}-{number}"

    def _say(self, said: Said, facts: Facts) -> None:
        if self.record.shared and not self.record.version:
            self._early[said.call_id] = said, facts
            return
        heard = None if self._over() else say(self.record, said)
        if heard is not None:
            self._append([self._draft(heard, None, None, facts, carries=False)])

    def _timed(self, heard: Heard) -> Heard:
        """Add what is known of a tool's run to the result that a request brings."""
        early = self._early.pop(heard.said.call_id, None) if self._early and heard.said.role == "tool" else None
        if early is None:
            return heard
        ran = early[0]
        metadata = {**(heard.said.metadata or {}), **(ran.metadata or {})} or None
        said = msgspec.structs.replace(heard.said, latency_ms=ran.latency_ms, metadata=metadata)
        return heard._replace(said=said)

    def _say_early(self) -> None:
        """Record the results that no request has brought."""
        early, self._early = list(self._early.values()), {}
        for said, facts in early:
            self._say(said, facts)

    def _write(self, message: Message) -> None:
        if self._over():
            return
        number = write(self.record, _said(message))
        self._append([Written(written=message, id=self._id(number), finish=self._finish)])

    def _append(self, drafts: Sequence[Draft | Written]) -> None:
        self.used = time.monotonic()
        if drafts:
            self.lane.append(drafts)
            if self._show is not None:
                self._show(drafts)
            self._send()

    def _send(self) -> None:
        if self._hasty and not self.ended:
            self.lane.hasten()

    def _over(self) -> bool:
        if self.ended:
            tell("ended", "converra: a turn came after its conversation was completed; it is not recorded.")
        return self.ended

    def _end(self) -> None:
        self._ending = True
        if not self._calls and not self.ended:
            self.record.version += bool(self._early)
            self._say_early()
            self.ended = True
            self.lane.end(always=self._always)

    def _declare(self, tools: Sequence[Any]) -> None:
        """Keep the names of the declared tools in the conversation's metadata, when they are others than before."""
        names = _tool_names(tools)
        if names != self._tools:
            self._tools = names
            self.lane.annotate({"tools": list(names)})


def _carrier(heard: Sequence[Heard]) -> Heard | None:
    """Find the message of the answer that carries its facts: the last with words, else the last."""
    answers = [h for h in heard if h.answer]
    spoken = [h for h in answers if h.said.role == "assistant"]
    return next(reversed(spoken or answers), None)


def _carries(heard: Heard, carrier: Heard | None) -> bool:
    """Whether a message carries facts: the carrier, or with no answer everything that was asked."""
    return heard is carrier if carrier else heard.said.role != "system"


def _tool_names(tools: Sequence[Any]) -> tuple[str, ...]:
    """Read the names of the declared tools; most requests that declare any have functions of Chat Completions."""
    try:
        names: list[Any] = [tool["function"]["name"] for tool in tools]
    except (KeyError, TypeError, IndexError):
        names = [_tool_name(tool) for tool in tools]
    return tuple([name for name in names if isinstance(name, str)])


def _tool_name(tool: Any) -> str | None:
    """Read the name of a declared tool, in either of the provider's shapes; hosted tools have only a type."""
    if not isinstance(tool, dict):
        return None
    function = tool.get("function") or tool.get("custom") or tool
    name = (function.get("name") if isinstance(function, dict) else None) or tool.get("type")
    return name if isinstance(name, str) else None


def _said(message: Message) -> Said:
    """Read a message that was written by hand as those of a provider are read, to recognise it when it is resent."""
    calls = tuple(_call(tool_call(call)) for call in message.tool_calls or ())
    if message.role != "tool":
        return Said(role=message.role, text=message.content, calls=calls)
    if message.content and len(calls) == 1:
        return Said(role="tool", text=message.content, call_id=calls[0].id, name=calls[0].name)
    return Said(role="assistant" if calls else "tool", text=message.content, calls=calls)


def _call(call: ToolCall) -> Call:
    return Call(call.id, call.name, None if call.arguments is msgspec.UNSET else call.arguments)
