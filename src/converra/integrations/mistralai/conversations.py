"""Mistral's conversations, read: their entries are the items of OpenAI's Responses under other names. Pure.

The provider keeps the history: a request names the conversation that it continues, in its path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.history.turn import Answer, Request, Run, SourceMessage
from converra.integrations.openai import responses
from converra.integrations.openai.chat import error_record
from converra.integrations.openai.responses import RESPONSES
from converra.integrations.payload.extras import merged, unread
from converra.integrations.payload.fields import copied, fields, items, string
from converra.integrations.payload.parts import content
from converra.wire.json_safe import joined

if TYPE_CHECKING:
    from collections.abc import Iterator

COLLECTION = "/conversations/"
"""Part of a path, in front of the id of a conversation."""

DONE = b'"conversation.response.done"'
"""Type of the last event of a stream, as it is on the wire."""
TAIL = 4_096
"""Bytes at the end of a stream in which its last event is looked for."""

CONVERSATION = frozenset({"conversation_id", "outputs", "usage", "object"})
"""Fields of an answer that are read, or left out on purpose."""

THINKING = "thinking"


def started(body: dict[str, Any]) -> Request:
    """Read the body of a request that starts a conversation."""
    return request(body, "")


def request(body: dict[str, Any], path: str) -> Request:
    """Read the body of a call. If its path names a conversation, all of its input is new."""
    given = body.get("inputs")
    entries = [{"role": "user", "content": given}] if isinstance(given, str) else items(given)
    found = Request(
        RESPONSES,
        [item for entry in entries for item in as_items(entry)],
        string(body.get("instructions")),
        string(body.get("model")),
        path.partition(COLLECTION)[2].partition("/")[0] or None,
        items(body.get("tools")),
    )
    agent = string(body.get("agent_id"))
    if agent:
        found.run = Run(agent)
    return found


def as_items(entry: Any) -> Iterator[dict[str, Any]]:
    """Yield the items of one entry; thoughts are an item of their own."""
    own = fields(entry)
    kind = own.get("type")
    if kind == "function.call":
        called = {"call_id": own.get("tool_call_id"), "name": own.get("name"), "arguments": own.get("arguments")}
        yield {"type": "function_call", **called}
    elif kind == "function.result":
        yield {"type": "function_call_output", "call_id": own.get("tool_call_id"), "output": own.get("result")}
    elif kind in ("message.input", "message.output", None):
        parts = own.get("content")
        for part in items(parts):
            if fields(part).get("type") == THINKING:
                yield {"type": "reasoning", "summary": [{"text": content(fields(part).get(THINKING), "").text}]}
        said = [part for part in items(parts) if fields(part).get("type") != THINKING] if items(parts) else parts
        agent = {"agent_id": own["agent_id"]} if own.get("agent_id") else {}
        if said or not items(parts):
            yield {"type": "message", "role": own.get("role", "assistant"), "content": said, **agent}
    else:
        yield own


def answer(document: Any) -> Answer:
    """Read a whole answer."""
    own = fields(document)
    if "outputs" not in own:
        return Answer(metadata={"error": error_record(own)})
    return answer_of(own, [fields(entry) for entry in items(own["outputs"])])


def answer_of(own: dict[str, Any], outputs: list[dict[str, Any]]) -> Answer:
    """Build the answer from its fields and its entries."""
    models = [model for entry in outputs if (model := string(entry.get("model")))]
    facts = {"conversation": own.get("conversation_id"), "usage": own.get("usage"), "error": own.get("error")}
    body = {"status": "completed", "model": models[-1] if models else None, **facts}
    found = responses.answer_of(body, [item for entry in outputs for item in as_items(entry)])
    found.metadata = merged(found.metadata, unread(own, CONVERSATION | {"error"})) or None
    return found


def is_whole(stream: bytes) -> bool:
    """Return True for the bytes of a stream with its last event."""
    return DONE in stream[-TAIL:]


class ConversationEvents:
    """The events of one streamed answer so far."""

    def __init__(self) -> None:
        self.started: bool = False
        """The first token has arrived."""
        self.finished: bool = False
        """The last event has arrived."""
        self._facts: dict[str, Any] = {}
        self._entries: dict[Any, dict[str, Any]] = {}
        """Output index and id → the entry so far; its texts and arguments in pieces."""

    def feed(self, event: Any) -> None:
        """Read one event."""
        own = fields(event)
        kind = string(own.get("type")) or ""
        if kind.endswith((".delta", ".started", ".done")) and not kind.startswith("conversation."):
            self.started = True
            self._add(kind.rpartition(".")[0], own)
        elif kind == "conversation.response.error":
            self._facts["error"] = {"type": string(own.get("type")), "code": own.get("code")}
        elif kind.startswith("conversation."):
            self.finished = self.finished or kind.endswith(".done")
            self._facts.update({name: copied(own[name]) for name in ("conversation_id", "usage") if own.get(name)})

    def answer(self) -> Answer:
        """Read the answer as far as it has arrived."""
        if not (self._facts or self._entries):
            return Answer(messages=(SourceMessage("assistant"),))
        failed = self._facts.get("error")
        if failed and not self._entries:
            return Answer(metadata={"error": error_record({"error": {"code": failed["code"]}})})
        found = answer_of(self._facts, [_closed(entry) for entry in self._entries.values()])
        found.partial = bool(failed)
        if not self.finished:
            found.finish_reason = None
        return found

    def _add(self, kind: str, own: dict[str, Any]) -> None:
        """Add one event to its entry: pieces of content or arguments; any other field replaces."""
        entry = self._entries.setdefault((own.get("output_index"), own.get("id")), {"type": kind, "pieces": []})
        for name, value in own.items():
            if name == "content":
                entry["pieces"].append(copied(value))
            elif name == "arguments" and isinstance(value, str):
                entry.setdefault("fragments", []).append(value)
            elif name != "type" and value is not None:
                entry[name] = copied(value)


def _closed(entry: dict[str, Any]) -> dict[str, Any]:
    """Return an entry as it would be without streaming."""
    own = {name: value for name, value in entry.items() if name not in ("pieces", "fragments", "content_index")}
    if own["type"] == "message.output":
        own["content"] = _content(entry["pieces"])
    if "fragments" in entry:
        own["arguments"] = joined(entry["fragments"])
    return own


def _content(pieces: list[Any]) -> Any:
    """Put the pieces of a content together: texts that follow each other, and thoughts that do, are one part each."""
    if all(isinstance(piece, str) for piece in pieces):
        return joined(pieces)
    parts: list[dict[str, Any]] = []
    for piece in pieces:
        part = {"type": "text", "text": piece} if isinstance(piece, str) else dict(fields(piece))
        last = parts[-1] if parts else {}
        kind = part.get("type")
        if kind == last.get("type") == "text":
            last["text"] = f"{last.get('text')}{part.get('text')}"
        elif kind == last.get("type") == THINKING:
            last[THINKING] = [*items(last.get(THINKING)), *items(part.get(THINKING))]
        else:
            parts.append(part)
    return parts
