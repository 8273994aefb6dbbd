"""One request of a Stainless client under observation: its result, in whichever shape the app asked for it.

==========================  ==========================================================================================
the result                  how it is read
==========================  ==========================================================================================
an answer object            at once
a stream                    each chunk as it passes, see `stream.py`
a raw response              its body, as bytes: one JSON object, or the server-sent events of a stream
==========================  ==========================================================================================
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from converra.history.turn import Answer, SourceMessage
from converra.integrations import CapturedCall
from converra.integrations.stainless.stream import WatchedStream, watch_body, watch_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from converra.history.turn import Request
    from converra.integrations.stainless.stream import Pieces

_decode = msgspec.json.Decoder().decode


class Endpoint(NamedTuple):
    """The readers of one endpoint: its requests as JSON, its answers as objects or JSON, its streams in pieces."""

    library: str
    """Top-level package of the SDK, whose parsers may raise on an answer."""
    request: Callable[[dict[str, Any]], Request]
    answer: Callable[[Any], Answer]
    pieces: Callable[[], Pieces]


class ObservedRequest(msgspec.Struct, frozen=True, eq=False):
    """A request under way, and the call that it ends."""

    _call: CapturedCall
    _endpoint: Endpoint

    def returned(self, result: Any) -> None:
        """Read an answer, or watch it arrive. What the object holds decides, not its class: apps subclass."""
        held = getattr(result, "__dict__", {})
        if "_iterator" in held and "response" in held:
            watch_stream(result, WatchedStream(self._call, self._endpoint.pieces()))
        elif "http_response" in held:
            self._body(result.http_response)
        elif "is_stream_consumed" in held:  # `cast_to=httpx.Response`
            self._body(result)
        else:
            self._call.end(self._endpoint.answer(result))

    def raised(self, error: BaseException) -> None:
        """Record the failure, and the answer if there was one: the app's parser may have rejected it."""
        completion = vars(error).get("completion")
        if completion is not None:  # truncated or filtered: reported by an exception, but a whole turn
            self._call.end(self._endpoint.answer(completion))
            return
        rejected = _rejected_by_parser(error, self._endpoint.library)
        self._call.fail(error, None if rejected is None else self._endpoint.answer(rejected))

    def _body(self, response: Any) -> None:
        pieces = BodyPieces(self._endpoint.answer, self._endpoint.pieces)
        content = vars(response).get("_content")
        if content is None:
            watch_body(response, WatchedStream(self._call, pieces))
        else:
            pieces.feed(content)
            self._call.end(pieces.answer())


def _rejected_by_parser(error: BaseException, library: str) -> Any:
    """Find the answer that a parser (`parse(response_format=…)`) raised on.

    No attribute of the exception holds it; a frame of the library does. Reading that frame changes nothing, whereas
    handing the SDK a parser of our own would.
    """
    tb = error.__traceback__
    while tb is not None:
        frame = tb.tb_frame
        if frame.f_code.co_name == "parse" and frame.f_globals.get("__name__", "").startswith(f"{library}."):
            return frame.f_locals.get("parsed")
        tb = tb.tb_next
    return None


class BodyPieces:
    """The bytes of a body, kept as they arrive and read when the answer is needed."""

    def __init__(self, answer: Callable[[Any], Answer], pieces: Callable[[], Pieces]) -> None:
        self.started: bool = False
        self.finished: bool = False
        self._answer = answer
        self._pieces = pieces
        self._chunks: list[bytes] = []

    def feed(self, chunk: bytes) -> None:
        """Keep some bytes."""
        self._chunks.append(chunk)
        self.started = self.started or not chunk.lstrip().startswith(b"{")  # a JSON object has no first token

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
    """Yield the JSON documents of server-sent events; skip what is no JSON (`[DONE]`, an event cut in two)."""
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
    try:  # takes half a surrogate pair, which a chunk may begin or end with and msgspec rejects
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
