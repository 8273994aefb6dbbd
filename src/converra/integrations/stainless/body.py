"""Answers as the bytes of an HTTP body: one JSON object, or the server-sent events of a stream."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from converra.history.turn import Answer, SourceMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from converra.integrations.stainless.stream import Pieces

_decode = msgspec.json.Decoder().decode


class BodyPieces:
    """The bytes of a body as they arrive; they are read when the answer is asked for."""

    def __init__(self, answer: Callable[[Any], Answer], pieces: Callable[[], Pieces]) -> None:
        self.started = False
        self.finished = False
        self._answer = answer
        self._pieces = pieces
        self._chunks: list[bytes] = []

    def feed(self, chunk: bytes) -> None:
        """Keep some bytes."""
        self._chunks.append(chunk)
        self.started = self.started or not chunk.lstrip().startswith(b"{")  # only events come bit by bit

    def answer(self) -> Answer:
        """Read what has arrived."""
        body = b"".join(self._chunks)
        if b"data:" not in body or body.lstrip().startswith(b"{"):
            return self._whole(body)
        pieces = self._pieces()
        for event in events(body):
            pieces.feed(event)
        self.finished = pieces.finished
        return pieces.answer()

    def _whole(self, body: bytes) -> Answer:
        if not body:
            return Answer(messages=(SourceMessage("assistant"),))
        document = _document(body)
        self.finished = document is not None
        return self._answer(document)


def events(body: bytes) -> Iterator[Any]:
    """The JSON documents of a stream of events; what is no JSON (`[DONE]`, an event cut in two) is passed over."""
    data: list[bytes] = []
    for line in [*body.splitlines(), b""]:
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif not line and data:
            document = _document(b"\n".join(data))
            data = []
            if document is not None:
                yield document


def _document(data: bytes) -> Any:
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:  # takes half a surrogate pair, as a chunk ends or begins with it, which msgspec refuses
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
