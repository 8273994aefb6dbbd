"""Recorders in memory for tests of spans: the conversations without ids and times, and the spans that were seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from converra.capture.recorder import Recorder
from converra.config import load
from converra.process.jobs import JobQueue
from converra.spans.bridge import Bridge
from converra.spans.span import from_sdk
from converra.testing.capture import Capture
from converra.testing.memory import MemoryDelivery

if TYPE_CHECKING:
    from converra.spans.span import Span

FACTS = ("model", "tokens", "usage", "toolCalls")
NOT_COMPARED = ("messageId", "timeToFirstTokenMs", "traceId", "spanId")


class Vault:
    """A recorder that keeps conversations in memory, and the bridge to it."""

    def __init__(self, **settings: Any) -> None:
        self._memory = Capture()
        config = load({"api_key": "k", "prompt_id": "prompt_1", **settings}, {})
        delivery = MemoryDelivery(config, self._memory, JobQueue(config.max_pending_bytes))
        self.recorder: Recorder = Recorder(config, delivery=delivery)
        self.bridge: Bridge = Bridge.of(self.recorder)

    def conversations(self) -> list[Any]:
        """Return the conversations so far, without ids and times."""
        self.recorder.flush()
        return [
            {
                "prompt": one.prompt_id,
                "session": one.session_id,
                "metadata": one.metadata,
                "messages": [bare(message) for message in one.messages],
            }
            for one in self._memory.conversations
        ]


class Keeper:
    """A span processor that keeps the spans that have ended."""

    def __init__(self) -> None:
        self.ended: list[Span] = []

    def plain(self) -> list[Any]:
        """Return the spans as plain data."""
        return [msgspec.to_builtins(span, enc_hook=dict) for span in self.ended]

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        """Do nothing."""

    def _on_ending(self, span: Any) -> None:
        """Do nothing."""

    def on_end(self, span: Any) -> None:
        """Keep it."""
        self.ended.append(from_sdk(span))

    def shutdown(self) -> None:
        """Do nothing."""

    def force_flush(self, timeout_millis: int = 0) -> bool:
        """Do nothing."""
        return bool(timeout_millis) or True


KEEPER = Keeper()


def bare(message: Any) -> dict[str, Any]:
    """Return a message as the API gets it, without ids and times."""
    whole = msgspec.to_builtins(message)
    record = {name: whole[name] for name in ("role", "content", *FACTS) if whole.get(name) is not None}
    metadata = {k: v for k, v in (whole.get("metadata") or {}).items() if k not in NOT_COMPARED}
    return record | ({"metadata": metadata} if metadata else {})
