"""Spans that exporters send here, recorded in this server's store as the SDK of an app would record its calls."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from typing import TYPE_CHECKING

from converra.integrations.payload.fields import string
from converra.otlp.routes import BusyError
from converra.server.in_process import StoreConnection
from converra.server.store.records import fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from converra.otlp.records import SpanLog
    from converra.server.store.conversations import Store
    from converra.server.store.records import Conversation
    from converra.spans.bridge import Bridge
    from converra.spans.span import Span
    from converra.spans.turns import Description

KEY = "dev"
"""Account of spans that come without a key."""

PROMPT = "otel"
"""Prompt of spans that name none, of a process without a name."""

MAX_ACCOUNTS = 16
"""Accounts whose spans are recorded at the same time; the one that was silent for longest is completed first."""

PATIENCE = 6.0
"""Seconds that a turn waits for a span around it, or for its words: exporters send every 5 seconds by default."""

FLUSH_SECONDS = 0.3
"""Longest wait of a turn before it is stored: people look at the viewer meanwhile."""

SHUTDOWN_SECONDS = 5.0

UNNAMED = "unknown_service"
"""Beginning of the name that SDKs give to a process without one."""


class RecordedSpans(ABC):
    """Implements `otlp.routes.Sink`: has received spans recorded by the bridge of their key."""

    def take(self, spans: Sequence[Span], logs: Sequence[SpanLog], key: str | None) -> None:
        """Record spans that came with a key. Raises BusyError, WrongKeyError."""
        bridge = self._bridge(key)
        if bridge.is_full:
            raise BusyError("The server is behind; try again")
        from converra.spans.bridge import LogEvent  # noqa: PLC0415 - imported with the first span

        bridge.feed(spans, [LogEvent(*log) for log in logs])

    @abstractmethod
    def _bridge(self, key: str | None) -> Bridge:
        """Return the bridge for a key, made with its first span. Raises WrongKeyError."""


class StoredSpans(RecordedSpans):
    """Records spans in the store. One recorder and bridge for each account."""

    def __init__(self, store: Store, updated: Callable[[Conversation, Conversation], None]) -> None:
        self._store = store
        self._updated = updated
        self._lock = threading.Lock()
        self._accounts: OrderedDict[str, Bridge] = OrderedDict()

    def flush(self) -> bool:
        """Record and store everything that was taken in; return True if that worked."""
        with self._lock:
            bridges = list(self._accounts.values())
        stored = [bridge.recorder.flush() for bridge in bridges]  # each, also after one that failed
        return all(stored)

    def close(self) -> None:
        """Complete all conversations and store them: the server stops."""
        with self._lock:
            bridges, self._accounts = list(self._accounts.values()), OrderedDict()
        for bridge in bridges:
            bridge.recorder.shutdown()

    def _bridge(self, key: str | None) -> Bridge:
        key = key or KEY
        with self._lock:
            bridge = self._accounts.get(key)
            if bridge is None:
                bridge = self._accounts[key] = _made(self._store, key, self._updated)
            self._accounts.move_to_end(key)
            longest_silent = self._accounts.popitem(last=False)[1] if len(self._accounts) > MAX_ACCOUNTS else None
        if longest_silent is not None:
            longest_silent.recorder.shutdown()
        return bridge


def _made(store: Store, key: str, updated: Callable[[Conversation, Conversation], None]) -> Bridge:
    """Make the recorder of an account; what it needs is imported with the first span, not when the server starts."""
    from converra.capture.recorder import Recorder  # noqa: PLC0415 - see the docstring
    from converra.config import Config  # noqa: PLC0415 - see the docstring
    from converra.spans.bridge import Bridge  # noqa: PLC0415 - see the docstring

    config = Config(
        api_key=key,
        base_url="http://localhost/api/v1",
        flush_interval=FLUSH_SECONDS,
        shutdown_timeout=SHUTDOWN_SECONDS,
    )
    account = fingerprint(key)
    recorder = Recorder(config, connect=lambda _key: StoreConnection(store, account, updated))
    return Bridge(recorder, patience=PATIENCE, describe=described)


def described(span: Span) -> Description:
    """Return the emitter of a span, and as the prompt of spans that name none the name of their process."""
    from converra.spans.turns import Description  # noqa: PLC0415 - as in `_made`

    service = string(span.resource.get("service.name")) or ""
    language = string(span.resource.get("telemetry.sdk.language"))
    service = "" if service.startswith(UNNAMED) else service.strip()
    return Description(service or PROMPT, span.scope, language, service or None)
