"""Spans that exporters send to a relay: recorded, and handed over to the fleet as the turns of an app are."""

from __future__ import annotations

import hmac
import threading
from typing import TYPE_CHECKING

import msgspec

from converra.otlp.routes import BusyError, WrongKeyError
from converra.server.spans import PATIENCE, described

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converra.config import Config
    from converra.otlp.records import SpanLog
    from converra.spans.bridge import Bridge
    from converra.spans.span import Span


class HandedOverSpans:
    """Implements `otlp.routes.Sink`.

    Args:
        settings: Those of the relay. Spans are taken under its API key alone: its port may be open to strangers.

    """

    def __init__(self, settings: Config) -> None:
        self._settings = msgspec.structs.replace(settings, relay="none")  # the relay beside it sends
        self._lock = threading.Lock()
        self._bridge: Bridge | None = None

    def take(self, spans: Sequence[Span], logs: Sequence[SpanLog], key: str | None) -> None:
        """Record spans."""
        if not hmac.compare_digest((key or "").encode(), (self._settings.api_key_now() or "").encode()):
            raise WrongKeyError("Send the API key of the relay, as `Authorization: Bearer KEY`")
        from converra.spans.bridge import LogEvent  # noqa: PLC0415 - imported with the first span

        bridge = self._opened()
        if bridge.is_full:
            raise BusyError("The relay is behind; try again")
        bridge.feed(spans, [LogEvent(*log) for log in logs])

    def close(self) -> None:
        """Complete all conversations, and hand them over."""
        with self._lock:
            bridge, self._bridge = self._bridge, None
        if bridge is not None:
            bridge.recorder.shutdown()

    def _opened(self) -> Bridge:
        from converra.capture.recorder import Recorder  # noqa: PLC0415 - as in `take`
        from converra.spans.bridge import Bridge  # noqa: PLC0415 - as in `take`

        with self._lock:
            if self._bridge is None:
                self._bridge = Bridge(Recorder(self._settings), patience=PATIENCE, describe=described)
            return self._bridge
