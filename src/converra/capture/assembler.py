"""From calls to messages: what is recorded of one conversation, its lane to the API, and the jobs that bring it there.

A job is done by whichever thread takes it on, one at a time and in order (`process/jobs.py`), so there are no locks
here, and nothing here is read or changed by anybody else but for the two flags.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import msgspec

from converra.history.draft import Draft, Written
from converra.history.fold import Asked, fold, say, write
from converra.history.record import Record
from converra.history.turn import Call, Facts, Said
from converra.process.guard import tell
from converra.wire import json_safe
from converra.wire.parsing import tool_call

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from converra.delivery.conversation_queue import Lane
    from converra.history.draft import Finish
    from converra.history.fold import Heard
    from converra.history.snapshot import View
    from converra.history.turn import Answer, Failure
    from converra.wire.models import Message, ToolCall

    Show = Callable[[Sequence[Draft | Written]], None]
    Learn = Callable[[View, Answer | None], None]

LATE = "converra: a turn came after its conversation was completed; it is not recorded."


class Assembler:
    """Folds what comes in into the record of its conversation, and appends what is new to its lane."""

    def __init__(
        self,
        lane: Lane,
        finish: Finish,
        *,
        joining: bool = False,
        show: Show | None = None,
        learn: Learn | None = None,
    ) -> None:
        self.record = Record(shared=joining)
        self.finish = finish
        self.hasty = False
        """What comes is to be sent at once."""
        self._show = show
        self._learn = learn
        self._lane = lane
        self._nonce = os.urandom(8).hex()
        self._over = False
        self._asked: dict[int, Asked] = {}
        """Questions that wait for their answers, by the identity of their views."""
        self._early: dict[str | None, tuple[Said, Facts]] = {}
        """Results of tools that came before the first call of a shared session, by the id of their call."""

    def fold(self, view: View, answer: Answer | None, failure: Failure | None, facts: Facts, at: float) -> None:
        """Record a turn that ended at a time of the steady clock."""
        if self._is_over():
            return
        if answer is not None:
            answer.settle()
            _name_model(answer, view.model)
        asked = self._asked.pop(id(view), None)
        new = fold(self.record, view, answer) if asked is None or answer is None else asked.reply(answer)
        heard = [self._timed(h) for h in new]
        carrier = _carrier(heard) if answer else None
        self._append([self._draft(h, answer, failure, facts, carries=_carries(h, carrier)) for h in heard], at)
        self._say_early(at)
        if self._learn is not None:
            self._learn(view, answer)

    def ask(self, view: View, facts: Facts, at: float) -> None:
        """Record what a call has asked, whose answer comes much later if at all."""
        if not self._is_over():
            asked = self._asked[id(view)] = Asked(self.record, view)
            heard = [self._timed(h) for h in asked.ask()]
            self._append([self._draft(h, None, None, facts, carries=False) for h in heard], at)
            self._say_early(at)

    def say(self, said: Said, facts: Facts, at: float) -> None:
        """Record a tool's result."""
        if self.record.shared and not self.record.version:
            self._early[said.call_id] = said, facts
            return
        heard = None if self._is_over() else say(self.record, said)
        if heard is not None:
            self._append([self._draft(heard, None, None, facts, carries=False)], at)

    def write(self, message: Message, at: float) -> None:
        """Record a message that was written by hand."""
        if not self._is_over():
            number = write(self.record, _said(message))
            self._append([Written(written=message, id=self._id(number), finish=self.finish)], at)

    def hasten(self) -> None:
        """Send what is recorded without waiting for more."""
        if not self._over:
            self._lane.hasten()

    def end(self, always: bool, at: float) -> None:  # noqa: FBT001 - a job has its arguments by position
        """Complete the conversation; later turns are refused."""
        if not self._over:
            self.record.version += bool(self._early)
            self._say_early(at)
            self._over = True
            self._lane.end(always=always)

    def _is_over(self) -> bool:
        if self._over:
            tell("ended", LATE)
        return self._over

    def _append(self, drafts: Sequence[Draft | Written], at: float) -> None:
        if drafts:
            self._lane.append(drafts, at)
            if self._show is not None:
                self._show(drafts)
            if self.hasty:
                self._lane.hasten()

    def _draft(
        self, heard: Heard, answer: Answer | None, failure: Failure | None, facts: Facts, *, carries: bool
    ) -> Draft:
        """Make the message to be: the carrier has the facts of the answer; with none, what was asked has the error."""
        return Draft(
            said=heard.said,
            id=self._id(heard.number),
            finish=self.finish,
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

    def _timed(self, heard: Heard) -> Heard:
        """Add what is known of a tool's run to the result that a request brings."""
        early = self._early.pop(heard.said.call_id, None) if self._early and heard.said.role == "tool" else None
        if early is None:
            return heard
        ran = early[0]
        metadata = {**(heard.said.metadata or {}), **(ran.metadata or {})} or None
        said = msgspec.structs.replace(heard.said, latency_ms=ran.latency_ms, metadata=metadata)
        return heard._replace(said=said)

    def _say_early(self, at: float) -> None:
        """Record the results that no request has brought."""
        early, self._early = list(self._early.values()), {}
        for said, facts in early:
            self.say(said, facts, at)


def _name_model(answer: Answer, asked: str | None) -> None:
    """Name the model that was asked for, marked as such, where an answer does not say which one gave it."""
    if asked and not answer.model and answer.is_begun:
        answer.model = asked
        answer.metadata = {**(answer.metadata or {}), "modelRequested": True}


def _carrier(heard: Sequence[Heard]) -> Heard | None:
    """Find the message of the answer that carries its facts: the last with words, else the last."""
    answers = [h for h in heard if h.answer]
    spoken = [h for h in answers if h.said.role == "assistant"]
    return next(reversed(spoken or answers), None)


def _carries(heard: Heard, carrier: Heard | None) -> bool:
    """Whether a message carries facts: the carrier, or with no answer everything that was asked."""
    return heard is carrier if carrier else heard.said.role != "system"


def _said(message: Message) -> Said:
    """Read a message that was written by hand as those of a provider are read, to recognise it when it is resent."""
    calls = tuple(_call(tool_call(call)) for call in message.tool_calls or ())
    if message.role != "tool":
        return Said(role=message.role, text=message.content, calls=calls)
    if message.content and len(calls) == 1:
        return Said(role="tool", text=message.content, call_id=calls[0].id, name=calls[0].name)
    return Said(role="assistant" if calls else "tool", text=message.content, calls=calls)


def _call(call: ToolCall) -> Call:
    return Call(json_safe.identifier(call.id), call.name, None if call.arguments is msgspec.UNSET else call.arguments)
