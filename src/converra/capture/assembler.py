"""From calls to messages: what is recorded of one conversation, its lane to the API, and the jobs that bring it there.

A job is done by whichever thread takes it on, one at a time and in order (`process/jobs.py`), so there are no locks
here, and nothing here is read or changed by anybody else but for the two flags.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import msgspec

from converra.history.draft import Draft, ManualDraft
from converra.history.fold import Asked, fold, record_tool_result, write
from converra.history.record import Record
from converra.history.turn import Facts, SourceMessage, SourceToolCall
from converra.process.guard import log_limited
from converra.wire import json_safe
from converra.wire.parsing import tool_call

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from converra.delivery.conversation_queue import ConversationQueue
    from converra.history.draft import Finish
    from converra.history.fold import NewMessage
    from converra.history.snapshot import Snapshot
    from converra.history.turn import Answer, Failure
    from converra.wire.models import Message, ToolCall

    Show = Callable[[Sequence[Draft | ManualDraft]], None]
    Learn = Callable[[Snapshot, Answer | None], None]

LATE = "converra: a turn came after its conversation was completed; it is not recorded."


class Assembler:
    """Folds what comes in into the record of its conversation, and appends what is new to its lane."""

    def __init__(
        self,
        queue: ConversationQueue,
        finish: Finish,
        *,
        shared: bool = False,
        show: Show | None = None,
        learn: Learn | None = None,
    ) -> None:
        self.record = Record(shared=shared)
        self.finish = finish
        self.sends_now = False
        """What comes is to be sent at once."""
        self._show = show
        self._learn = learn
        self._queue = queue
        self._nonce = os.urandom(8).hex()
        self._over = False
        self._asked: dict[int, Asked] = {}
        """Questions that wait for their answers, by the identity of their views."""
        self._early: dict[str | None, tuple[SourceMessage, Facts]] = {}
        """Results of tools that came before the first call of a shared session, by the id of their call."""

    def fold(self, snapshot: Snapshot, answer: Answer | None, failure: Failure | None, facts: Facts, at: float) -> None:
        """Record a turn that ended at a time of the monotonic clock."""
        if self._is_over():
            return
        if answer is not None:
            answer.settle()
            _name_model(answer, snapshot.model)
        asked = self._asked.pop(id(snapshot), None)
        new = fold(self.record, snapshot, answer) if asked is None or answer is None else asked.reply(answer)
        new = [self._timed(h) for h in new]
        carrier = _carrier(new) if answer else None
        self._append([self._draft(h, answer, failure, facts, carries=_carries(h, carrier)) for h in new], at)
        self._record_early(at)
        if self._learn is not None:
            self._learn(snapshot, answer)

    def ask(self, snapshot: Snapshot, facts: Facts, at: float) -> None:
        """Record what a call has asked, whose answer comes much later if at all."""
        if not self._is_over():
            asked = self._asked[id(snapshot)] = Asked(self.record, snapshot)
            new = [self._timed(h) for h in asked.ask()]
            self._append([self._draft(h, None, None, facts, carries=False) for h in new], at)
            self._record_early(at)

    def record_tool_result(self, source: SourceMessage, facts: Facts, at: float) -> None:
        """Record a tool's result."""
        if self.record.shared and not self.record.version:
            self._early[source.call_id] = source, facts
            return
        new = None if self._is_over() else record_tool_result(self.record, source)
        if new is not None:
            self._append([self._draft(new, None, None, facts, carries=False)], at)

    def write(self, message: Message, at: float) -> None:
        """Record a message that was written by hand."""
        if not self._is_over():
            number = write(self.record, _source(message))
            self._append([ManualDraft(written=message, id=self._id(number), finish=self.finish)], at)

    def send_now(self) -> None:
        """Send what is recorded without waiting for more."""
        if not self._over:
            self._queue.send_now()

    def end(self, always: bool, at: float) -> None:  # noqa: FBT001 - a job has its arguments by position
        """Complete the conversation; later turns are refused."""
        if not self._over:
            self.record.version += bool(self._early)
            self._record_early(at)
            self._over = True
            self._queue.end(always=always)

    def _is_over(self) -> bool:
        if self._over:
            log_limited("ended", LATE)
        return self._over

    def _append(self, drafts: Sequence[Draft | ManualDraft], at: float) -> None:
        if drafts:
            self._queue.append(drafts, at)
            if self._show is not None:
                self._show(drafts)
            if self.sends_now:
                self._queue.send_now()

    def _draft(
        self, new: NewMessage, answer: Answer | None, failure: Failure | None, facts: Facts, *, carries: bool
    ) -> Draft:
        """Make the message to be: the carrier has the facts of the answer; with none, what was asked has the error."""
        return Draft(
            source=new.source,
            id=self._id(new.number),
            finish=self.finish,
            started=facts.started,
            answer=answer if carries else None,
            failure=failure if carries else None,
            latency_ms=facts.latency_ms if carries and answer else None,
            first_token_ms=facts.first_token_ms if carries and answer else None,
            span=(facts.trace_id, facts.span_id) if new.answer else (0, 0),
            extra=self._extra(new),
            already_known=new.already_known,
        )

    def _extra(self, new: NewMessage) -> dict[str, Any] | None:
        extra: dict[str, Any] = {}
        if new.thread:
            extra["thread"] = new.thread
        if new.replaces is not None:
            extra["replaces"] = self._id(new.replaces)
        return extra or None

    def _id(self, number: int) -> str:
        return f"{self._nonce}-{number}"

    def _timed(self, new: NewMessage) -> NewMessage:
        """Add what is known of a tool's run to the result that a request brings."""
        early = self._early.pop(new.source.call_id, None) if self._early and new.source.role == "tool" else None
        if early is None:
            return new
        ran = early[0]
        metadata = {**(new.source.metadata or {}), **(ran.metadata or {})} or None
        source = msgspec.structs.replace(new.source, latency_ms=ran.latency_ms, metadata=metadata)
        return new._replace(source=source)

    def _record_early(self, at: float) -> None:
        """Record the results that no request has brought."""
        early, self._early = list(self._early.values()), {}
        for source, facts in early:
            self.record_tool_result(source, facts, at)


