"""The rules by which a call, a tool result or a block finds its conversation. The first that applies decides.

====  ==========================================  =========================================================
      present                                     the conversation
====  ==========================================  =========================================================
1     an active `conversation()`                  that one
2     a session of a framework (a thread id), or  the one of that prompt and session, here and in other
      of its handler, for every call inside of    processes; its first call opens it, unless the framework
      its run, whichever client makes it          made up the session's id and rule 3 applies
3     a history that was recorded                 the one that it continues best
4     a framework's run with recorded calls       the one of those calls
5     a prompt                                    a new one
6     nothing of these                            none; a warning is logged
====  ==========================================  =========================================================
"""

from __future__ import annotations

import hashlib
import random
import zlib
from threading import current_thread
from typing import TYPE_CHECKING, Any

from converra.capture.insights import InsightsReader
from converra.capture.recording import Recording
from converra.capture.spec import ConversationSpec, checked_id
from converra.errors import InvalidArgumentError
from converra.history.turn import Scope
from converra.process import context, exits, lifecycle
from converra.process.guard import guard, guarded, log_limited, report

if TYPE_CHECKING:
    from converra.capture.assembler import Show
    from converra.capture.handle import Conversation
    from converra.capture.implicit import ImplicitConversations
    from converra.capture.open_call import OpenCall
    from converra.capture.registry import Registry
    from converra.capture.sightings import Sightings
    from converra.config import Config
    from converra.delivery.delivery import Delivery
    from converra.history.draft import Finish
    from converra.history.turn import Answer, Facts, Failure, Origin, Request, SourceMessage


CHANCE = random.SystemRandom().random
"""A generator apart from the global one: that may be seeded, and drawing from it would change the app's numbers."""

NO_CONVERSATION = (
    "converra: a model call was made outside any conversation and is not recorded. Put it in a "
    "`with converra.conversation(prompt_id):` block, or set prompt_id in converra.instrument()."
)

NO_PROMPT = (
    "converra: a model call of an OpenTelemetry span belongs to no prompt and is not recorded. Set prompt_id in "
    "converra.instrument() or CONVERRA_PROMPT_ID, or the attribute converra.prompt.id on the span or its resource."
)

LEFT_BEHIND = (
    "converra: a model call in the thread %s is outside of the conversation() block that is open in another thread, "
    "and is %s: threads and pools do not inherit a block. If it belongs there, hand the context over: "
    "`pool.submit(contextvars.copy_context().run, function, ...)`, or `asyncio.to_thread(function, ...)`."
)


