"""The API in a few lines, without a network: what it holds, and how each answer may be lost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from converra.errors import (
    APIConnectionError,
    APITimeoutError,
    InternalServerError,
    NotFoundError,
    PayloadTooLargeError,
    RateLimitError,
    ValidationError,
)
from converra.wire.details import DETAILS, put_back

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from converra.api.operations import Operation

FAULTS: dict[str, tuple[bool, Callable[[], Exception]]] = {
    "refused": (False, lambda: APIConnectionError("refused", sent=False)),
    "lost before": (False, lambda: APIConnectionError("reset")),
    "lost after": (True, lambda: APIConnectionError("reset")),
    "timeout before": (False, lambda: APITimeoutError("timeout")),
    "timeout after": (True, lambda: APITimeoutError("timeout")),
    "500 before": (False, lambda: InternalServerError("broken", status_code=500)),
    "500 after": (True, lambda: InternalServerError("broken", status_code=500)),
    "429": (False, lambda: RateLimitError("slow down", status_code=429)),
    "not ours": (True, lambda: KeyError("some other exception")),
}
"""Whether the request has its effect, and what is seen of it."""


CONTENT_FIELDS = {"role", "content", "timestamp", "model", "tokens"}


class Stored:
    """A conversation."""

    def __init__(self, number: int, body: dict[str, Any]) -> None:
        content = json.loads(body["content"])
        self.id = f"conv_{number}"
        self.status = body.get("status", "in_progress")
        self.messages: list[dict[str, Any]] = content["messages"]
        self.metadata: dict[str, Any] = content.get("metadata", {})
        self.completions = int(self.status == "completed")

    @property
    def whole(self) -> list[dict[str, Any]]:
        """The messages with their details."""
        return put_back(self.messages, self.metadata.get(DETAILS, {}))


class FakeAPI:
    """Implements the connection that a sender uses. `faults` gives the name of the next fault, or None."""

    def __init__(
        self, faults: Callable[[], str | None], *, hidden: str = "", most: int = 500, words: int = 10**9
    ) -> None:
        self._faults = faults
        self._hidden = hidden
        self._most = most
        self._words = words
        self.keys: dict[str, Stored] = {}
        self.conversations: list[Stored] = []
        self.requests = 0
        self.limit_headers: Mapping[str, str] | None = None

    def send(self, operation: Operation[Any], *, timeout: float | None = None) -> Any:
        self.requests += 1
        fault = self._faults()
        works, error = FAULTS[fault] if fault else (True, None)
        answer = self._answer(operation) if works else None
        if error is not None:
            raise error()
        return operation.read(json.dumps(answer).encode())

    def close(self) -> None:
        pass

    def abandon(self) -> None:
        pass

    def _answer(self, operation: Operation[Any]) -> dict[str, Any]:
        body = json.loads(operation.body) if operation.body else {}
        parts = operation.path.split("/")
        if len(parts) == 2:
            found = self.keys.get(body["idempotencyKey"]) or self._create(body)
            return {"id": found.id, "status": found.status}
        conversation = next((c for c in self.conversations if c.id == parts[2]), None)
        if conversation is None:
            raise NotFoundError("Conversation not found", status_code=404, code="NOT_FOUND")
        if operation.method == "POST":
            self._append(conversation, body)
        return self._shown(conversation)

    def _create(self, body: dict[str, Any]) -> Stored:
        made = Stored(len(self.conversations), body)
        if any(message.keys() - CONTENT_FIELDS or message["role"] == "tool" for message in made.messages):
            raise ValidationError("unknown field", status_code=400, code="V", details={"content": "no such field"})
        self._check(made.messages)
        if not made.messages or len(made.messages) > self._most:
            raise PayloadTooLargeError("too many", status_code=413, code="TOO_LARGE")
        self.conversations.append(made)
        self.keys[body["idempotencyKey"]] = made
        return made

    def _append(self, conversation: Stored, body: dict[str, Any]) -> None:
        if conversation.status == "completed":
            raise ValidationError("already completed", status_code=400, code="V", details={"status": "no"})
        self._check(body["messages"])
        if len(conversation.messages) + len(body["messages"]) > self._most:
            raise PayloadTooLargeError("too many", status_code=413, code="TOO_LARGE")
        conversation.messages += body["messages"]
        conversation.metadata |= body.get("metadata", {})
        if body.get("status") == "completed":
            conversation.status = "completed"
            conversation.completions += 1

    def _check(self, messages: list[dict[str, Any]]) -> None:
        if any(message["content"] == "poison" for message in messages):
            raise ValidationError("bad message", status_code=400, code="V", details={"messages": "bad"})
        if any(len(message["content"]) > self._words for message in messages):
            raise PayloadTooLargeError("too long", status_code=413, code="TOO_LARGE")

    def _shown(self, conversation: Stored) -> dict[str, Any]:
        content = "\n".join(f"{message['role'].title()}: {message['content']}" for message in conversation.messages)
        shown = {
            "id": conversation.id,
            "status": conversation.status,
            "content": content,
            "messages": conversation.messages,
            "metadata": conversation.metadata,
        }
        if self._hidden in ("ids", "ids of appends"):
            shown["messages"] = [m | {"metadata": {}} for m in conversation.messages]
        hidden = {"messages": ("messages",), "metadata": ("messages", "metadata"), "ids": ("metadata",)}
        return {name: value for name, value in shown.items() if name not in hidden.get(self._hidden, ())}
