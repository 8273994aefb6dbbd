"""The events of a streamed response, put together. A whole stream ends with all of it in one event.

What comes before is kept, as strings, for streams that are cut short and for providers that leave the output out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from converra.integrations.openai_fields import copied, fields, items, string
from converra.integrations.openai_responses import answer_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from converra.conversation.turn import Answer

TEXT_DELTA = "response.output_text.delta"


class ResponseEvents:
    """What has arrived of one stream so far. Events may be SDK objects or plain dicts."""

    def __init__(self) -> None:
        self.started = False
        """The first token has arrived."""
        self.finished = False
        """The last event, with the whole response, has arrived."""
        self._response: dict[str, Any] = {}
        """The facts of the response, without its output."""
        self._done: dict[Any, Any] = {}
        """Output index → an item that is whole."""
        self._begun: dict[Any, dict[str, Any]] = {}
        """Output index → an item that has begun."""
        self._deltas: dict[Any, list[str]] = {}
        """Output index, content index, kind → fragments."""
        self._answer: Answer | None = None
        self._broken = False
        """An error has ended the stream, in the middle of whatever it was."""

    def feed(self, event: Any) -> None:
        """Read one event. Nearly all bring a piece of text, so those go first."""
        try:
            if event.type == TEXT_DELTA:
                self._deltas[event.output_index, event.content_index, "text"].append(event.delta)
                return
        except (AttributeError, KeyError, TypeError):  # a dict, an odd event, or the first piece
            pass
        own = fields(event)
        kind = string(own.get("type")) or ""
        reader = self._readers.get(kind)
        if reader is not None:
            reader(self, own)
        elif kind in _FRAGMENTS:
            self._fragment(own, _FRAGMENTS[kind])
        elif kind.endswith(".delta"):
            self.started = True

    def answer(self) -> Answer:
        """What has arrived so far, as an answer."""
        if self._answer is not None:
            return self._answer
        indexes = sorted({*self._done, *self._begun}, key=_order)
        answer = answer_of(self._response, [self._done.get(index) or self._partial(index) for index in indexes])
        answer.partial = self._broken
        return answer

    def _partial(self, index: Any) -> dict[str, Any]:
        """An item that was not finished: what its fragments make."""
        item = dict(self._begun.get(index) or {"type": "message", "role": "assistant"})
        texts = {key: "".join(pieces) for key, pieces in list(self._deltas.items()) if key[0] == index}
        if "arguments" in item or "input" in item:
            field = "arguments" if "arguments" in item else "input"
            item[field] = "".join(text for key, text in texts.items() if key[2] == "arguments")
        elif item.get("type") == "message":
            parts = sorted(texts.items(), key=lambda pair: _order(pair[0][1]))
            item["content"] = [_part(key[2], text) for key, text in parts if key[2] != "arguments"]
        return item

    def _fragment(self, own: dict[str, Any], kind: str) -> None:
        delta = string(own.get("delta"))
        if delta is None:
            return
        self.started = True
        index = own.get("output_index")
        if not isinstance(index, int):
            index = 0
        if kind != "arguments":
            self._begun.setdefault(index, {"type": "message", "role": "assistant"})
        at = own.get("content_index")
        self._deltas.setdefault((index, at if isinstance(at, int) else 0, kind), []).append(delta)

    def _added(self, own: dict[str, Any]) -> None:
        self._begun[_index(own, len(self._begun))] = _item(own)

    def _whole(self, own: dict[str, Any]) -> None:
        self._done[_index(own, len(self._done))] = _item(own)

    def _under_way(self, own: dict[str, Any]) -> None:
        """Keep the id, the model and the rest of the facts."""
        response = fields(own.get("response"))
        self._response = {key: copied(response[key]) for key in _FACTS if response.get(key) is not None}

    def _over(self, own: dict[str, Any]) -> None:
        """Read the whole response at once; some providers leave its output out."""
        self._under_way(own)
        output = items(fields(own.get("response")).get("output"))
        if output:
            self._answer = answer_of(self._response, output)
        self.finished = True

    def _error(self, own: dict[str, Any]) -> None:
        self._response["error"] = copied(own.get("error")) or {"code": string(own.get("code"))}
        self._response["status"] = "failed"
        self.finished = self._broken = True

    _readers: ClassVar[dict[str, Callable[[ResponseEvents, dict[str, Any]], None]]] = {
        "response.output_item.added": _added,
        "response.output_item.done": _whole,
        "response.created": _under_way,
        "response.queued": _under_way,
        "response.in_progress": _under_way,
        "response.completed": _over,
        "response.incomplete": _over,
        "response.failed": _over,
        "response.cancelled": _over,
        "error": _error,
    }


_FRAGMENTS = {
    TEXT_DELTA: "text",
    "response.refusal.delta": "refusal",
    "response.function_call_arguments.delta": "arguments",
    "response.custom_tool_call_input.delta": "arguments",
    "response.mcp_call_arguments.delta": "arguments",
}
"""Events that bring a piece of an item, and a piece of what."""

_FACTS = ("id", "model", "status", "usage", "error", "incomplete_details", "conversation")


def _index(own: dict[str, Any], otherwise: int) -> int:
    index = own.get("output_index")
    return index if isinstance(index, int) else otherwise


def _item(own: dict[str, Any]) -> dict[str, Any]:
    """The item of an event, as plain data; one that is none holds nothing."""
    item = copied(own.get("item"))
    return item if isinstance(item, dict) else {}


def _order(index: Any) -> int:
    return index if isinstance(index, int) else 0


def _part(kind: str, text: str) -> dict[str, Any]:
    return {"type": "refusal", "refusal": text} if kind == "refusal" else {"type": "output_text", "text": text}
