"""The events of a streamed response, put together. A whole stream ends with all of it in one event.

What comes before is kept, as strings, for streams that are cut short and for providers that leave the output out.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

from converra.integrations.openai.responses import RESPONSE, answer_of
from converra.integrations.openai.streamed_items import StreamedItems
from converra.integrations.payload.fields import copied, fields, items, string

if TYPE_CHECKING:
    from collections.abc import Callable

    from converra.history.turn import Answer

TEXT_DELTA = "response.output_text.delta"


class ResponseEvents:
    """The events of one stream so far: SDK objects or plain dicts."""

    def __init__(self) -> None:
        self.started: bool = False
        """The first token has arrived."""
        self.finished: bool = False
        """The last event, with the whole response, has arrived."""
        self._response: dict[str, Any] = {}
        """The facts of the response, without its output."""
        self._items = StreamedItems()
        self._texts: dict[Any, list[str]] = {}
        """Item id, output index, content index → fragments of a text that are under way."""
        self._answer: Answer | None = None
        self._broken = False
        """An error has ended the stream, in the middle of whatever it was."""

    def feed(self, event: Any) -> None:
        """Read one event. Nearly all bring a piece of text, so those go first."""
        try:
            own = event.__dict__
            text = own["delta"]
            if own["type"] == TEXT_DELTA and text.__class__ is str:
                self._texts[own["item_id"], own["output_index"], own["content_index"]].append(text)
                return
        except (AttributeError, KeyError, TypeError):  # a dict, another event, or the first piece
            pass
        own = fields(event)
        kind = string(own.get("type")) or ""
        reader = self._readers.get(kind)
        if reader is not None:
            reader(self, own)
        elif kind in _FRAGMENTS:
            self._fragment(own, *_FRAGMENTS[kind])
        elif kind.endswith(".delta"):
            self.started = True

    def answer(self) -> Answer:
        """Read the answer as far as it has arrived."""
        if self._answer is not None:
            return self._answer
        answer = answer_of(self._response, self._items.whole())
        answer.partial = self._broken
        return answer

    def _fragment(self, own: dict[str, Any], field: str, kind: str) -> None:
        """Add a fragment; where the whole comes after its fragments, it takes their place."""
        value = own.get(field)
        if value is None or (kind != "arguments" and not isinstance(value, str)):
            return
        self.started = True
        pieces = self._items.pieces(own, kind)
        if pieces is None:
            return
        if field != "delta":
            pieces[:] = [copied(value)] if value else pieces
            return
        pieces.append(copied(value))
        if kind == "text" and own.get("item_id").__class__ is str:
            self._keep_at_hand(own, pieces)

    def _keep_at_hand(self, own: dict[str, Any], pieces: list[str]) -> None:
        """Let the next fragments of a text find their list at once, until an item begins or ends."""
        with suppress(TypeError):
            self._texts[own["item_id"], own.get("output_index"), own.get("content_index")] = pieces

    def _added(self, own: dict[str, Any]) -> None:
        self._texts.clear()
        self._items.begin(own)

    def _whole(self, own: dict[str, Any]) -> None:
        self._texts.clear()
        self._items.finish(own)

    def _under_way(self, own: dict[str, Any]) -> None:
        """Keep the id, the model and the rest of the facts."""
        response = fields(own.get("response"))
        facts = {key: copied(value) for key, value in response.items() if value is not None and key not in _LEFT_OUT}
        self._response.update(facts)

    def _over(self, own: dict[str, Any]) -> None:
        """Read the whole response at once; some providers leave its output, or a part of it, out."""
        self._under_way(own)
        output = items(fields(own.get("response")).get("output"))
        if output and len(output) >= self._items.finished:
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
    TEXT_DELTA: ("delta", "text"),
    "response.output_text.done": ("text", "text"),
    "response.refusal.delta": ("delta", "refusal"),
    "response.refusal.done": ("refusal", "refusal"),
    "response.function_call_arguments.delta": ("delta", "arguments"),
    "response.function_call_arguments.done": ("arguments", "arguments"),
    "response.custom_tool_call_input.delta": ("delta", "arguments"),
    "response.custom_tool_call_input.done": ("input", "arguments"),
    "response.mcp_call_arguments.delta": ("delta", "arguments"),
    "response.mcp_call_arguments.done": ("arguments", "arguments"),
}
"""Events that bring a piece of an item, or all pieces at once: the field that holds it, and a piece of what it is."""

_FACTS = ("id", "model", "status", "usage", "error", "incomplete_details", "conversation")

_LEFT_OUT = RESPONSE.difference(_FACTS)
"""Fields of the response that its events need not keep: its output, and copies from the request."""
