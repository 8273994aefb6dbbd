"""Event streams of Bedrock: kept as the JSON in which they arrive, and parsed when the answer is needed. Pure.

The library gives each event to the app as `{kind: fields}`, and here each is kept as JSON of that form. So nothing that
the app does with its copy matters, and the caller's thread parses next to nothing.
"""

from __future__ import annotations

import binascii
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from converra.integrations.anthropic.events import MessageEvents
from converra.integrations.bedrock.blocks import block, blocks, cited, hosted_result
from converra.integrations.bedrock.converse import counts
from converra.integrations.payload.deferred import deferred
from converra.integrations.payload.fields import fields, parsed, string

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from converra.history.turn import Answer
    from converra.integrations.stainless.stream import Pieces

KIND, EXCEPTION = ":event-type", ":exception-type"
"""Headers that name the kind of an event, and of one that ends the stream with an error."""

MODEL_HAS_STOPPED = ("messageStop", "metadata")
CONTENT = ("contentBlockDelta", "contentBlockStart")

REDACTED = "redacted_thinking"

_decode = msgspec.json.Decoder(list[dict[str, Any]]).decode


class EventPieces:
    """The events of one stream so far."""

    def __init__(self, pieces: Callable[[], Pieces], response_id: str | None = None) -> None:
        self.started: bool = False
        """The first token has arrived."""
        self.finished: bool = False
        """The model has stopped, or the provider has ended the stream with an error."""
        self.failed: Callable[[], None] | None = None
        """Called for an event that is an error: the library raises it, so that no event follows."""
        self._pieces = pieces
        self._id = response_id
        self._bodies: list[bytes] = []
        self._broken = False

    def feed(self, event: Any) -> None:
        """Keep one event as the library decodes it: its headers, and its payload as JSON."""
        headers, payload = event.headers, event.payload
        kind = headers.get(KIND) or headers.get(EXCEPTION) or "unknownException"
        self._bodies.append(b'{"%b":%b}' % (kind.encode(), payload or b"{}"))
        if kind in MODEL_HAS_STOPPED:
            self.finished = True
        elif KIND not in headers:
            self._broken = self.finished = True
            if self.failed is not None:
                self.failed()
        elif not self.started:
            self.started = kind in CONTENT or fed(self._pieces(), self._bodies[-1:]).started

    def answer(self) -> Answer:
        """Read the answer as far as it has arrived."""
        bodies = self._bodies.copy()
        self.finished = self.finished or fed(self._pieces(), bodies[-1:]).finished
        if self.finished and not self._broken:
            return deferred(bodies, partial(read, self._pieces, self._id))
        return read(self._pieces, self._id, bodies)


def read(pieces: Callable[[], Pieces], response_id: str | None, bodies: list[bytes]) -> Answer:
    """Read the answer in the events of a stream; one that has no id gets that of the request."""
    answer = fed(pieces(), bodies).answer()
    answer.response_id = answer.response_id or response_id
    return answer


def fed(pieces: Pieces, bodies: list[bytes]) -> Pieces:
    """Return pieces that have read these events."""
    for event in documents(bodies):
        pieces.feed(event)
    return pieces


def documents(bodies: list[bytes]) -> Iterator[Any]:
    """Parse events; one that is no JSON is skipped."""
    try:
        yield from _decode(b"[%b]" % b",".join(bodies))
    except msgspec.DecodeError:
        yield from filter(None, map(parsed, bodies))


_BEGUN_BY = {
    "text": "text",
    "citation": "text",
    "toolUse": "tool_use",
    "toolResult": "server_tool_result",
    "reasoningContent": "thinking",
}
"""The kind of a block, by that of a delta which begins it."""


def _change(kind: str, value: Any) -> dict[str, Any]:
    """Return what a delta adds to its block."""
    inner = fields(value)
    if kind == "text":
        return {"type": "text_delta", "text": string(value) or ""}
    if kind == "toolUse":
        return {"type": "input_json_delta", "partial_json": inner.get("input") or ""}
    if kind == "reasoningContent":
        return {REDACTED: True} if "redactedContent" in inner else {"thinking": inner.get("text")}
    if kind == "citation":
        return {"type": "citations_delta", "citation": cited(inner)}
    return inner or {kind: value}


