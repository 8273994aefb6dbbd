"""The writer of turns: has the recorder record what a span tells, in the conversation that the span belongs to.

A turn belongs to the `conversation()` that was active when its span started; else to the session that the span or one
around it names; else to the conversation whose history it continues; else to that of its trace.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from converra.capture.privacy import WITHHELD
from converra.capture.spec import checked_id
from converra.history.turn import Facts, Origin, Request, Run, Scope, SourceMessage
from converra.process.guard import guard, log_limited
from converra.spans import once
from converra.spans.family import number
from converra.spans.messages import SPANS
from converra.spans.reading import ModelCall, ToolRun

if TYPE_CHECKING:
    from converra.capture.recording import Recording
    from converra.capture.routing import CallCapture
    from converra.history.turn import Answer
    from converra.spans.family import Family
    from converra.spans.held import Held
    from converra.spans.names import Names
    from converra.spans.span import Span

MAX_KNOWN = 10_000
"""Tool calls whose run may still come, and pairs of prompt and user."""


class Description(NamedTuple):
    """The emitter of a span, as a receiver knows it: the conversation's metadata has it as `otel`."""

    prompt_id: str | None = None
    """The prompt of spans that name none."""
    emitter: str = ""
    language: str | None = None
    service: str | None = None

    def metadata(self) -> dict[str, Any]:
        """Return it as metadata of a conversation, without what is not known."""
        found = {"emitter": self.emitter, "language": self.language, "service": self.service}
        known = {name: value for name, value in found.items() if value}
        return {"otel": known} if known else {}


Describe = Callable[["Span"], Description]

UNDESCRIBED = Description()

WORDLESS = (
    "converra: the spans of %s have no content, so their turns are recorded without words. "
    "To have the content added, set %s."
)


class TurnWriter:
    """Records turns. Used by one thread at a time."""

    def __init__(self, capture: CallCapture, family: Family, describe: Describe | None = None) -> None:
        self._capture = capture
        self._family = family
        self._describe = describe
        self._calls: OrderedDict[str, weakref.ref[Recording]] = OrderedDict()
        """Id of a tool call → the conversation that it was made in."""
        self._origins: OrderedDict[tuple[str | None, str | None, Description], Origin] = OrderedDict()
        self._continuable: weakref.WeakSet[Recording] = weakref.WeakSet()
        """Conversations that a later trace may continue: by a history, a session or a block."""
        self._named: set[str] = set()
        """Emitters without content that were named in the log."""

    def write(self, held: Held, names: Names) -> None:
        """Record what a span tells; a span of a call that is recorded from elsewhere is dropped."""
        match held.reading:
            case ModelCall() as call:
                if once.is_told_elsewhere(held.member, call, self._family, self._capture.sightings):
                    return
                held.member.is_recorded = True
                self._write_call(held, call, names)
            case ToolRun() as run:
                self._write_tool(held, run)
            case _:
                self._end_trace(held.span.trace_id)

    def _write_call(self, held: Held, call: ModelCall, names: Names) -> None:
        span, answer = held.span, call.answer
        if not call.has_content:
            self._name_switch(span.scope, call.switch)
        if answer is not None:
            if not call.has_content:
                answer.messages = (SourceMessage("assistant", WITHHELD),)
            answer.metadata = {**(answer.metadata or {}), **_about(span, call)} or None
        run = Run(names.agent, names.run) if names.agent or names.run else None
        trace = None if names.session else self._family.trace(span.trace_id)
        scope = Scope(names.session, self._origin(held, names), trace, run, invented=names.invented)
        request = Request(SPANS, call.messages, None, call.model, tools=call.tools, scope=scope, run=run)
        ids = number(span.trace_id), number(span.span_id)
        started, seconds = span.started / 1e9, span.seconds
        if call.seconds is not None:
            started, seconds = span.ended / 1e9 - call.seconds, call.seconds
        facts = Facts(started, seconds * 1000, call.first_token_ms, *ids, run)
        recording = self._capture.record(request, answer, call.failure, facts, held.block)
        if recording is None:
            return
        if call.has_content or names.session or held.block is not None:
            self._continuable.add(recording)
        self._remember_calls(answer, recording)

    def _remember_calls(self, answer: Answer | None, recording: Recording) -> None:
        for source in answer.messages if answer is not None else ():
            for made in source.calls:
                if made.id:
                    self._calls[made.id] = weakref.ref(recording)
        _shorten(self._calls)

    def _write_tool(self, held: Held, run: ToolRun) -> None:
        """Record the result and duration of a tool that a recorded call asked for."""
        reference = self._calls.get(run.call_id or "")
        recording = None if reference is None else reference()
        if recording is not None and not recording.ended and run.result is not None:
            latency = round(held.span.seconds * 1000, 1)
            source = SourceMessage("tool", run.result, (), run.call_id, run.name, latency_ms=latency)
            recording.record_tool_result(source, held.span.ended / 1e9)

    def _end_trace(self, trace_id: str) -> None:
        """Complete the conversation of a trace that is over, if no history can continue it."""
        recording = self._family.trace(trace_id).recording
        if recording is not None and recording not in self._continuable:
            recording.end()

    def _origin(self, held: Held, names: Names) -> Origin | None:
        """Return the prompt and the user of a span: the same object for the same names."""
        prompt_id: Any = held.prompt_id
        if callable(prompt_id):
            ask, prompt_id = prompt_id, None
            with guard("asking your prompt_id function"):
                found = ask(held.span)
                prompt_id = None if found is None else checked_id("prompt_id", found)
            prompt_id = prompt_id or names.prompt
        else:
            prompt_id = names.prompt or prompt_id
        described = UNDESCRIBED if self._describe is None else self._describe(held.span)
        prompt_id = prompt_id or described.prompt_id
        if prompt_id is None and names.user is None and not described.emitter:
            return None
        key = prompt_id, names.user, described
        origin = self._origins.get(key)
        if origin is None:
            metadata = described.metadata() | ({"userId": names.user} if names.user else {})
            origin = self._origins[key] = Origin(prompt_id, None, metadata)
            _shorten(self._origins)
        return origin

    def _name_switch(self, scope: str, switch: str | None) -> None:
        """Log once for each emitter which variable turns content on."""
        if switch and scope not in self._named:
            self._named.add(scope)
            log_limited(f"wordless {scope}", WORDLESS, scope or "an emitter", switch)


def _about(span: Span, call: ModelCall) -> dict[str, Any]:
    """Make the metadata that names the emitter of a turn, the provider, and the language if it is another one."""
    language = span.resource.get("telemetry.sdk.language")
    found = {
        "emitter": span.scope or None,
        "provider": call.provider,
        "language": language if language != "python" else None,
    }
    return {name: value for name, value in found.items() if isinstance(value, str)}


def _shorten(known: OrderedDict[Any, Any]) -> None:
    while len(known) > MAX_KNOWN:
        known.popitem(last=False)
