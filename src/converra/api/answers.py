"""From an answer to a result or an error, whatever shape its body has (API document, "Error Responses").

A body is decoded in small pieces, up to a bound, whatever the answer claims. httpx decodes each chunk of the network as
a whole, and 64 KB of gzip may become 64 MB. So the raw chunks are decoded here, by zlib, which stops at a length. Only
`gzip` and `deflate` are requested: other decoders have no such bound.
"""

from __future__ import annotations

import re
import zlib
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from converra.api.results import Answer
from converra.errors import APIResponse, UnreadableResponseError, error_class

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from converra.api.operations import Operation
    from converra.errors import APIStatusError

T = TypeVar("T")

ACCEPT_ENCODING = "gzip, deflate"

MAX_BYTES = 4_000_000
"""Most bytes of an answer, raw and decoded. The largest conversation of the API takes less than half of that."""

SKIMMED = 16 * 1024
"""Most bytes of a skimmed answer that are kept. An append is answered with the whole conversation so far: at its end a
megabyte, of which nothing is needed."""

MAX_ERROR_BYTES = 256 * 1024
"""Most bytes of an answer that is an error; the rest is not read, since its status says enough."""

MAX_VALUES = 200_000
"""Most values of a JSON body: an empty object takes two bytes there, and 64 in memory."""

_SUCCESS = (200, 300)
"""The statuses of a success: from the first up to, but not including, the second."""

_PIECE = 64 * 1024
_MAX_ENCODINGS = 3
_WINDOWS = {
    "gzip": (zlib.MAX_WBITS | 16,),
    "x-gzip": (zlib.MAX_WBITS | 16,),
    "deflate": (zlib.MAX_WBITS, -zlib.MAX_WBITS),
}
"""By encoding: the arguments for zlib, and those to try if that fails. Servers send bare `deflate`, too."""

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)

_OF_GATEWAYS = range(HTTPStatus.INTERNAL_SERVER_ERROR, 600)
"""Statuses under which also a proxy in front of the right API sends HTML."""

_SHOWN = 200
"""Characters of a body that is no JSON which an error repeats."""


def answer_from(
    operation: Operation[T],
    status_code: int,
    headers: Mapping[str, str],
    body: Body,
    *,
    url: str = "",
) -> T:
    """Read the result of an answer; raises the APIStatusError that it stands for."""
    data = body.end()

    def response() -> APIResponse:  # made only where it is kept: it copies the body
        names = {name.lower(): value for name, value in headers.items()}
        return APIResponse(operation.method, url, status_code, names, bytes(data))

    if not _SUCCESS[0] <= status_code < _SUCCESS[1]:
        kept = response()
        raise error_from(status_code, kept.headers, data, response=kept)
    try:
        result = operation.read(_readable(body, data))
    except ValueError as error:
        kept = response()
        reason = "it is an HTML page; is base_url right?" if _is_html(kept.headers, data) else error
        message = f"the answer to {operation.method} {operation.path} cannot be read: {reason}"
        raise UnreadableResponseError(message, status_code=status_code, headers=kept.headers, response=kept) from error
    if isinstance(result, Answer):
        result.set_response(response())
    return result


def _readable(body: Body, data: bytearray) -> bytes | bytearray:
    """Return the bytes to decode: of a skimmed body those of an object without fields; raises ValueError for none."""
    if body.problem:
        raise ValueError(body.problem)
    if body.left_out:
        if not (data[:_SHOWN].lstrip().startswith(b"{") and body.last.rstrip().endswith(b"}")):
            raise ValueError("it is no JSON object")
        return b"{}"
    if len(data) > MAX_VALUES and _too_many_values(data):
        raise ValueError("it holds too many values")
    return data


def error_from(
    status_code: int, headers: Mapping[str, str], body: bytes | bytearray, *, response: APIResponse | None = None
) -> APIStatusError:
    """Build the exception of an answer, with the API's message or else with the beginning of the body."""
    said = _said(body)
    code, message = said.get("code"), said.get("message")
    return error_class(status_code)(
        message if isinstance(message, str) and message else _described(status_code, headers, body),
        status_code=status_code,
        code=code if isinstance(code, str) else None,
        details=said.get("details"),
        headers=headers,
        response=response,
    )


def _said(body: bytes | bytearray) -> dict[str, Any]:
    """The error object, from the documented shape and its common relatives: a bare one, or `error` as a string."""
    try:
        decoded = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(decoded, dict):
        return {}
    error = decoded.get("error", decoded)
    return error if isinstance(error, dict) else {"message": error} | decoded


def _described(status_code: int, headers: Mapping[str, str], body: bytes | bytearray) -> str:
    answered = f"the API answered {status_code} {_phrase(status_code)}".rstrip()
    if "location" in headers:
        return f"{answered} to {headers['location']}; redirects are not followed, is base_url right?"
    if _is_html(headers, body):
        return f"{answered} with an HTML page" + ("" if status_code in _OF_GATEWAYS else "; is base_url right?")
    shown = " ".join(body[: 4 * _SHOWN].decode(errors="replace").split())[:_SHOWN]
    return f"{answered}: {shown}" if shown else answered