class Router:
    """Finds the recording that something belongs to, or makes a new one."""

    def __init__(
        self, config: Config, registry: Registry, delivery: Delivery, finish: Finish | None, show: Show | None = None
    ) -> None:
        self._config = config
        self._registry = registry
        self._sessions = registry.sessions
        self._implicit = registry.implicit
        self._delivery = delivery
        self._finish = finish
        self._show = show
        self.insights: InsightsReader = InsightsReader(config, delivery)

    def for_block(self, spec: ConversationSpec) -> Recording | None:
        """Find or make the recording behind a `conversation()`; None if capture is off or it was sampled out."""
        if not self._is_sampled(spec.session_id):
            return None
        if spec.session_id is None:
            return self._record(spec)
        session = (spec.prompt_id, spec.session_id)
        present = self._sessions.find(session)
        if present is not None:
            present.annotate(spec.metadata)
            return present
        return self._sessions.add(session, self._record(spec))

    def for_call(self, request: Request) -> tuple[Recording | None, list[int] | None]:
        """Find or make the recording of a call outside of any block.

        Returns:
            The recording, or None; and the fingerprints of the request's messages if they were needed to find it.

        """
        scope = request.scope = _within(request.scope)
        request.run = scope.run or request.run
        prompt_id = self._prompt_of(request)
        session = _session(scope)
        if session is None and context.open_elsewhere():
            _log_left_behind(recorded=prompt_id is not None)
        elif prompt_id is None:
            log_limited("homeless", NO_CONVERSATION)
        return (None, None) if prompt_id is None else self._found(request, scope, prompt_id, session)

    def for_past_call(self, request: Request) -> tuple[Recording | None, list[int] | None]:
        """Find or make the recording of a call that is over; only its own scope counts. Returns as `for_call`."""
        scope = request.scope or NOWHERE
        prompt_id = self._prompt_of(request)
        if prompt_id is None:
            log_limited("homeless span", NO_PROMPT)
            return None, None
        return self._found(request, scope, prompt_id, _session(scope))

    def _found(
        self, request: Request, scope: Scope, prompt_id: str, session: str | None
    ) -> tuple[Recording | None, list[int] | None]:
        fingerprints: list[int] | None = None
        if session is None and scope.trace is None:
            fingerprints = request.dialect.fingerprint(request.messages)
            return self._implicit.find(prompt_id, request, fingerprints) or self._new(prompt_id, scope), fingerprints
        with self._delivery.jobs.lock:  # the branches of a run may begin at the same time
            recording: Recording | None = None
            if session is None or (scope.invented and self._sessions.find((prompt_id, session)) is None):
                fingerprints = request.dialect.fingerprint(request.messages)
                recording = self._implicit.find(prompt_id, request, fingerprints)
            if recording is None and session is not None:
                recording = self._of_session(prompt_id, session, scope)
            elif recording is None:
                recording = self._of_trace(prompt_id, scope)
            if scope.trace is not None:
                scope.trace.recording = recording
        return recording, fingerprints

    def for_tool_result(self, scope: Scope) -> Recording | None:
        """Find the recording that a tool's result belongs to, if that can be decided without a history."""
        block = context.active()
        if block is not None:
            active: Recording | None = block.recording()
            return active
        traced: Recording | None = scope.trace.recording if scope.trace else None
        if traced is not None and not traced.ended:
            return traced
        session, prompt_id = _session(scope), self._prompt_setting(scope.origin)
        if session is None or not isinstance(prompt_id, str):
            return None
        return self._of_session(prompt_id, session, scope)

    def pause(self, scope: Scope, *, paused: bool) -> None:
        """Note that the run of a scope has paused or ended; its session may have been opened by an earlier run."""
        if scope.trace is not None and scope.trace.recording is not None:
            scope.trace.recording.paused = paused
        session, prompt_id = _session(scope), self._prompt_setting(scope.origin)
        if session is not None:
            self._sessions.pause(session, prompt_id if isinstance(prompt_id, str) else None, paused=paused)

    def complete(self, scope: Scope) -> None:
        """Complete the conversation of a framework's session; another process may go on with the session."""
        session, prompt_id = _session(scope), self._prompt_setting(scope.origin)
        if session is not None:
            for recording in self._sessions.of_framework(session, prompt_id if isinstance(prompt_id, str) else None):
                recording.end()

    def complete_origin(self, origin: Origin) -> None:
        """Complete what was recorded for a framework's handler, or else its session, which another may have opened."""
        self._registry.end_origin(origin)
        prompt_id = self._prompt_setting(origin)
        if origin.session_id is not None and isinstance(prompt_id, str) and not origin.used:
            recording = self.for_block(ConversationSpec(prompt_id, origin.session_id))
            if recording is not None:
                recording.end(always=True)

    def _record(
        self,
        spec: ConversationSpec,
        *,
        implicit: ImplicitConversations | None = None,
        origin: Origin | None = None,
    ) -> Recording:
        """Make a recording. Process exit is prepared for now: an open stream may be all there is until the end."""
        if not self._delivery.started:
            exits.arm(self._delivery)
        recording = Recording(spec, self._delivery, self._finish, show=self._show, implicit=implicit, origin=origin)
        self._registry.recordings.add(recording)
        return recording

    def _of_session(self, prompt_id: str, session_id: str, scope: Scope) -> Recording | None:
        session, origin = (prompt_id, session_id), scope.origin
        present = self._sessions.find(session)
        if present is not None or not self._is_sampled(session_id):
            return present
        spec = ConversationSpec(prompt_id, session_id, origin.metadata if origin else {})
        recording = self._record(spec, origin=origin, implicit=self._implicit if scope.invented else None)
        return self._sessions.add(session, recording, of_framework=True)

    def _of_trace(self, prompt_id: str, scope: Scope) -> Recording | None:
        """Find the implicit conversation of the framework's run, or make a new one."""
        present: Recording | None = scope.trace.recording if scope.trace else None
        if present is not None and not present.ended and present.prompt_id == prompt_id:
            return present
        return self._new(prompt_id, scope)

    def _new(self, prompt_id: str, scope: Scope) -> Recording | None:
        """Make an implicit conversation; None if it was sampled out."""
        if not self._is_sampled(None):
            return None
        spec = ConversationSpec(prompt_id, None, scope.origin.metadata if scope.origin else {})
        return self._record(spec, implicit=self._implicit, origin=scope.origin)

    def _prompt_setting(self, origin: Origin | None) -> Any:
        return (origin.prompt_id if origin else None) or self._config.prompt_id

    def _prompt_of(self, request: Request) -> str | None:
        prompt_id = self._prompt_setting(request.scope.origin if request.scope else None)
        if not callable(prompt_id):
            return prompt_id  # type: ignore[no-any-return]  # a string or None, as settings are read
        with guard("asking your prompt_id function"):
            found = prompt_id(request)
            return None if found is None else checked_id("prompt_id", found)
        return None

    def _is_sampled(self, session_id: str | None) -> bool:
        """Decide for a whole conversation whether it is captured; for a session, the same in every process."""
        rate = self._config.sample_rate
        if rate >= 1 or not self._config.enabled:
            return self._config.enabled
        if session_id is None:
            return CHANCE() < rate
        return zlib.crc32(session_id.encode(errors="replace")) < rate * 2**32


