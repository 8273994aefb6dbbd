"""The routes of OTLP over HTTP, for any ASGI app: they read bodies, hand the spans to a sink, and answer.

::

    app = Starlette(routes=Receiver(sink).routes())

`/v1/metrics` is taken and dropped, since agents export metrics to the same endpoint and log each failure.
"""

from __future__ import annotations

import asyncio
import importlib
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from converra.otlp import answers
from converra.otlp.body import MAX_BODY_BYTES, BodyError, form_of, unpacked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.datastructures import Headers
    from starlette.requests import Request

    from converra.otlp.answers import Encoded, Signal
    from converra.otlp.body import Form
    from converra.otlp.records import SpanLog
    from converra.spans.span import Span

AT_A_TIME = 2
"""Bodies that are read at the same time; others wait for their turn."""

REASON = "converra.reason"
"""Key of an ASGI scope: the reason of a refusal, for the log of the server around."""

RETRY_SECONDS = 1
UNAUTHORIZED, UNAVAILABLE = 401, 503

_ITEMS: dict[Signal, str] = {"Spans": "span", "LogRecords": "log record"}
"""Names of what is left out, in the answer that counts it."""

PREFIX = "/v1/"
"""Beginning of the paths of all routes."""

KEYS = ("api-key", "x-api-key", "x-goog-api-key")
"""Headers that may hold a key, beside `Authorization`."""


class BusyError(Exception):
    """The sink can take nothing at present; the exporter is asked to try again."""


class WrongKeyError(Exception):
    """The sink takes nothing under the key of this request."""


class Sink(Protocol):
    """Receiver of the spans. It is called from several threads."""

    def take(self, spans: Sequence[Span], logs: Sequence[SpanLog], key: str | None) -> None:
        """Take in spans, and log records that belong to spans.

        Args:
            spans: Spans of one body, in any order; any of them may have come before.
            logs: Log records of one body.
            key: The API key of the request; None without one.

        Raises:
            BusyError: Nothing was taken; the exporter may try again.
            WrongKeyError: Nothing was taken; answered with 401.

        """


class _Body(NamedTuple):
    """A request, as far as it is read before its body is."""

    form: Form
    encoding: str
    content: bytes
    key: str | None


class Receiver:
    """Reads the requests of exporters, and hands their spans to a sink.

    Args:
        sink: It takes the spans.
        limit: Largest body, in bytes, before and after it is unpacked.

    """

    def __init__(self, sink: Sink, *, limit: int = MAX_BODY_BYTES) -> None:
        self._sink = sink
        self._limit = limit
        self._turn = asyncio.Semaphore(AT_A_TIME)

    def routes(self) -> list[BaseRoute]:
        """Return the routes; each answers POST alone."""
        return [
            Route(f"{PREFIX}traces", self._traces, methods=["POST"]),
            Route(f"{PREFIX}logs", self._logs, methods=["POST"]),
            Route(f"{PREFIX}metrics", self._metrics, methods=["POST"]),
        ]

    async def _traces(self, request: Request) -> Response:
        return await self._answer(request, self._take_traces)

    async def _logs(self, request: Request) -> Response:
        return await self._answer(request, self._take_logs)

    async def _metrics(self, request: Request) -> Response:
        return await self._answer(request, _take_metrics)

    async def _answer(self, request: Request, take: Any) -> Response:
        form: Form = "json"
        try:
            form = form_of(request.headers.get("content-type", ""))
            encoding = request.headers.get("content-encoding", "")
            body = _Body(form, encoding, await _content(request, self._limit), key_of(request.headers))
            async with self._turn:
                return _response(await run_in_threadpool(take, body))
        except BodyError as error:
            return refusal(request.scope, form, error.status, error.message)
        except WrongKeyError as error:
            return refusal(request.scope, form, UNAUTHORIZED, str(error))
        except BusyError as error:
            answer = refusal(request.scope, form, UNAVAILABLE, str(error))
            answer.headers["Retry-After"] = str(RETRY_SECONDS)
            return answer

    def _take_traces(self, body: _Body) -> Encoded:
        found = _reader(body.form).traces(unpacked(body.content, body.encoding, self._limit))
        if found.spans:
            self._sink.take(found.spans, (), body.key)
        return _accepted(body.form, "Spans", found.unread)

    def _take_logs(self, body: _Body) -> Encoded:
        found = _reader(body.form).logs(unpacked(body.content, body.encoding, self._limit))
        if found.records:
            self._sink.take((), found.records, body.key)
        return _accepted(body.form, "LogRecords", found.unread)


async def _content(request: Request, limit: int) -> bytes:
    """Read a body; no more of it than is allowed, since what sends it may be a stranger."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > limit:
            raise BodyError(413, f"The body is larger than {limit:,} bytes; make the batches of the exporter smaller")
    return bytes(content)


def _take_metrics(body: _Body) -> Encoded:
    return answers.accepted(body.form, "DataPoints")


def _accepted(form: Form, signal: Signal, unread: int) -> Encoded:
    """Answer success; a message counts the spans or log records that could not be read."""
    if not unread:
        return answers.accepted(form, signal)
    one = _ITEMS[signal]
    were = f"{one} was" if unread == 1 else f"{one}s were"
    reason = "no valid trace id and span id, or a field of another type"
    return answers.accepted(form, signal, unread, f"{unread} {were} left out: {reason}")


def _reader(form: Form) -> Any:
    """Return the module that reads a form. That of protobuf takes 200 ms to import, so the first request does it."""
    return importlib.import_module(f"converra.otlp.{form}_form")


def key_of(headers: Headers) -> str | None:
    """Return the API key of a request, from the usual headers."""
    bearer = headers.get("authorization", "").partition(" ")[2].strip()
    return bearer or next((key for name in KEYS if (key := headers.get(name, "").strip())), None)


def refusal(scope: Any, form: Form, status: int, message: str) -> Response:
    """Answer with an error, in the form of the request, and note its reason for the server's log."""
    scope[REASON] = message
    return _response(answers.refused(form, status, message), status)


def _response(encoded: Encoded, status: int = 200) -> Response:
    return Response(encoded.body, status, media_type=encoded.media_type)
