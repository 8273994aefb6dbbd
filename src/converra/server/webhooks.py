"""Simulated webhooks: each append POSTs `conversation.updated` with the changed fields to a loopback address."""

from __future__ import annotations

import http.client
import itertools
import queue
import re
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from converra.server.api.answers import iso

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from converra.server.store.records import Conversation

EVENT = "conversation.updated"

_KEPT = 200
_TIMEOUT_SECONDS = 5.0
_IDLE_SECONDS = 10.0
_LOOPBACK = re.compile(r"localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|::1", re.IGNORECASE)


class Delivery(NamedTuple):
    """One POST, and what came of it. `status` is None where no answer came, which `error` explains."""

    number: int
    sent_at: int
    url: str
    payload: str
    status: int | None
    error: str | None
    ms: float


class Webhooks:
    """The address, what was delivered to it, and the thread that delivers, in order. Off while there is no address."""

    def __init__(self, *, delivered: Callable[[], None] = lambda: None) -> None:
        self._delivered = delivered
        self._lock = threading.Lock()
        self._waiting: queue.SimpleQueue[tuple[str, bytes, int]] = queue.SimpleQueue()
        self._worker: threading.Thread | None = None
        self._numbers = itertools.count(1)
        self._log: deque[Delivery] = deque(maxlen=_KEPT)
        self.url: str = ""

    def point_to(self, url: str) -> None:
        """Deliver to this address from now on; empty switches off. ValueError for one that is not on this machine."""
        if url:
            _target(url)
        self.url = url

    def deliveries(self) -> list[Delivery]:
        """The latest, newest first."""
        with self._lock:
            return list(self._log)[::-1]

    def updated(self, before: Conversation, after: Conversation) -> None:
        """An append has happened."""
        if self.url:
            payload = msgspec.json.encode(_payload(before, after))
            with self._lock:
                self._waiting.put((self.url, payload, after.updated_at))
                if self._worker is None:
                    self._worker = threading.Thread(target=self._work, name="converra-webhooks", daemon=True)
                    self._worker.start()

    def _work(self) -> None:
        while True:
            try:
                url, payload, at = self._waiting.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                with self._lock:
                    if self._waiting.empty():
                        self._worker = None
                        return
                continue
            started = time.perf_counter()
            status, error = _post(url, payload)
            ms = round((time.perf_counter() - started) * 1000, 1)
            with self._lock:
                self._log.append(Delivery(next(self._numbers), at, url, payload.decode(), status, error, ms))
            self._delivered()


def changed_fields(before: Conversation, after: Conversation) -> list[str]:
    """Name the fields that an append changed, as the API spells them."""
    fields = ["messages", "content", "updatedAt"]
    compared = {"title": "title", "status": "status", "metadata": "metadata", "hasInsights": "completed_at"}
    return fields + [
        name for name, attribute in compared.items() if getattr(before, attribute) != getattr(after, attribute)
    ]


def _payload(before: Conversation, after: Conversation) -> Mapping[str, Any]:
    """The API document names the event and the list; the rest is what a receiver needs to read more."""
    return {
        "event": EVENT,
        "simulated": True,
        "conversationId": after.id,
        "changedFields": changed_fields(before, after),
        "status": after.status,
        "createdAt": iso(after.updated_at),
    }


def _target(url: str) -> tuple[str, int, str]:
    """Host, port and path; ValueError where that is not plain HTTP to this machine."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not _LOOPBACK.fullmatch(parts.hostname or "") or not url.isprintable() or " " in url:
        raise ValueError("An http:// address on this machine: localhost, 127.0.0.1 or [::1]")
    path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    return str(parts.hostname), parts.port or 80, path


def _post(url: str, payload: bytes) -> tuple[int | None, str | None]:
    """One attempt; redirects are not followed."""
    host, port, path = _target(url)
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_SECONDS)
    headers = {"Content-Type": "application/json", "User-Agent": "converra-local-server"}
    try:
        connection.request("POST", path, payload, headers)
        return connection.getresponse().status, None
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        words = getattr(error, "strerror", None) or error  # without the number
        return None, f"{type(error).__name__}: {words}"
    finally:
        connection.close()
