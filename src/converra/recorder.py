"""The recorder wires the parts: integrations capture, conversations assemble, delivery sends."""

from __future__ import annotations

import os
import random
import weakref
import zlib
from typing import TYPE_CHECKING, Any

import msgspec

from converra import context
from converra._version import __version__
from converra.config import Config
from converra.console import show
from converra.delivery.delivery import Delivery, Header
from converra.guard import caught, guard, guarded, tell
from converra.handle import Conversation, checked_id
from converra.privacy import Privacy
from converra.recording import OpenTurn, Recording
from converra.reporting import Report, Stats
from converra.stitching import Stitcher

if TYPE_CHECKING:
    from collections.abc import Mapping

    from converra.conversation.turn import Answer, Request
    from converra.integrations import Integration

SDK = {"name": "converra", "version": __version__}

HOMELESS = (
    "converra: a model call was made outside any conversation and is not recorded. Put it in a "
    "`with converra.conversation(prompt_id):` block, or set prompt_id in converra.instrument()."
)


class Recorder:
    """Everything that one configuration captures and delivers; an ordinary object: tests make their own."""

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self.delivery = Delivery(self.config)
        self._finish = Privacy(capture_content=self.config.capture_content, redact=self.config.redact)
        self._show = show if self.config.console else None
        self._integrations: dict[str, Integration] = {}
        self._implicit = Stitcher()
        self._sessions: dict[tuple[str, str], Recording] = {}
        self._recordings: weakref.WeakSet[Recording] = weakref.WeakSet()
        _tell_of_forks(self)

    # -- switching on and off ----------------------------------------------------------------------------------------

    def instrument(self) -> Report:
        """Patch every library that has an integration and is imported, and the others when they are."""
        if not self.config.enabled:
            return Report([])
        from converra.integrations import discovery, patching  # noqa: PLC0415 - wrapt is heavy, and only needed here

        for integration in discovery.integrations():
            self._integrations.setdefault(integration.name, integration)
        return Report([row for known in self._integrations.values() for row in patching.switch_on(known, self)])

    def uninstrument(self) -> None:
        """Put every original back. Conversations that are open stay open, and can be written to by hand."""
        if self._integrations:
            from converra.integrations import patching  # noqa: PLC0415 - as in `instrument`

            for name in list(self._integrations):
                patching.switch_off(self._integrations.pop(name))

    # -- conversations -----------------------------------------------------------------------------------------------

    def conversation(
        self,
        prompt_id: str,
        *,
        session_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        company_name: str | None = None,
        keep_open: bool = False,
    ) -> Conversation:
        """Open a conversation: a block, a decorator, or an object to complete by hand.

        Raises InvalidArgumentError for arguments that can never work.
        """
        return Conversation(
            self._start,
            prompt_id,
            session_id=session_id,
            metadata=metadata,
            company_name=company_name,
            keep_open=keep_open,
        )

    def current_conversation(self) -> Conversation | None:
        """Look up the conversation that is active here."""
        current = context.active()
        return current if isinstance(current, Conversation) else None

    def complete(self, prompt_id: str, session_id: str) -> None:
        """End a session that was kept open, from anywhere: also one that another process has opened."""
        conversation = self.conversation(prompt_id, session_id=session_id)
        recording = conversation.recording()
        if recording is not None:
            recording.end(always=True)

    def _start(self, conversation: Conversation) -> Recording | None:
        """Find or make the recording behind a conversation; None when it is switched off or sampled out."""
        session_id = conversation.session_id
        if not self.config.enabled or not self._sampled(session_id):
            return None
        if session_id is None:
            return self._record(_header(conversation, _fresh_key()))
        session = (conversation.prompt_id, session_id)
        known = self._sessions.get(session)
        if known is not None and not known.ended:
            known.annotate(conversation.metadata)
            return known
        header = _header(conversation, f"{conversation.prompt_id}:{session_id}", joined=True)
        recording = self._sessions[session] = self._record(header)
        return recording

    def _record(self, header: Header, *, implicit: bool = False) -> Recording:
        recording = Recording(
            self.delivery.open(header),
            self._finish,
            joining=header.joined,
            show=self._show,
            learn=self._learn if implicit else None,
        )
        self._recordings.add(recording)
        return recording

    def _sampled(self, session_id: str | None) -> bool:
        """Decide once for a whole conversation; for a session, the same in every process."""
        rate = self.config.sample_rate
        if rate >= 1:
            return True
        if session_id is None:
            return random.random() < rate  # noqa: S311 - a sample, not a secret
        return zlib.crc32(session_id.encode(errors="replace")) < rate * 2**32

    # -- capture: what integrations ask of the recorder ----------------------------------------------------------------

    @property
    def active(self) -> bool:
        """Whether calls are captured."""
        return bool(self._integrations)

    @guarded("starting a turn")
    def begin(self, request: Request) -> OpenTurn | None:
        """Start a turn in the conversation that the call belongs to, if there is one."""
        current = context.active()
        if isinstance(current, Conversation):
            recording = current.recording()
            return None if recording is None else recording.begin(request)
        return self._begin_implicit(request)

    def _begin_implicit(self, request: Request) -> OpenTurn | None:
        prompt_id = self._prompt_of(request)
        if prompt_id is None:
            tell("homeless", HOMELESS)
            return None
        looks = request.dialect.look(request.messages)
        recording = self._implicit.find(prompt_id, request, looks) or self._open_implicit(prompt_id)
        return None if recording is None else recording.begin(request, looks)

    def _prompt_of(self, request: Request) -> str | None:
        prompt_id = self.config.prompt_id
        if not callable(prompt_id):
            return prompt_id
        with guard("asking your prompt_id function"):
            found = prompt_id(request)
            return None if found is None else checked_id("prompt_id", found)
        return None

    def _open_implicit(self, prompt_id: str) -> Recording | None:
        if not self._sampled(None):
            return None
        return self._record(Header(key=_fresh_key(), prompt_id=prompt_id, metadata={"sdk": SDK}), implicit=True)

    def _learn(self, recording: Recording, looks: list[int], answer: Answer | None) -> None:
        self._implicit.learn(recording, recording.lane.header.prompt_id, looks, answer)

    def sweep(self) -> None:
        """Complete the implicit conversations that have been silent for `idle_timeout`."""
        for recording in self._implicit.silent(self.config.idle_timeout):
            recording.end()

    def after_fork(self) -> None:
        """Start clean in a child process: the parent delivers what it has captured, and completes what it has opened.

        A block that was active goes on in the child as a conversation of its own, a session as the same one, joined.
        """
        self._implicit = Stitcher()
        for recording in list(self._recordings):
            header = recording.lane.header
            if not header.joined:
                header = msgspec.structs.replace(header, key=_fresh_key())
            recording.after_fork(self.delivery.open(header), joining=header.joined)

    # -- delivery ------------------------------------------------------------------------------------------------------

    def flush(self, timeout: float | None = None) -> bool:
        """Send everything that waits; True only if all of it was delivered within `timeout` seconds."""
        return self.delivery.flush(timeout)

    def shutdown(self, timeout: float | None = None) -> bool:
        """Complete what is open, send everything and stop; True only if all of it was delivered in time (seconds).

        What comes later starts delivery again. Sessions that are kept open stay open for other processes.
        """
        for recording in list(self._recordings):
            with guard("closing open streams"):
                recording.cut()
        for recording in self._implicit.all():
            recording.end()
        return self.delivery.shutdown(self.config.shutdown_timeout if timeout is None else timeout)

    def stats(self) -> Stats:
        """Count what has become of the captured messages."""
        sent = self.delivery.stats()
        return Stats(
            captured=sent.pending + sent.delivered + sent.rejected + sent.dropped,
            pending=sent.pending,
            delivered=sent.delivered,
            rejected=sent.rejected,
            dropped=sent.dropped,
            retries=sent.retries,
            bytes=sent.bytes,
            last_error=sent.last_error,
            failures=caught(),
        )


def _header(conversation: Conversation, key: str, *, joined: bool = False) -> Header:
    """What opening needs to know. The user's own metadata cannot displace ours."""
    own: dict[str, Any] = {"sdk": SDK}
    if conversation.session_id is not None:
        own["sessionId"] = conversation.session_id
    return Header(
        key=key,
        prompt_id=conversation.prompt_id,
        company_name=conversation.company_name,
        joined=joined,
        metadata={**conversation.metadata, **own},
    )


def _fresh_key() -> str:
    return os.urandom(16).hex()


_recorders: weakref.WeakSet[Recorder] = weakref.WeakSet()
"""Those that must hear of a fork; Python cannot take a fork hook back, so there is one for all of them."""
_hooked = False


def _tell_of_forks(recorder: Recorder) -> None:
    global _hooked  # noqa: PLW0603 - says something about the process, not about a recorder
    if not _hooked and hasattr(os, "register_at_fork"):
        _hooked = True
        os.register_at_fork(after_in_child=_in_child)
    _recorders.add(recorder)


def _in_child() -> None:
    for recorder in list(_recorders):
        with guard("starting clean after a fork"):
            recorder.after_fork()