def _log_left_behind(*, recorded: bool) -> None:
    fate = "recorded in a conversation of its own" if recorded else "not recorded"
    log_limited("left behind", LEFT_BEHIND, current_thread().name, fate)


def _within(scope: Scope | None) -> Scope:
    """Complete the scope of a call by the framework's run that surrounds it."""
    around = context.surrounding() if context.readers else None
    if scope is None or around is None:
        return scope or around or NOWHERE
    run = scope.run or around.run
    if scope.session is not None:
        return scope._replace(run=run)
    return around._replace(origin=scope.origin or around.origin, trace=scope.trace or around.trace, run=run)


def _session(scope: Scope) -> str | None:
    """Return the session id of a scope, as a digest if it cannot be an id as it is."""
    session = scope.session
    if session is None or not session.strip():
        return None
    try:
        return checked_id("session_id", session)
    except InvalidArgumentError:
        return hashlib.sha256(session.encode(errors="replace")).hexdigest()


NOWHERE = Scope()


class CallCapture:
    """Implements `integrations.Capture`: finds the conversation of each call and opens a turn in it. Never raises."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self.active: bool = False
        """True while calls are captured."""
        self.sightings: Sightings | None = None
        """The calls captured here, while a reader of spans is to recognise them."""

    def begin(self, request: Request) -> OpenCall | None:
        """Open a turn in the conversation that the call belongs to.

        Returns:
            The call under way; None if no conversation wants it, or an outer layer records it.

        """
        try:
            lifecycle.check()
            if context.layers and context.claimed(request.model):
                if self.sightings is not None:
                    self.sightings.begin()
                return None
            block = context.active()
            recording: Recording | None
            if block is not None:
                recording, fingerprints = block.recorded or block.recording(), None
                if request.run is None and context.readers and (scope := context.surrounding()) is not None:
                    request.run = scope.run
            else:
                recording, fingerprints = self._router.for_call(request)
            if recording is None:
                if self.sightings is not None and (block is not None or fingerprints is not None):  # sampled out
                    self.sightings.begin()
                return None
            if request.scope is not None and request.scope.origin is not None:
                request.scope.origin.used = True
            sighting = None if self.sightings is None else self.sightings.begin()
            return recording.begin(request, fingerprints, sighting)
        except Exception as error:  # noqa: BLE001 - a guard without a frame of its own
            report("starting a turn", error)
            return None

    @guarded("recording a call that is over")
    def record(
        self,
        request: Request,
        answer: Answer | None,
        failure: Failure | None,
        facts: Facts,
        block: Conversation | None = None,
    ) -> Recording | None:
        """Record a call that was not observed while it was under way, such as one that a span tells.

        Args:
            request: What was sent to the model. Its scope names the session, the prompt and the run; the context of
                this thread counts for nothing.
            answer: What the model answered; None if the call failed.
            failure: Why the call failed.
            facts: Times, span and run.
            block: The `conversation()` that was active when the call began.

        Returns:
            The recording that the call belongs to, or None.

        """
        lifecycle.check()
        fingerprints: list[int] | None = None
        if block is not None:
            recording = block.recorded or block.recording()
        else:
            recording, fingerprints = self._router.for_past_call(request)
        if recording is not None:
            recording.record_call(request, fingerprints, answer, failure, facts)
        return recording

    @guarded("recording the result of a tool")
    def record_tool_result(self, source: SourceMessage, scope: Scope, at: float) -> None:
        """Record the result of a tool that a framework ran; see `integrations.Capture`."""
        recording = self._router.for_tool_result(scope)
        if recording is not None:
            recording.record_tool_result(source, at)

    @guarded("noting a run that has paused")
    def pause(self, scope: Scope, *, paused: bool = True) -> None:
        """Keep the conversation of a paused run open; see `integrations.Capture`."""
        self._router.pause(scope, paused=paused)

    @guarded("completing the conversation of a framework's session")
    def complete(self, scope: Scope) -> None:
        """Complete the conversation of a session; see `integrations.Capture`."""
        self._router.complete(scope)

    @guarded("completing a handler's conversations")
    def complete_origin(self, origin: Origin) -> None:
        """Complete what was recorded for a framework's handler, or else its session, which another may have opened."""
        self._router.complete_origin(origin)
