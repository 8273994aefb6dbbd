"""Which conversation something belongs to.

====  ==========================================  =========================================================
      what there is                               the conversation
====  ==========================================  =========================================================
1     an active `conversation()`                  that one
2     a session of a framework (a thread id), or  the one of that prompt and session, here and in other
      of its handler, for every call inside of    processes; its first call opens it
      its run, whichever client makes it
3     a history that was recorded                 the one that it continues best
4     a run of a framework, with other calls      the one of those calls
5     a prompt                                    a new one
6     nothing of all this                         none, which is said once
====  ==========================================  =========================================================
"""

from __future__ import annotations

import hashlib
import os
import random
import zlib
from functools import partial
from threading import current_thread
from typing import TYPE_CHECKING, Any

from converra._version import __version__
from converra.capture.handle import Conversation, checked_id
from converra.capture.implicit import ImplicitConversations
from converra.capture.sessions import Sessions
from converra.delivery.header import Header
from converra.errors import InvalidArgumentError
from converra.history.turn import Scope
from converra.process import context
from converra.process.guard import guard, log_limited

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol

    from converra.capture.recording import Recording
    from converra.config import Config
    from converra.history.turn import Origin, Request
    from converra.process.jobs import JobQueue

    class Open(Protocol):
        """Makes a recording."""

        def __call__(
            self,
            prompt_id: str,
            header: Callable[[], Header],
            *,
            shared: bool = False,
            implicit: ImplicitConversations | None = None,
            origin: Origin | None = None,
        ) -> Recording:
            """Make one, that is opened with a header once there is something to send."""


SDK = {"name": "converra", "version": __version__}

CHANCE = random.SystemRandom().random
"""The global generator is the app's: it may be seeded, and then each number of ours would change the app's."""

NO_CONVERSATION = (
    "converra: a model call was made outside any conversation and is not recorded. Put it in a "
    "`with converra.conversation(prompt_id):` block, or set prompt_id in converra.instrument()."
)

LEFT_BEHIND = (
    "converra: a model call in the thread %s is outside of the conversation() block that is open in another thread, "
    "and is %s: threads and pools do not inherit a block. If it belongs there, hand the context over: "
    "`pool.submit(contextvars.copy_context().run, function, ...)`, or `asyncio.to_thread(function, ...)`."
)


