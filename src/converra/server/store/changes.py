"""Tells pages that are open what has changed: any thread writes, any event loop listens."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

REQUESTS = "requests"
WEBHOOKS = "webhooks"
DRAFTS = "drafts"
ELSEWHERE = "elsewhere"
"""Another process has written to the file: anything may have changed."""
"""Every other topic is the id of a conversation."""


class Listener:
    """Collects topics until they are asked for."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._woken = asyncio.Event()
        self._topics: set[str] = set()
        self.closed: bool = False

    def publish(self, topics: Collection[str], *, closing: bool = False) -> None:
        """From any thread; a loop that has ended needs to know nothing."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._add, topics, closing)

    def _add(self, topics: Collection[str], closing: bool) -> None:  # noqa: FBT001 - `call_soon` knows no keywords
        self._topics.update(topics)
        self.closed |= closing
        self._woken.set()

    async def next(self, seconds: float) -> set[str]:
        """Return the topics that changed since the last call; empty after a timeout without changes."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), seconds)
        self._woken.clear()
        topics, self._topics = self._topics, set()
        return topics


class Changes:
    """The listeners of one store, and a version that grows with each change."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: set[Listener] = set()
        self._run = secrets.token_hex(4)
        self._count = 0

    @property
    def version(self) -> str:
        """Of all there is; another process never has the same."""
        return f"{self._run}-{self._count}"

    def publish(self, topics: Collection[str]) -> None:
        """Something of these topics has been written."""
        with self._lock:
            self._count += 1
            for listener in self._listeners:
                listener.publish(topics)

    @contextlib.contextmanager
    def listening(self) -> Iterator[Listener]:
        """A listener of the running loop, for the length of a block."""
        listener = Listener(asyncio.get_running_loop())
        with self._lock:
            self._listeners.add(listener)
        try:
            yield listener
        finally:
            with self._lock:
                self._listeners.discard(listener)

    def close(self) -> None:
        """End every stream: the server stops."""
        with self._lock:
            for listener in self._listeners:
                listener.publish((), closing=True)
