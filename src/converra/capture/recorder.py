"""The recorder wires the parts: integrations capture, conversations assemble, delivery sends."""

from __future__ import annotations

import time
import weakref
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from converra.capture.console import show
from converra.capture.handle import Conversation
from converra.capture.privacy import Privacy
from converra.capture.recording import Recording
from converra.capture.reports import Report, Stats
from converra.capture.routing import Router, fresh_key
from converra.config import Config
from converra.delivery.delivery import Delivery
from converra.process import context, exits, lifecycle, servers
from converra.process.guard import caught, guard, guarded, report
from converra.process.workers import PeriodicTask

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from converra.capture.call import OpenCall
    from converra.capture.implicit import ImplicitConversations
    from converra.delivery.delivery import ConversationQueue
    from converra.delivery.header import Header
    from converra.history.turn import Origin, Request, Scope, SourceMessage
    from converra.integrations import Integration


MAX_READINGS = 1_000

MIN_SWEEP, MAX_SWEEP = 0.2, 30.0
"""Seconds between looks for conversations that have fallen silent: a quarter of the silence, within these."""


class Recorder:
    """Everything that one configuration captures and delivers; an ordinary object: tests make their own."""

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        every = max(MIN_SWEEP, min(self.config.idle_timeout / 4, MAX_SWEEP))
        self.delivery = Delivery(
            self.config, periodic_task=PeriodicTask(self._sweep_soon, self._may_fall_silent, every)
        )
        self._finish = Privacy(capture_content=self.config.capture_content, redact=self.config.redact)
        self._show = show if self.config.console else None
        self._integrations: dict[str, Integration] = {}
        self.active = False
        """Whether calls are captured."""
        self._router = Router(self.config, self._open, self.delivery.jobs)
        self._recordings: weakref.WeakSet[Recording] = weakref.WeakSet()
        lifecycle.add_recorder(self)

    # -- switching on and off ----------------------------------------------------------------------------------------

    def instrument(self) -> Report:
        """Patch every library that has an integration and is imported, and the others when they are."""
        if not self.config.enabled:
            return Report([])
        from converra.integrations import discovery, patching  # noqa: PLC0415 - wrapt is heavy, and only needed here

        for integration in discovery.integrations():
            self._integrations.setdefault(integration.name, integration)
        self.active = bool(self._integrations)
        servers.hook()
        for module in exits.SERVER_MODULES:
            patching.when_imported(module, exits.on_server_import)
        with guard("looking for what an earlier process has left"):
            self.delivery.start()
        return Report([row for known in self._integrations.values() for row in patching.switch_on(known, self)])

    def uninstrument(self) -> None:
        """Put every original back. Conversations that are open stay open, and can be written to by hand."""
        self.active = False
        if self._integrations:
            from converra.integrations import patching  # noqa: PLC0415 - as in `instrument`

            for name in list(self._integrations):
                patching.switch_off(self._integrations.pop(name))
            if not lifecycle.is_capturing():
                for module in exits.SERVER_MODULES:
                    patching.forget_import(module)
        if not lifecycle.is_capturing():
            servers.unhook()

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
            self._router.for_block,
            prompt_id,
            session_id=session_id,
            metadata=metadata,
            company_name=company_name,
            keep_open=keep_open,
        )

    def current_conversation(self) -> Conversation | None:
        """Look up the conversation that is active here."""
        current: Conversation | None = context.active()
        return current

    def complete(self, prompt_id: str, session_id: str) -> None:
        """End a session that was kept open, from anywhere: also one that another process has opened."""
        conversation = self.conversation(prompt_id, session_id=session_id)
        recording = conversation.recording()
        if recording is not None:
            recording.end(always=True)

    def complete_origin(self, origin: Origin) -> None:
        """End what was recorded for a framework's handler; or else its session, which another may have opened."""
        for recording in [r for r in self._all() if r.origin is origin]:
            recording.end()
        prompt_id = origin.prompt_id or self.config.prompt_id
        if origin.session_id is not None and isinstance(prompt_id, str) and not origin.used:
            self.complete(prompt_id, origin.session_id)

    def _open(
        self,
        prompt_id: str,
        header: Callable[[], Header],
        *,
        shared: bool = False,
        implicit: ImplicitConversations | None = None,
        origin: Origin | None = None,
    ) -> Recording:
        if not self.delivery.started:
            exits.arm(self.delivery)  # a stream may be all that there is until the end
        recording = Recording(
            prompt_id,
            partial(self._queue, header),
            self.delivery,
            self._finish,
            shared=shared,
            show=self._show,
            implicit=implicit,
            origin=origin,
        )
        self._recordings.add(recording)
        return recording

    def _queue(self, header: Callable[[], Header]) -> ConversationQueue:
        return self.delivery.open(header())

    def _all(self) -> list[Recording]:
        """All that are alive. A set that another thread adds to meanwhile has to be read again."""
        for _ in range(MAX_READINGS):
            with suppress(RuntimeError):
                return list(self._recordings)
        return []

    # -- capture: what integrations ask of the recorder ----------------------------------------------------------------

    def begin(self, request: Request) -> OpenCall | None:
        """Start a turn in the conversation that the call belongs to, if there is one and no outer layer records it."""
        try:
            lifecycle.check()
            if context.layers and context.claimed(request.model):
                return None
            block: Conversation | None = context.active()
            if block is not None:
                recording, fingerprints = block.recorded or block.recording(), None
            else:
                recording, fingerprints = self._router.for_call(request)
            if recording is None:
                return None
            if request.scope is not None and request.scope.origin is not None:
                request.scope.origin.used = True
            return recording.begin(request, fingerprints)
        except Exception as error:  # noqa: BLE001 - a guard without a frame of its own
            report("starting a turn", error)
            return None

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

    def _may_fall_silent(self) -> bool:
        return self._router.open

    def _sweep_soon(self) -> None:
        """Have it done like all that changes what is recorded: a worker must not wait for a caller's lock."""
        self.delivery.jobs.add(time.monotonic(), 0, Recorder.sweep, (self,))

    def sweep(self) -> None:
        """Complete the implicit conversations, and those of frameworks, that have been silent for `idle_timeout`."""
        for recording in self._router.silent():
            recording.end()

    def after_fork(self) -> None:
        """Start clean in a child process: the parent delivers what it has captured, and completes what it has opened.

        A block that was active goes on in the child as a conversation of its own, a session as the same one, joined.
        """
        self._router.after_fork()
        for recording in self._all():
            recording.after_fork(None if recording.opened is None else self._another(recording.opened.header))

    def _another(self, header: Header) -> Callable[[], ConversationQueue]:
        """Opens a lane for what a child process goes on with."""
        if not header.shared:
            header = msgspec.structs.replace(header, key=fresh_key())
        return partial(self.delivery.open, header)

    # -- delivery ------------------------------------------------------------------------------------------------------

    def flush(self, timeout: float | None = None) -> bool:
        """Send everything that waits; True only if all of it was delivered within `timeout` seconds."""
        return self.delivery.flush(timeout)

    def shutdown(self, timeout: float | None = None) -> bool:
        """Complete what is open, send everything and stop; True only if all of it was delivered in time (seconds).

        What comes later starts delivery again. Sessions that are kept open stay open for other processes.
        """
        self.close()
        return self.delivery.shutdown(self.config.shutdown_timeout if timeout is None else timeout)

    def close(self) -> None:
        """Record what has arrived of the streams that are still open, and complete what nobody else completes.

        Nobody will read those streams to their end, nor go on with these conversations here. Delivery itself cannot
        tell the sessions of frameworks from those that the app keeps open.
        """
        for recording in self._all():
            with guard("closing open streams"):
                recording.cut()
        for recording in self._router.all():
            with guard("completing what is open"):
                recording.end()

    def complete_implicit(self) -> None:
        """Complete the implicit conversations."""
        for recording in self._router.implicit():
            with guard("completing implicit conversations"):
                recording.end()

    def stats(self) -> Stats:
        """Count what has become of the captured messages."""
        sent = self.delivery.stats()
        return Stats(
            captured=sent.pending + sent.delivered + sent.rejected + sent.dropped,
            pending=sent.pending,
            delivered=sent.delivered,
            rejected=sent.rejected,
            dropped=sent.dropped,
            duplicated_risk=sent.duplicated_risk,
            retries=sent.retries,
            bytes=sent.bytes,
            last_error=sent.last_error,
            failures=caught(),
        )
