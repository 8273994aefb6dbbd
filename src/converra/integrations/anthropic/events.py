"""The events of a streamed message, put together. Each is read at once: only strings and copies are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from converra.integrations.anthropic.messages import answer_of, whole_input
from converra.integrations.payload.fields import copied, fields, items, string
from converra.wire.json_safe import joined

if TYPE_CHECKING:
    from collections.abc import Callable

    from converra.history.turn import Answer

INPUT = "partial_json"
EMPTY_AT_FIRST = ("text", "thinking")
"""Blocks that begin without a token."""
DROPPED = ("type", "signature")
"""Fields of a delta that are not kept."""


class MessageEvents:
    """The events of one stream so far: SDK objects or plain dicts."""

    def __init__(self) -> None:
        self.started: bool = False
        """The first token has arrived."""
        self.finished: bool = False
        """The model has stopped: its reason has arrived."""
        self._message: dict[str, Any] = {}
        """The fields of the message, without its content."""
        self._usage: dict[str, Any] = {}
        self._blocks: dict[Any, _Block] = {}
        self._broken = False
        self._index: Any = None
        """The block whose text is under way."""
        unused: list[str] = []
        self._add_text: Callable[[str], None] = unused.append

    def feed(self, event: Any) -> None:
        """Read one event. Nearly all bring a piece of text, so those go first."""
        try:
            own = event if event.__class__ is dict else event.__dict__
            delta = own["delta"]
            text = (delta if delta.__class__ is dict else delta.__dict__)["text"]
            if own["index"] == self._index and text.__class__ is str and self.started:
                self._add_text(text)
                return
        except (AttributeError, KeyError, TypeError):  # another event
            pass
        own = fields(event)
        reader = self._readers.get(string(own.get("type")) or "")
        if reader is not None:
            reader(self, own)

    def answer(self) -> Answer:
        """Read the answer as far as it has arrived."""
        content = [block.whole() for block in list(self._blocks.values())]
        answer = answer_of({**self._message, "content": content, "usage": self._usage})
        answer.partial = self._broken
        return answer

    def _start(self, own: dict[str, Any]) -> None:
        message = dict(fields(own.get("message")))
        self._count(message.pop("usage", None))
        for index, block in enumerate(items(message.pop("content", None))):
            self._blocks[index] = _Block(fields(block))
        self._message = {name: copied(value) for name, value in message.items() if value is not None}

    def _block(self, own: dict[str, Any]) -> None:
        index, block = own.get("index"), fields(own.get("content_block"))
        self._blocks[index] = _Block(block)
        self.started = self.started or block.get("type") not in EMPTY_AT_FIRST or bool(block.get("text"))

    def _delta(self, own: dict[str, Any]) -> None:
        index, delta = own.get("index"), fields(own.get("delta"))
        block = self._blocks.get(index)
        if block is None:  # its start was lost
            block = self._blocks[index] = _Block({"type": "tool_use" if INPUT in delta else "text"})
        block.add(delta)
        self.started = True
        if delta.get("type") == "text_delta":
            self._index, self._add_text = index, block.pieces("text").append

    def _end(self, own: dict[str, Any]) -> None:
        """Read the reason why the model stopped, and its counts, which are those of the whole answer."""
        changed = {name: copied(value) for name, value in fields(own.get("delta")).items() if value is not None}
        beside = {name: copied(own[name]) for name in own.keys() - {"type", "delta", "usage"} if own[name] is not None}
        self._message |= {**changed, **beside}
        self._count(own.get("usage"))
        self.finished = self.finished or bool(changed.get("stop_reason"))

    def _count(self, reported: Any) -> None:
        """Take over counts: they are sums, so the last are right. A zero says nothing new."""
        found = {name: copied(value) for name, value in fields(reported).items() if value is not None}
        self._usage |= {name: value for name, value in found.items() if value or name not in self._usage}

    def _over(self, _own: dict[str, Any]) -> None:
        self.finished = True

    def _error(self, own: dict[str, Any]) -> None:
        self._message["error"] = copied(own.get("error")) or {}
        self._broken = self.finished = True

    _readers: ClassVar[dict[str, Callable[[MessageEvents, dict[str, Any]], None]]] = {
        "message_start": _start,
        "content_block_start": _block,
        "content_block_delta": _delta,
        "message_delta": _end,
        "message_stop": _over,
        "error": _error,
    }


class _Block:
    """One content block: as it began, and the pieces of its fields since."""

    __slots__ = ("_began", "_lists", "_pieces")

    def __init__(self, began: dict[str, Any]) -> None:
        self._began = {name: copied(value) for name, value in began.items() if value is not None}
        self._pieces: dict[str, list[str]] = {}
        self._lists: dict[str, list[Any]] = {}

    def pieces(self, name: str) -> list[str]:
        """Return the list of the pieces of a field."""
        return self._pieces.setdefault(name, [])

    def add(self, delta: dict[str, Any]) -> None:
        """Add a piece to each field that a delta brings."""
        for name, value in delta.items():
            if name in DROPPED or value is None:
                continue
            if isinstance(value, str):
                self.pieces(name).append(value)
            elif name == "citation":
                self._lists.setdefault("citations", []).append(copied(value))
            else:
                self._began[name] = copied(value)

    def whole(self) -> dict[str, Any]:
        """Build the block that it would have been without streaming, as far as it has arrived."""
        block = dict(self._began)
        for name, pieces in list(self._pieces.items()):
            text = joined(pieces)
            if name == INPUT:
                block["input"] = whole_input(text) if text.strip() else block.get("input", {})
            else:
                block[name] = f"{before}{text}" if isinstance(before := block.get(name), str) else text
        for name, found in self._lists.items():
            block[name] = [*items(block.get(name)), *found]
        return block
