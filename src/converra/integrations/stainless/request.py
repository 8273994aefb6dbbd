"""The request seam of Stainless clients, and one request under observation: its result, in whichever shape it comes.

A client's `request(cast_to, options, *, stream, stream_cls)` is called once for whatever an app calls (create, parse,
stream helpers, raw responses, subclasses, `client.post`), with the body as it will be on the wire. Retries happen
inside of it. A provider adds rows and readers: a `PatchPoint` for each client class, and a `Seam` of its endpoints.

==========================  ==========================================================================================
the result                  how it is read
==========================  ==========================================================================================
an answer object            at once
a stream                    each chunk as it passes, see `stream.py`
a raw response              its body, as bytes: one JSON object, or the server-sent events of a stream
==========================  ==========================================================================================
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from converra.history.turn import Answer, SourceMessage
from converra.integrations import CapturedCall
from converra.integrations.payload.deferred import deferred
from converra.integrations.payload.fields import fields, parsed
from converra.integrations.stainless import background
from converra.integrations.stainless.stream import WatchedStream, watch_body, watch_stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from converra.history.turn import Dialect, Request, Scope
    from converra.integrations import Capture
    from converra.integrations.stainless.stream import Pieces


ERROR = b'"error"'
"""Bytes of an answer that may report its own failure, which is recorded at once."""


class Endpoint(NamedTuple):
    """The readers of one endpoint: its requests as JSON, its answers as objects or JSON, its streams in pieces."""

    library: str
    """Top-level package of the SDK, whose parsers may raise on an answer."""
    request: Callable[[dict[str, Any]], Request]
    answer: Callable[[Any], Answer]
    pieces: Callable[[], Pieces]
    lists: tuple[str, ...] = ()
    """Fields of the body that an app may give as an iterator. The SDK sends the list that is put in its place."""
    wrap: Callable[[CapturedCall, dict[str, Any]], CapturedCall] | None = None
    """Puts something around the call of a body whose answers need more than their readers, such as a prefill."""
    remade: Callable[[Any], bool] | None = None
    """Returns True for the options of a request whose `Stream` the SDK throws away, to read its response in another."""
    is_whole: Callable[[bytes], bool] | None = None
    """Returns True for the bytes of a stream with its last event: those are parsed on a worker thread, as JSON is."""


class Retrieval(NamedTuple):
    """The way in which a provider's queued answers (`background: true` in the body) are retrieved later."""

    response_id: Callable[[str, str], str | None]
    """Reads the id of the answer from a request's method, in lower case, and address; None for other requests."""
    dialect: Dialect
    endpoint: Endpoint


class Seam:
    """The endpoints of one provider whose requests are conversation turns.

    Args:
        endpoints: By the end of their address; an unusual address belongs to the first that its path ends with.
        retrieval: How queued answers are retrieved; None if the provider has none.

    """

    def __init__(self, endpoints: Mapping[str, Endpoint], retrieval: Retrieval | None = None) -> None:
        self._endpoints = endpoints
        self._retrieval = retrieval
        self._retrieved: Endpoint | None = None
        if retrieval is not None:
            # A retrieved answer that was not made here: only one that was queued was not recorded when it was made.
            answer = retrieval.endpoint.answer
            self._retrieved = retrieval.endpoint._replace(
                answer=lambda found: answer(found) if fields(found).get("background") is True else Answer()
            )

    def observe(
        self, capture: Capture, args: tuple[Any, ...], kwargs: dict[str, Any], scope: Scope | None = None
    ) -> ObservedRequest | None:
        """Begin a turn if this request of a client is one; `scope` is the conversation that the client names."""
        options = args[1] if len(args) > 1 else kwargs["options"]
        endpoint = self._endpoints.get(options.url) or self._at(options.url)
        body = options.json_data
        if (
            endpoint is None
            or not isinstance(body, dict)
            or (options.method != "post" and options.method.lower() != "post")
        ):
            return self._retrieve(capture, options)
        for name in endpoint.lists:
            given = body.get(name)
            if given.__class__ is not list and isinstance(given, Iterator):
                body[name] = list(given)
        if options.extra_json:  # `extra_body`: it wins, as it does on the wire
            body = {**body, **options.extra_json}
        request = endpoint.request(body)
        if scope is not None:
            request.scope = scope
        call = capture.begin(request)
        if call is None:
            return None
        watched: CapturedCall = call if endpoint.wrap is None else endpoint.wrap(call, body)
        if self._retrieval is not None and body.get("background"):
            watched = background.BackgroundCall(watched)
        remade = endpoint.remade is not None and endpoint.remade(options)
        return ObservedRequest(watched, endpoint, remade=remade)

    def _at(self, url: str) -> Endpoint | None:
        """Find the endpoint of an address with a query, or of a whole one (`client.post("https://…/v1/responses")`)."""
        path = url.partition("?")[0]
        return next((endpoint for suffix, endpoint in self._endpoints.items() if path.endswith(suffix)), None)

    def _retrieve(self, capture: Capture, options: Any) -> ObservedRequest | None:
        """Continue the turn of the queued answer that this request retrieves; or record the answer."""
        retrieval, retrieved = self._retrieval, self._retrieved
        if retrieval is None or retrieved is None:
            return None
        response_id = retrieval.response_id(options.method.lower(), options.url)
        call = None if response_id is None else background.resume(response_id, capture, retrieval.dialect)
        if call is None:
            return None
        elsewhere = isinstance(call, background.RetrievedCall)
        return ObservedRequest(call, retrieved if elsewhere else retrieval.endpoint)


