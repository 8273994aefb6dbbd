"""The side of a recorder that integrations see: it starts turns, and records what happens between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converra.process import context, lifecycle
from converra.process.guard import guarded, report

if TYPE_CHECKING:
    from converra.capture.call import OpenCall
    from converra.capture.handle import Conversation
    from converra.capture.routing import Router
    from converra.history.turn import Origin, Request, Scope, SourceMessage


class CallCapture:
    """Implements `integrations.Capture`: finds the conversation of each call and opens a turn in it. Never raises."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self.active: bool = False
        """True while calls are captured."""

    def begin(self, request: Request) -> OpenCall | None:
        """Open a turn in the conversation that the call belongs to.

        Returns:
            The call under way; None if no conversation wants it, or an outer layer records it.

        """
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

    @guarded("completing a handler's conversations")
    def complete_origin(self, origin: Origin) -> None:
        """Complete what was recorded for a framework's handler, or else its session, which another may have opened."""
        self._router.complete_origin(origin)