class Router:
    """The open conversations of one recorder, and how calls find theirs."""

    def __init__(self, config: Config, open_: Open, jobs: JobQueue) -> None:
        self._config = config
        self._open = open_
        self._jobs = jobs
        self._sessions = Sessions(jobs)
        self._implicit = ImplicitConversations(jobs, config.idle_timeout)

    def for_block(self, block: Conversation) -> Recording | None:
        """Find or make the recording behind a conversation; None when it is switched off or sampled out."""
        if not self._wanted(block.session_id):
            return None
        header = partial(_header, block.prompt_id, block.session_id, block.metadata, block.company_name)
        if block.session_id is None:
            return self._open(block.prompt_id, header)
        session = (block.prompt_id, block.session_id)
        known = self._sessions.find(session)
        if known is not None:
            known.annotate(block.metadata)
            return known
        return self._sessions.add(session, self._open(block.prompt_id, header, shared=True))

    def for_call(self, request: Request) -> tuple[Recording | None, list[int] | None]:
        """Outside of any block: the recording of a call, and the looks of its messages where they tell."""
        scope = request.scope = _within(request.scope)
        prompt_id = self._prompt_of(request)
        session = _session(scope)
        if session is None and context.open_elsewhere():
            _tell_left_behind(recorded=prompt_id is not None)
        elif prompt_id is None:
            log_limited("homeless", NO_CONVERSATION)
        if prompt_id is None:
            return None, None
        fingerprints: list[int] | None = None
        if session is None and scope.trace is None:
            fingerprints = request.dialect.fingerprint(request.messages)
            return self._implicit.find(prompt_id, request, fingerprints) or self._new(prompt_id, scope), fingerprints
        with self._jobs.lock:  # the branches of a run may begin at the same time
            if session is not None:
                recording = self._of_session(prompt_id, session, scope.origin)
            else:
                fingerprints = request.dialect.fingerprint(request.messages)
                recording = self._implicit.find(prompt_id, request, fingerprints) or self._of_trace(prompt_id, scope)
            if scope.trace is not None:
                scope.trace.recording = recording
        return recording, fingerprints

    def for_tool_result(self, scope: Scope) -> Recording | None:
        """The recording that the result of a tool belongs to, where that is known without a history."""
        block = context.active()
        if block is not None:
            active: Recording | None = block.recording()
            return active
        traced: Recording | None = scope.trace.recording if scope.trace else None
        if traced is not None and not traced.ended:
            return traced
        session, prompt_id = _session(scope), self._own_prompt(scope.origin)
        if session is None or not isinstance(prompt_id, str):
            return None
        return self._of_session(prompt_id, session, scope.origin)

    def pause(self, scope: Scope, *, paused: bool) -> None:
        """Note that the run of a scope has paused or ended; its session may have been opened by an earlier run."""
        if scope.trace is not None and scope.trace.recording is not None:
            scope.trace.recording.paused = paused
        session, prompt_id = _session(scope), self._own_prompt(scope.origin)
        if session is not None:
            self._sessions.pause(session, prompt_id if isinstance(prompt_id, str) else None, paused=paused)

    @property
    def open(self) -> bool:
        """Whether anything is open that nobody else ends."""
        return self._implicit.waiting or self._sessions.waiting

    def silent(self) -> list[Recording]:
        """Take out what has been silent for `idle_timeout`, of all that nobody else ends."""
        seconds = self._config.idle_timeout
        return [*self._implicit.silent(seconds), *self._sessions.silent(seconds)]

    def all(self) -> list[Recording]:
        """Take out all that nobody else ends."""
        return [*self._implicit.all(), *self._sessions.all()]

    def implicit(self) -> list[Recording]:
        """Take out the implicit ones."""
        return self._implicit.all()

    def after_fork(self) -> None:
        """Forget the implicit conversations: the parent completes what it has opened."""
        self._implicit.reset()

    def _of_session(self, prompt_id: str, session_id: str, origin: Origin | None) -> Recording | None:
        session = (prompt_id, session_id)
        known = self._sessions.find(session)
        if known is not None or not self._wanted(session_id):
            return known
        header = partial(_header, prompt_id, session_id, origin.metadata if origin else {})
        return self._sessions.add(session, self._open(prompt_id, header, shared=True, origin=origin), lent=True)

    def _of_trace(self, prompt_id: str, scope: Scope) -> Recording | None:
        """The implicit conversation of the framework's run, or a new one."""
        present: Recording | None = scope.trace.recording if scope.trace else None
        if present is not None and not present.ended and present.prompt_id == prompt_id:
            return present
        return self._new(prompt_id, scope)

    def _new(self, prompt_id: str, scope: Scope) -> Recording | None:
        if not self._wanted(None):
            return None
        header = partial(_header, prompt_id, None, scope.origin.metadata if scope.origin else {})
        return self._open(prompt_id, header, implicit=self._implicit, origin=scope.origin)

    def _own_prompt(self, origin: Origin | None) -> Any:
        return (origin.prompt_id if origin else None) or self._config.prompt_id

    def _prompt_of(self, request: Request) -> str | None:
        prompt_id = self._own_prompt(request.scope.origin if request.scope else None)
        if not callable(prompt_id):
            return prompt_id  # type: ignore[no-any-return]  # a string or None, as settings are read
        with guard("asking your prompt_id function"):
            found = prompt_id(request)
            return None if found is None else checked_id("prompt_id", found)
        return None

    def _wanted(self, session_id: str | None) -> bool:
        """Decide once for a whole conversation; for a session, the same in every process."""
        rate = self._config.sample_rate
        if rate >= 1 or not self._config.enabled:
            return self._config.enabled
        if session_id is None:
            return CHANCE() < rate
        return zlib.crc32(session_id.encode(errors="replace")) < rate * 2**32


def _tell_left_behind(*, recorded: bool) -> None:
    fate = "recorded in a conversation of its own" if recorded else "not recorded"
    log_limited("left behind", LEFT_BEHIND, current_thread().name, fate)


def _within(own: Scope | None) -> Scope:
    """Complete what a call says of its scope by the run of a framework that surrounds it."""
    if own is not None and own.session is not None:
        return own
    around = context.surrounding()
    if own is None or around is None:
        return own or around or NOWHERE
    return Scope(around.thread, own.origin or around.origin, own.trace or around.trace)


def _session(scope: Scope) -> str | None:
    """The session of a scope; one that cannot be an id as it is goes by its digest."""
    session = scope.session
    if session is None:
        return None
    try:
        return checked_id("session_id", session)
    except InvalidArgumentError:
        return hashlib.sha256(session.encode(errors="replace")).hexdigest()


def _header(
    prompt_id: str, session_id: str | None, metadata: Mapping[str, Any], company_name: str | None = None
) -> Header:
    """What opening needs to know. The user's own metadata cannot displace ours."""
    own: dict[str, Any] = {"sdk": SDK}
    if session_id is not None:
        own["sessionId"] = session_id
    return Header(
        key=fresh_key() if session_id is None else f"{prompt_id}:{session_id}",
        prompt_id=prompt_id,
        company_name=company_name,
        shared=session_id is not None,
        metadata={**metadata, **own},
    )


def fresh_key() -> str:
    """An idempotency key that nobody else has."""
    return os.urandom(16).hex()


NOWHERE = Scope()
