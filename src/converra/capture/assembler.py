"""From calls to messages: the record of one conversation, and the queue that its new messages are appended to.

Every method runs as a job, done by one thread at a time and in order (`process/jobs.py`). So there are no locks here,
and other threads touch nothing but the two flags.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import msgspec

from converra.delivery.protocol.late_errors import LATE_ERRORS
from converra.history.draft import Draft, ManualDraft, failure_record
from converra.history.fold import Asked, fold, record_tool_result, write
from converra.history.record import Record
from converra.history.turn import Facts, SourceMessage, SourceToolCall
from converra.process.guard import log_limited
from converra.wire import json_safe
from converra.wire.models import FEEDBACK, tool_call

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from converra.capture.feedback import Feedback
    from converra.delivery.conversation_queue import ConversationQueue
    from converra.history.draft import Finish
    from converra.history.fold import NewMessage
    from converra.history.record import Snapshot
    from converra.history.turn import Answer, Failure, Run
    from converra.wire.models import Message, ToolCall

    Show = Callable[[Sequence[Draft | ManualDraft]], None]

LATE = "converra: a turn came after its conversation was completed; it is not recorded."
LATE_METADATA = "converra: metadata came after its conversation was completed; it is not recorded."


class Assembler:
    """Folds turns into the record of a conversation, and appends the new messages to its queue."""

    def __init__(
        self,
        queue: ConversationQueue,
        finish: Finish | None,
        *,
        shared: bool = False,
        show: Show | None = None,
    ) -> None:
        self.record: Record = Record(shared=shared)
        self._finish = finish
        self.sends_now: bool = False
        """New messages are sent at once."""
        self._show = show
        self._queue = queue
        self._nonce = os.urandom(8).hex()
        self._over = False
        self._feedback: dict[str, dict[str, Any]] = {}
        """All feedback so far, by key: a field of the metadata is replaced as a whole."""
        self._carriers = 0
        """Messages that were made to carry feedback."""
        self._asked: dict[int, Asked] = {}
        """Requests that wait for their answers, by the identity of their snapshots."""
        self._early: dict[str | None, tuple[SourceMessage, Facts]] = {}
        """Tool results that came before the first call of a shared session, by the id of their tool call."""

    def fold(self, snapshot: Snapshot, answer: Answer | None, failure: Failure | None, facts: Facts, at: float) -> bool:
        """Record a turn that ended `at` a time of the monotonic clock; return False if the conversation is over."""
        if self._over:
            log_limited("ended", LATE)
            return False
        if answer is not None:
            answer.settle()
            if facts.sighting is not None:
                facts.sighting.answered(answer.response_id)
            if snapshot.model and not answer.model and answer.is_begun:
                answer.model = snapshot.model
                answer.metadata = {**(answer.metadata or {}), "modelRequested": True}
        asked = self._asked.pop(id(snapshot), None)
        if asked is None or answer is None:
            new = fold(self.record, snapshot, answer, failed=failure is not None)
        else:
            new = asked.reply(answer)
        if self._early:
            new = [self._timed(message) for message in new]
        carrier = _carrier(new) if answer else None
        drafts = []
        for message in new:
            # Without an answer, every message but system ones carries the facts.
            carries = message is carrier if carrier else message.source.role != "system"
            drafts.append(self._draft(message, answer, failure, facts, carries=carries))
        self._append(drafts, at)
        if self._early:
            self._record_early(at)
        return True

    def ask(self, snapshot: Snapshot, facts: Facts, at: float) -> None:
        """Record the request of a call whose answer comes much later, if at all."""
        if self._over:
            log_limited("ended", LATE)
        else:
            asked = self._asked[id(snapshot)] = Asked(self.record, snapshot)
            new = [self._timed(message) for message in asked.ask()]
            self._append([self._draft(m, None, None, facts, carries=False) for m in new], at)
            self._record_early(at)

    def record_tool_result(self, source: SourceMessage, facts: Facts, at: float) -> None:
        """Record a tool's result."""
        if self.record.shared and not self.record.version:
            self._early[source.call_id] = source, facts
            return
        if self._over:
            log_limited("ended", LATE)
        elif (new := record_tool_result(self.record, source)) is not None:
            self._append([self._draft(new, None, None, facts, carries=False)], at)

    def write(self, message: Message, called: datetime, at: float) -> None:
        """Record a message that was written by hand."""
        if self._over:
            log_limited("ended", LATE)
        else:
            number = write(self.record, _source(message))
            draft = ManualDraft(written=message, id=f"{self._nonce}-{number}", finish=self._finish, called=called)
            self._append([draft], at)

    def rate(self, feedback: Feedback, called: datetime, carried: bool, at: float) -> None:  # noqa: FBT001 - as for `end`
        """Record feedback in the conversation's metadata, and in a system message unless the end will carry that.

        Args:
            feedback: What was given.
            called: When.
            carried: The conversation ends in this process, so a request is still to come.
            at: The same by the monotonic clock.

        """
        feedback = feedback.redacted(self._finish)
        self._feedback[feedback.key] = feedback.record(called)
        carried = carried and self._queue.used and not self._over
        self._queue.annotate({FEEDBACK: dict(self._feedback)}, alone=carried)
        if not carried:
            self._carriers += 1
            message_id = f"{self._nonce}-{FEEDBACK}{self._carriers}"
            self._append([ManualDraft(written=feedback.message(message_id, called), id=message_id)], at)

    def reject(self, answer: Answer, failure: Failure) -> None:
        """Record that the app could not read an answer that was recorded before."""
        if answer.carried_by is not None and self._queue.used:
            self._queue.annotate({LATE_ERRORS: {answer.carried_by: failure_record(failure)}})

    def send_now(self) -> None:
        """Send what is recorded now, without waiting for more."""
        if not self._over:
            self._queue.send_now()

    def end(self, always: bool, final: bool, at: float) -> None:  # noqa: FBT001 - a job has its arguments by position
        """Complete the conversation; if `final`, later turns are refused."""
        if not self._over:
            if self._early:
                self.record.version += 1
                self._record_early(at)
            self._over = final
            self._queue.end(always=always)

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
        """Make a draft. The carrier has the facts of an answer; without one, the request's messages carry the error."""
        message_id = f"{self._nonce}-{new.number}"
        if answer is not None and carries:
            answer.carried_by = message_id
        run = facts.run if new.answer or (carries and failure) else None
        has_extra = run is not None or new.thread or new.replaces is not None
        return Draft(
            source=new.source,
            id=message_id,
            finish=self._finish,
            started=facts.started,
            answer=answer if carries else None,
            failure=failure if carries else None,
            latency_ms=facts.latency_ms if carries and answer else None,
            first_token_ms=facts.first_token_ms if carries and answer else None,
            span=(facts.trace_id, facts.span_id) if new.answer else (0, 0),
            extra=self._extra(new, run) if has_extra else None,
            already_known=new.already_known,
        )

    def _extra(self, new: NewMessage, run: Run | None) -> dict[str, Any]:
        extra: dict[str, Any] = {}
        if new.thread:
            extra["thread"] = new.thread
        if new.replaces is not None:
            extra["replaces"] = f"{self._nonce}-{new.replaces}"
        if run is not None and run.agent:
            extra["agent"] = run.agent
        if run is not None and run.id:
            extra["runId"] = run.id
        return extra

    def _timed(self, new: NewMessage) -> NewMessage:
        """Add the duration and metadata of a tool's run to the result that a request brings."""
        early = self._early.pop(new.source.call_id, None) if new.source.role == "tool" else None
        if early is None:
            return new
        ran = early[0]
        metadata = {**(new.source.metadata or {}), **(ran.metadata or {})} or None
        source = msgspec.structs.replace(new.source, latency_ms=ran.latency_ms, metadata=metadata)
        return new._replace(source=source)

    def _record_early(self, at: float) -> None:
        """Record the tool results that no request has brought."""
        early, self._early = list(self._early.values()), {}
        for source, facts in early:
            self.record_tool_result(source, facts, at)


def _carrier(new: Sequence[NewMessage]) -> NewMessage | None:
    """Find the message of the answer that carries its facts: the last assistant text, else the last message."""
    carrier: NewMessage | None = None
    for message in new:
        is_text = message.source.role == "assistant"
        if message.answer and (is_text or carrier is None or carrier.source.role != "assistant"):
            carrier = message
    return carrier


def _source(message: Message) -> SourceMessage:
    """Read a hand-written message as a provider's are read, so that it is recognised when it is resent."""
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
