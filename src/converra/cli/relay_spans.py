"""Spans that exporters send to a relay: recorded, and handed over to the fleet as the turns of an app are."""

from __future__ import annotations

import hmac
import threading
from typing import TYPE_CHECKING

import msgspec

from converra.otlp.routes import WrongKeyError
from converra.server.spans import PATIENCE, RecordedSpans, described

if TYPE_CHECKING:
    from converra.config import Config
    from converra.spans.bridge import Bridge


class HandedOverSpans(RecordedSpans):
    """Hands spans over to the fleet of a relay.

    Args:
        settings: Those of the relay. Spans are taken under its API key alone: its port may be open to strangers.

    """

    def __init__(self, settings: Config) -> None:
        self._settings = msgspec.structs.replace(settings, relay="none")  # the relay beside it sends
        self._lock = threading.Lock()
        self._made: Bridge | None = None

    def _bridge(self, key: str | None) -> Bridge:
        if not hmac.compare_digest((key or "").encode(), (self._settings.api_key_now() or "").encode()):
            raise WrongKeyError("Send the API key of the relay, as `Authorization: Bearer KEY`")
        from converra.capture.recorder import Recorder  # noqa: PLC0415 - imported with the first span
        from converra.spans.bridge import Bridge  # noqa: PLC0415 - as above

        with self._lock:
            if self._made is None:
                self._made = Bridge(Recorder(self._settings), patience=PATIENCE, describe=described)
            return self._made

    def close(self) -> None:
        """Complete all conversations, and hand them over."""
        with self._lock:
            bridge, self._made = self._made, None
        if bridge is not None:
            bridge.recorder.shutdown()