class ObservedRequest(msgspec.Struct, frozen=True, eq=False):
    """A request under way, and the call that it ends."""

    _call: CapturedCall
    _endpoint: Endpoint
    remade: bool = False
    """The stream is watched by the bytes of its response."""

    def returned(self, result: Any) -> None:
        """Read an answer, or watch it arrive. What the object holds decides, not its class: apps subclass."""
        held = getattr(result, "__dict__", {})
        if "response" in held and hasattr(result, "_iterator"):  # anthropic makes the iterator when it is asked for
            if self.remade:
                self._body(result.response)
            else:
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
        endpoint = self._endpoint
        content = vars(response).get("_content")
        if content is not None and endpoint.is_whole is not None and _is_json(content) and ERROR not in content:
            self._call.end(deferred([content], partial(_document, endpoint.answer)))
            return
        pieces = BodyPieces(endpoint.answer, endpoint.pieces, endpoint.is_whole)
        if content is None:
            watch_body(response, WatchedStream(self._call, pieces))
        else:
            self._call.end(pieces.read(content))


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

    def __init__(
        self,
        answer: Callable[[Any], Answer],
        pieces: Callable[[], Pieces],
        is_whole: Callable[[bytes], bool] | None = None,
    ) -> None:
        self.started: bool = False
        self.finished: bool = False
        self._answer = answer
        self._pieces = pieces
        self._is_whole = is_whole
        self._chunks: list[bytes] = []
        self._probe: Pieces | None = pieces()
        """Reads the first events, up to the first token; None for JSON, which has no first token."""
        self._unprobed = b""

    def feed(self, chunk: bytes) -> None:
        """Keep some bytes."""
        self._chunks.append(chunk)
        if self._probe is not None:
            self._look_for_a_token(self._probe, chunk)

    def answer(self) -> Answer:
        """Read what has arrived."""
        return self.read(b"".join(self._chunks))

    def read(self, body: bytes) -> Answer:
        """Read a body as far as it is there."""
        if _is_json(body) or b"data:" not in body:
            return self._whole(body)
        if self._is_whole is not None and self._is_whole(body):
            self.finished = True
            return deferred([body], partial(_streamed, self._pieces))
        pieces = _fed(self._pieces, body)
        self.finished = pieces.finished
        return pieces.answer()

    def _look_for_a_token(self, probe: Pieces, chunk: bytes) -> None:
        self._unprobed += chunk
        if _is_json(self._unprobed):
            self._probe = None
            return
        end = _end_of_events(self._unprobed)
        for event in events(self._unprobed[:end]):
            probe.feed(event)
        self._unprobed = self._unprobed[end:]
        self.started = probe.started
        if self.started:
            self._probe = None

    def _whole(self, body: bytes) -> Answer:
        if not body:
            return Answer(messages=(SourceMessage("assistant"),))
        document = parsed(body)
        self.finished = document is not None
        return self._answer(document)


def _is_json(body: bytes) -> bool:
    return body.lstrip()[:1] == b"{"


def _end_of_events(body: bytes) -> int:
    """Return the length of the events that have arrived whole."""
    return max((at + len(gap) for gap in (b"\n\n", b"\r\n\r\n") if (at := body.rfind(gap)) >= 0), default=0)


def _fed(pieces: Callable[[], Pieces], body: bytes) -> Pieces:
    found = pieces()
    for event in events(body):
        found.feed(event)
    return found


def _document(answer: Callable[[Any], Answer], bodies: list[bytes]) -> Answer:
    return answer(parsed(b"".join(bodies)))


def _streamed(pieces: Callable[[], Pieces], bodies: list[bytes]) -> Answer:
    return _fed(pieces, b"".join(bodies)).answer()


def events(body: bytes) -> Iterator[Any]:
    """Yield the JSON documents of server-sent events; skip what is no JSON (`[DONE]`, an event cut in two)."""
    data: list[bytes] = []
    for line in [*body.splitlines(), b""]:
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif not line and data:
            document = parsed(b"\n".join(data))
            data = []
            if document is not None:
                yield document
