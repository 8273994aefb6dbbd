"""The processor of the SDK for Python, without the SDK: sees spans start and end, and hands them to a bridge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.process.guard import guard, report

if TYPE_CHECKING:
    from collections.abc import Callable

    from converra.spans.bridge import Bridge
    from converra.spans.held import PromptId


class SpanWatcher:
    """A span processor. No method raises; `on_start` and `on_end` take microseconds.

    Args:
        bridge: Returns the bridge to use now, or None while capture is off.
        prompt_id: The prompt of spans that name none; see `Bridge`.

    """

    def __init__(self, bridge: Callable[[], Bridge | None], prompt_id: PromptId = None) -> None:
        self._bridge = bridge
        self._prompt_id = prompt_id
        self.is_on: bool = True

    def on_start(self, span: Any, parent_context: Any = None) -> None:  # noqa: ARG002 - as the SDK calls it
        """Note that a span starts: what is captured here and now, and the `conversation()` that is active."""
        try:
            bridge = self._bridge() if self.is_on else None
            if bridge is not None:
                bridge.start(span)
        except Exception as error:  # noqa: BLE001 - a guard without a frame of its own
            report("watching a span start", error)

    def _on_ending(self, span: Any) -> None:
        """Do nothing: attributes may still be set."""

    def on_end(self, span: Any) -> None:
        """Take in a span that has ended; a worker reads it."""
        try:
            bridge = self._bridge() if self.is_on else None
            if bridge is not None:
                bridge.put(span, self._prompt_id)
        except Exception as error:  # noqa: BLE001 - a guard without a frame of its own
            report("taking in a span", error)

    def shutdown(self) -> None:
        """Deliver what was taken in, within the setting `shutdown_timeout`, and take in nothing more."""
        was_on, self.is_on = self.is_on, False
        with guard("shutting the span processor down"):
            bridge = self._bridge() if was_on else None
            if bridge is not None:
                bridge.recorder.flush(bridge.recorder.config.shutdown_timeout)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Deliver what was taken in; return True only if all of it was delivered within `timeout_millis`."""
        with guard("flushing the span processor"):
            bridge = self._bridge() if self.is_on else None
            return bridge is None or bridge.recorder.flush(timeout_millis / 1000)
        return False
