"""Helpers of the delivery tests: small drafts, a delivery to a local server, and the conversations that it holds."""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING, Any

from converra.config import Config
from converra.delivery.delivery import Delivery
from converra.delivery.header import Header
from converra.wire.models import Message, Usage
from tests.patience import LONG

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converra.delivery.conversation_queue import ConversationQueue
    from converra.server.run import LocalServer

_numbers = itertools.count()


class Note:
    """A draft whose message is ready."""

    already_known = False

    def __init__(self, message: Message | None, size: int = 400) -> None:
        self.size = size
        self.text = message.content if message else ""
        self._message = message

    def message(self) -> Message | None:
        return self._message


def said(role: str, content: str, **fields: Any) -> Note:
    """A message with an id, as a recorder makes them."""
    number = next(_numbers)
    metadata = {"messageId": f"m{number}", **fields.pop("metadata", {})}
    message = Message(role=role, content=content, metadata=metadata, **fields)  # type: ignore[arg-type]
    return Note(message, 400 + len(content))


def turn(number: int | str) -> list[Note]:
    """A question and its answer, which has facts that no create can hold."""
    return [
        said("user", f"question {number}"),
        said("assistant", f"answer {number}", usage=Usage(1, 2), latency_ms=3.5, model="gpt"),
    ]


def words(*numbers: int | str) -> list[str]:
    """Return the texts that the server should hold of these turns."""
    return [f"{kind} {number}" for number in numbers for kind in ("question", "answer")]


def delivery(server: LocalServer, **settings: Any) -> Delivery:
    """A delivery to a local server. By default only a flush, an end or a shutdown sends, and no request times out."""
    given = {
        "api_key": "k",
        "base_url": server.base_url,
        "timeout": LONG,
        "flush_interval": 3600.0,
        "shutdown_timeout": 5.0,
    }
    return Delivery(Config(**{**given, **settings}))


@contextlib.contextmanager
def asleep(sender: Delivery) -> Iterator[None]:
    """Hold the workers of a new delivery back during the block: they find all that it records at once."""
    workers = sender._flusher.workers
    workers.closed = True
    yield
    workers.closed = False
    workers.start()


def queue(sender: Delivery, key: str = "key", **fields: Any) -> ConversationQueue:
    """Open the queue of one conversation."""
    return sender.open(Header(key=key, prompt_id="prompt", **fields))


class Held:
    """One conversation as the server holds it."""

    def __init__(self, server: LocalServer, index: int = 0, found: list[Any] | None = None) -> None:
        found = found or _oldest_first(server)
        self.count = len(found)
        conversation = found[index]
        self.id = conversation.id
        self.status = conversation.status
        self.metadata = conversation.metadata
        self.messages = server.store.messages(conversation)
        self.words = [message["content"] for message in self.messages]


def held(server: LocalServer) -> list[Held]:
    """All conversations, oldest first."""
    found = _oldest_first(server)
    return [Held(server, index, found) for index in range(len(found))]


def _oldest_first(server: LocalServer) -> list[Any]:
    return server.store.conversations(limit=10**6)[0][::-1]


def posts(server: LocalServer) -> list[tuple[str, int | None]]:
    """The requests that changed or tried to change something: kind and status."""
    kinds = (
        ("append" if r.path.endswith("/messages") else "create", r.status)
        for r in server.requests
        if r.method == "POST"
    )
    return list(kinds)