def _is_html(headers: Mapping[str, str], body: bytes | bytearray) -> bool:
    return "html" in headers.get("content-type", "") or body[:_SHOWN].lstrip()[:1] == b"<"


def _phrase(status_code: int) -> str:
    try:
        return HTTPStatus(status_code).phrase
    except ValueError:
        return ""


def _too_many_values(body: bytes | bytearray) -> bool:
    """Return True if a JSON body would take far more memory as objects than as text."""
    if _separators(body) <= MAX_VALUES:
        return False
    return _separators(_STRING.sub(b"", body)) > MAX_VALUES  # most of them may have stood inside of texts


def _separators(body: bytes | bytearray) -> int:
    return sum(map(body.count, (b",", b"{", b"[")))


class Body:
    """Takes in the chunks of one answer. `data` is what was decoded; `problem` says why it is not the whole body.

    Of a success that is skimmed, no more than `SKIMMED` bytes are kept, and the last few.
    """

    def __init__(
        self, status_code: int, headers: Mapping[str, str], *, decoded: bool = False, skimmed: bool = False
    ) -> None:
        self._most = MAX_BYTES if _SUCCESS[0] <= status_code < _SUCCESS[1] else MAX_ERROR_BYTES
        self._received = 0
        self._layers: list[_Layer] = []
        self._kept = SKIMMED if skimmed and self._most == MAX_BYTES else MAX_BYTES
        self.data: bytearray = bytearray()
        self.left_out: int = 0
        """Bytes that were not kept."""
        self.last: bytes = b""
        """The last of these."""
        self.problem: str | None = None
        encodings = "" if decoded else headers.get("content-encoding", "")
        if encodings:
            self._prepare(encodings)

    def _prepare(self, encodings: str) -> None:
        names = [name for part in encodings.split(",") if (name := part.strip().lower()) not in ("", "identity")]
        unknown = [name for name in names if name not in _WINDOWS]
        if unknown or len(names) > _MAX_ENCODINGS:
            self.problem = f"its encoding is {', '.join(names)[:100]}, and {ACCEPT_ENCODING} were asked for"
        else:
            self._layers = [_Layer(_WINDOWS[name], self._most) for name in reversed(names)]

    def feed(self, chunk: bytes) -> bool:
        """Decode a chunk from the network; return False if no more is needed."""
        self._received += len(chunk)
        if self.problem is None and self._received > self._most:
            self._refuse()
        if self.problem is None and self._layers:
            self._take(_decoded(self._layers, chunk))
        elif self.problem is None:
            self._keep(chunk)
        return self.problem is None

    def end(self) -> bytearray:
        """Decode what the decoders still buffer; return all of it."""
        for place, layer in enumerate(self._layers):
            if self.problem is None:
                self._take(piece for rest in layer.rest() for piece in _decoded(self._layers[place + 1 :], rest))
        return self.data

    def _keep(self, piece: bytes) -> None:
        room = self._kept - len(self.data)
        if len(piece) <= room:
            self.data += piece
            return
        if room > 0:
            self.data += piece[:room]
            piece = piece[room:]
        self.left_out += len(piece)
        self.last = (self.last + piece[-_SHOWN:])[-_SHOWN:]

    def _take(self, pieces: Iterator[bytes]) -> None:
        try:
            for piece in pieces:
                if len(self.data) + self.left_out + len(piece) > self._most:
                    raise _TooMuchError  # noqa: TRY301 - a layer raises it as well
                self._keep(piece)
        except _TooMuchError:
            self._refuse()
        except zlib.error as error:
            self.problem = f"it cannot be decoded: {error}"

    def _refuse(self) -> None:
        self.problem = f"it is larger than {self._most:,} bytes"


class _TooMuchError(Exception):
    """More was decoded than an answer may hold."""


class _Layer:
    """One encoding. What it gives is bounded in each piece and in all: another one may make little of much."""

    def __init__(self, windows: Sequence[int], most: int) -> None:
        self._windows = list(windows)
        self._zlib = zlib.decompressobj(self._windows.pop(0))
        self._left = most

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Decompress some raw bytes; data after the end of the compressed stream is ignored."""
        while data and not self._zlib.eof:
            piece = self._decompressed(data)
            data = self._zlib.unconsumed_tail
            self._left -= len(piece)
            if self._left < 0:
                raise _TooMuchError
            yield piece

    def _decompressed(self, data: bytes) -> bytes:
        try:
            piece = self._zlib.decompress(data, _PIECE)
        except zlib.error:
            if not self._windows:
                raise
            self._zlib = zlib.decompressobj(self._windows.pop())
            piece = self._zlib.decompress(data, _PIECE)
        self._windows.clear()
        return piece

    def rest(self) -> Iterator[bytes]:
        """Input that is not decompressed yet: a few kilobytes at most."""
        yield self._zlib.flush()


def _decoded(layers: Sequence[_Layer], data: bytes) -> Iterator[bytes]:
    if not layers:
        yield data
        return
    for piece in layers[0].pieces(data):
        yield from _decoded(layers[1:], piece)