class ConverseEvents(MessageEvents):
    """The events of a streamed Converse, as those of the Messages API."""

    def feed(self, event: Any) -> None:
        """Read one event, `{kind: fields}`. Nearly all bring a piece of text, so those go first."""
        try:
            own = event["contentBlockDelta"]
            text = own["delta"]["text"]
            if own["contentBlockIndex"] == self._index and text.__class__ is str and self.started:
                self._add_text(text)
                return
        except (KeyError, TypeError):  # another event
            pass
        for kind, value in fields(event).items():
            reader = self._kinds.get(kind)
            if reader is not None:
                reader(self, fields(value))
            elif kind.endswith("Exception"):
                super().feed({"type": "error", "error": {"type": kind}})

    def _begin(self, own: dict[str, Any], first: dict[str, Any] | None = None) -> None:
        """Begin a block, unless it has begun: texts and reasoning do so without an event."""
        index = own.get("contentBlockIndex")
        if index not in self._blocks:
            super().feed({"type": "content_block_start", "index": index, "content_block": first or {"type": "text"}})

    def _block_start(self, own: dict[str, Any]) -> None:
        start = fields(own.get("start"))
        result = start.get("toolResult")
        self._begin(own, block(start, "assistant") if result is None else hosted_result(fields(result)))

    def _block_delta(self, own: dict[str, Any]) -> None:
        for kind, value in fields(own.get("delta")).items():
            change = self._results(own, value) if kind == "toolResult" else _change(kind, value)
            self._begin(own, {"type": REDACTED if REDACTED in change else _BEGUN_BY.get(kind, kind)})
            super().feed({"type": "content_block_delta", "index": own.get("contentBlockIndex"), "delta": change})

    def _results(self, own: dict[str, Any], value: Any) -> dict[str, Any]:
        """Return what the provider's own tool has returned so far."""
        begun = self._blocks.get(own.get("contentBlockIndex"))
        before = begun.whole().get("content") if begun else None
        return {"content": [*(before or ()), *blocks(value)]}

    def _message_stop(self, own: dict[str, Any]) -> None:
        beside = {name: value for name, value in own.items() if name != "stopReason"}
        super().feed({"type": "message_delta", "delta": {"stop_reason": own.get("stopReason")}, **beside})

    def _facts(self, own: dict[str, Any]) -> None:
        beside = {name: value for name, value in own.items() if name not in ("usage", "metrics")}
        super().feed({"type": "message_delta", "usage": counts(fields(own.get("usage"))), **beside})

    _kinds: ClassVar[dict[str, Callable[[ConverseEvents, dict[str, Any]], None]]] = {
        "contentBlockStart": _block_start,
        "contentBlockDelta": _block_delta,
        "messageStop": _message_stop,
        "metadata": _facts,
    }


class ChunkPieces:
    """The chunks of a streamed InvokeModel: each holds an event of the model's own API, as base64."""

    def __init__(self, pieces: Pieces) -> None:
        self.started: bool = False
        """The first token has arrived."""
        self.finished: bool = False
        """The model has stopped."""
        self._pieces = pieces

    def feed(self, event: Any) -> None:
        """Read one chunk, `{"chunk": {"bytes": …}}`, or an error."""
        for kind, value in fields(event).items():
            encoded = string(fields(value).get("bytes"))
            if kind.endswith("Exception"):
                self._pieces.feed({"type": "error", "error": {"type": kind}})
            elif encoded is not None:
                self._pieces.feed(parsed(binascii.a2b_base64(encoded)))
        self.started, self.finished = self._pieces.started, self._pieces.finished

    def answer(self) -> Answer:
        """Read the answer as far as it has arrived."""
        return self._pieces.answer()
