"""The process-wide recorder of a test: settings on which the test has the last word."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from converra._default import swapped
from converra.capture.recorder import Recorder
from converra.process.jobs import JobQueue
from converra.testing.memory import MemoryDelivery

if TYPE_CHECKING:
    from collections.abc import Callable

    from converra.config import Config
    from converra.testing.capture import Capture

__all__ = ["in_memory", "swapped", "to_server"]


def in_memory(capture: Capture, *, prompt_id: str | None) -> Callable[[Config], Recorder]:
    """Recorders that keep everything in `capture`."""

    def make(config: Config) -> Recorder:
        settled = _settled(config, prompt_id)
        jobs = JobQueue(settled.max_pending_bytes)
        recorder = Recorder(settled, delivery=MemoryDelivery(settled, capture, jobs))
        capture._release = recorder.release  # noqa: SLF001 - a test need not know of it
        return recorder

    return make


def to_server(base_url: str, *, prompt_id: str | None) -> Callable[[Config], Recorder]:
    """Recorders that send to the API at `base_url`, whatever the app says."""
    return lambda config: Recorder(_settled(config, prompt_id, base_url=base_url))


def _settled(config: Config, prompt_id: str | None, **more: Any) -> Config:
    """The app's settings, but for those that would reach outside of the test or leave something to chance."""
    return msgspec.structs.replace(
        config,
        api_key="test",
        enabled=True,
        outbox=None,
        sample_rate=1.0,
        handle_sigterm=False,
        prompt_id=prompt_id or config.prompt_id,
        **more,
    )