def _name_model(answer: Answer, asked: str | None) -> None:
    """Name the model that was asked for, marked as such, where an answer does not say which one gave it."""
    if asked and not answer.model and answer.is_begun:
        answer.model = asked
        answer.metadata = {**(answer.metadata or {}), "modelRequested": True}


def _carrier(new: Sequence[NewMessage]) -> NewMessage | None:
    """Find the message of the answer that carries its facts: the last with words, else the last."""
    answers = [h for h in new if h.answer]
    texts = [h for h in answers if h.source.role == "assistant"]
    return next(reversed(texts or answers), None)


def _carries(new: NewMessage, carrier: NewMessage | None) -> bool:
    """Whether a message carries facts: the carrier, or with no answer everything that was asked."""
    return new is carrier if carrier else new.source.role != "system"


def _source(message: Message) -> SourceMessage:
    """Read a message that was written by hand as those of a provider are read, to recognise it when it is resent."""
    calls = tuple(_call(tool_call(call)) for call in message.tool_calls or ())
    if message.role != "tool":
        return SourceMessage(role=message.role, text=message.content, calls=calls)
    if message.content and len(calls) == 1:
        return SourceMessage(role="tool", text=message.content, call_id=calls[0].id, name=calls[0].name)
    return SourceMessage(role="assistant" if calls else "tool", text=message.content, calls=calls)


def _call(call: ToolCall) -> SourceToolCall:
    return SourceToolCall(
        json_safe.identifier(call.id), call.name, None if call.arguments is msgspec.UNSET else call.arguments
    )
