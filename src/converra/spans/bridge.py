"""The bridge from spans to conversations: takes spans in, holds each turn for a moment, and has it recorded in order.

Why it holds turns: spans come in the order in which they end. So the names on the spans around a call, an earlier call
that took longer, and the answer's id of a call that was captured directly may come after the call itself.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from time import monotonic
from typing import TYPE_CHECKING, Any

from converra.capture.sightings import Sightings
from converra.process import context
from converra.process.guard import guard, log_limited
from converra.process.jobs import PeriodicTask
from converra.spans import dialects
from converra.spans.family import Family, Live
from converra.spans.held import Arrival, Expected, Held, LogEvent, size_of
from converra.spans.reading import ModelCall
from converra.spans.span import from_sdk
from converra.spans.turns import TurnWriter

if TYPE_CHECKING:
    from collections.abc import Iterable

    from converra.capture.handle import Conversation
    from converra.capture.recorder import Recorder
    from converra.spans.held import PromptId
    from converra.spans.names import Names
    from converra.spans.span import Span, SpanEvent
    from converra.spans.turns import Describe

__all__ = ["HOLD", "Bridge", "LogEvent"]

HOLD = 0.25
"""Seconds for which a turn is held: spans that start and end close together are recorded in their order."""

TICK = 0.05
"""Seconds between two looks at what is held."""

RECHECK = 0.25
"""Seconds until it is looked again if a turn that was not ready is ready now."""

MAX_WAITING = 10_000
"""Spans that wait to be read; past it, or past `max_pending_bytes`, the newest are dropped."""

MAX_LOGS = 10_000
"""Log records whose span may still come."""

DROPPED = "converra: more spans end than can be read; some are dropped, and their turns are not recorded."


class Bridge:
    """Records the turns that spans tell. One for each recorder; any thread may call its public methods.

    Args:
        recorder: Records the turns.
        prompt_id: The prompt of spans that name none: a string, or a function of the span that is asked first. Default:
            the recorder's setting.
        hold: Seconds for which each turn is held.
        patience: Seconds for which a turn waits at most for the spans around it, if it names no session, and for a log
            record with its content. Default: `hold`.
        describe: Tells of a span's emitter, for the metadata of its conversation, and the prompt of spans that name
            none; asked last.

    """

    def __init__(
        self,
        recorder: Recorder,
        *,
        prompt_id: PromptId = None,
        hold: float = HOLD,
        patience: float = 0.0,
        describe: Describe | None = None,
    ) -> None:
        self.recorder: Recorder = recorder
        self.family: Family = Family()
        self._delivery = recorder.delivery
        self._prompt_id = prompt_id
        self._hold = hold
        self._patience = patience
        self._inbox: deque[Arrival] = deque()
        self._held: list[Held] = []
        self._max_bytes = recorder.delivery.config.max_pending_bytes
        self._inbox_bytes = 0
        """Bytes of the spans in the inbox; roughly, as callers add to it without a lock."""
        self._held_bytes = 0
        self._is_watched = False
        """A worker looks at what is held."""
        self._is_busy = False
        self._logs: OrderedDict[tuple[str, str], list[SpanEvent]] = OrderedDict()
        self._writer = TurnWriter(recorder.capture, self.family, describe)
        self._task = PeriodicTask(self._delivery.jobs, TICK, Bridge._look, self)
        recorder.add_source(self, self._task)

    @classmethod
    def of(cls, recorder: Recorder) -> Bridge:
        """Return the bridge for the spans of this process; what is also captured directly is recorded once."""
        with recorder.delivery.jobs.lock:
            present = next((source for source in recorder.sources if isinstance(source, cls)), None)
            recorder.capture.sightings = recorder.capture.sightings or Sightings()
            return present or cls(recorder)

    # -- taking in -----------------------------------------------------------------------------------------------------

    def put(self, ended: Any, prompt_id: PromptId = None, patience: float = 0.0) -> None:
        """Take in a span of the SDK that has ended. Costs microseconds: a worker reads it.

        Args:
            ended: The SDK's object, a `ReadableSpan`.
            prompt_id: As for the bridge, which it overrides.
            patience: As for the bridge: seconds.

        """
        if len(self._inbox) >= MAX_WAITING or self._inbox_bytes + self._held_bytes >= self._max_bytes:
            log_limited("spans", DROPPED)
            if dialects.is_genai(ended):
                self._delivery.refuse(1)  # as one message: it was not read
            return
        live = self.family.live.get(ended.context.span_id)
        block, expected = (None, None) if live is None else (live.block, live.expected)
        if block is not None and expected is None:
            expected = self._expect(block)
        self._inbox_bytes += size_of(ended)
        self._inbox.append(Arrival(None, ended, prompt_id, block, expected, None, patience))
        if not self._is_watched:
            self._watch()

    def start(self, span: Any) -> None:
        """Note that a span of the SDK starts here and now."""
        span_id, block, expected = span.context.span_id, context.active(), None
        sightings = self.recorder.capture.sightings
        if sightings is not None:
            sightings.saw(span_id, span.start_time or 0)
        if block is not None and dialects.is_genai(span):
            expected = self._expect(block)
        self.family.start(span_id, Live(span, block, expected))

    def _expect(self, block: Conversation) -> Expected | None:
        """Keep a conversation open for a turn that comes; None if it is over, or is not recorded."""
        recording = block.recorded or block.recording()
        return None if recording is None or recording.ended else Expected(self, recording)

    def feed(self, spans: Iterable[Span], logs: Iterable[LogEvent] = ()) -> int:
        """Take in spans that have ended, in any order; those that came before are ignored.

        Args:
            spans: The spans, also those that are not GenAI: they may name a session.
            logs: Log records that name a span, before it or after it.

        Returns:
            The number of GenAI spans.

        """
        found = 0
        for event in logs:
            self._inbox.append(Arrival(None, None, log=event))
        for span in spans:
            found += dialects.is_genai(span)
            self._inbox_bytes += size_of(span)
            self._inbox.append(Arrival(span, None, patience=self._patience))
        if self._inbox and not self._is_watched:
            self._watch()
        return found

    @property
    def is_full(self) -> bool:
        """True while a receiver should refuse more spans: `MAX_WAITING` wait, or `max_pending_bytes` of them."""
        waiting, size = len(self._inbox) + len(self._held), self._inbox_bytes + self._held_bytes
        return waiting >= MAX_WAITING or size >= self._max_bytes

    def release(self) -> None:
        """Record everything that is held, now: for a flush, or the end of a conversation or of the process."""
        if self._inbox or self._held:
            with self._delivery.jobs.lock:
                self._delivery.jobs.work()  # the captured calls first, which these spans may tell as well
                self._run(everything=True)

    def after_fork(self) -> None:
        """Forget everything in a child process."""
        self._inbox.clear()
        self._held.clear()
        self._inbox_bytes = self._held_bytes = 0
        self._is_watched = self._is_busy = False

    # -- holding: one thread at a time, under the lock of the jobs -----------------------------------------------------

    def _watch(self) -> None:
        """Have a worker look; or record at once where none can."""
        if self._delivery.can_wait:
            self._is_watched = self._task.wanted = True
            self._delivery.nudge()
        else:
            self.release()

    def _look(self) -> None:
        self._run()
        self._is_watched = self._task.wanted = bool(self._held)
        if self._inbox:  # another thread has just added to it
            self._is_watched = self._task.wanted = True

    def _run(self, *, everything: bool = False) -> None:
        if self._is_busy:  # a signal handler has interrupted it
            return
        self._is_busy = True
        try:
            now = monotonic()
            while self._inbox:
                arrival = self._inbox.popleft()
                is_held = False
                with guard("reading a span"):
                    is_held = self._arrive(arrival, now)
                if arrival.expected is not None and not is_held:
                    arrival.expected.settle()
            self._inbox_bytes = 0
            self._let_go(now, everything=everything)
        finally:
            self._is_busy = False

    def _arrive(self, arrival: Arrival, now: float) -> bool:
        """Read a span that has come; return True if it is held, since it makes a turn."""
        if arrival.log is not None:
            self._on_log(arrival.log)
            return False
        span = arrival.span or from_sdk(arrival.ended)
        events = self._logs.pop((span.trace_id, span.span_id), None)
        if events:
            span = span.with_events(events)
        reading = dialects.read(span)
        member = self.family.add(span, reading)
        if arrival.span is None:
            self.family.live.pop(arrival.ended.context.span_id, None)
        if member is None:
            return False
        due, until = now + self._hold, now + max(self._hold, arrival.patience)
        prompt_id = arrival.prompt_id or self._prompt_id
        if reading is not None:
            self._held.append(
                Held(span, reading, member, prompt_id, arrival.block, arrival.expected, due, until, size_of(span))
            )
        if span.is_root:
            self._held.append(Held(span, None, member, None, None, None, due, until))
        return reading is not None

    def _on_log(self, log: LogEvent) -> None:
        """Add a log record to its span, or keep it until the span comes."""
        key = log.trace_id, log.span_id
        for held in self._held:
            if held.reading is not None and (held.span.trace_id, held.span.span_id) == key:
                held.span = held.span.with_events((log.event,))
                held.reading = dialects.read(held.span) or held.reading
                held.member.note(held.reading)
                return
        self._logs.setdefault(key, []).append(log.event)
        while len(self._logs) > MAX_LOGS:
            self._logs.popitem(last=False)

    def _let_go(self, now: float, *, everything: bool) -> None:
        """Record what is due, in order. A turn that waits for its session keeps back later ones that have none."""
        self._held.sort(key=lambda held: held.order)
        kept: list[Held] = []
        is_blocked = False
        for held in self._held:
            if now < held.due and not everything:
                kept.append(held)
                is_blocked = is_blocked or held.seeks_session
                continue
            with guard("recording the turn of a span"):
                names = self.family.names(held.member)
                has_place = names.session is not None or held.block is not None
                if not (everything or ((has_place or not is_blocked) and self._is_ready(held, names, now))):
                    held.due, held.seeks_session = min(now + RECHECK, max(now, held.until)), not has_place
                    kept.append(held)
                    is_blocked = is_blocked or not has_place
                    continue
                self._writer.write(held, names)
            if held.expected is not None:
                held.expected.settle()
        self._held = kept
        self._held_bytes = sum(held.size for held in kept)

    def _is_ready(self, held: Held, names: Names, now: float) -> bool:
        if now >= held.until or held.reading is None:
            return True
        if isinstance(held.reading, ModelCall) and not held.reading.has_content:
            return False  # the content may come in a log record
        return names.session is not None or held.block is not None or self.family.is_complete(held.member)
