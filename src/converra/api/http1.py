"""Answers of HTTP/1.1: the plain ones are read here, any other by the standard library.

Nearly every answer of an API has a plain head, and says how long its body is. Such a head costs a few microseconds here
and sixty in `http.client`. Any other answer (chunked, without a length, 1xx before it, folded lines, another version of
HTTP, no HTTP at all) goes to `http.client` from its first byte: it knows all of them, and which errors they stand for.
"""

from __future__ import annotations

import http.client
import io
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from converra.api.answers import Body

if TYPE_CHECKING:
    from collections.abc import Callable

PIECE = 64 * 1024
"""Bytes that are read at once, and most bytes of a head that is read here."""

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_HEAD = re.compile(rb"HTTP/1\.1 ([2-5]\d\d)(?: [^\r\n]*)?\r\n((?:" + _TOKEN + rb":[^\r\n]*\r\n)*)\r\n")
_FIELD = re.compile(rb"(" + _TOKEN + rb"):[ \t]*([^\r\n]*?)[ \t]*\r\n")
_LENGTH = re.compile(r"\d{1,12}")

_BEGINNING = b"HTTP/1.1 "

_WITHOUT_BODY = (204, 304)

_ERRORS = 400
"""Lowest HTTP status of an error."""


class Head(NamedTuple):
    """The head of an answer whose body has a known length."""

    status: int
    headers: dict[str, str]
    """With lower-case names."""
    length: int
    """Bytes of the body."""
    start: int
    """Where the body starts in what was received."""

    @property
    def closes(self) -> bool:
        """True if the server closes the connection after the answer."""
        return "close" in self.headers.get("connection", "").lower()


def head_of(received: bytes) -> Head | None:
    """Read a head; None if it is not complete, or is one for `http.client`."""
    found = _HEAD.match(received)
    if found is None:
        return None
    status = int(found[1])
    fields = _FIELD.findall(found[2])
    headers = {name.lower().decode("ascii"): value.decode("latin-1") for name, value in fields}
    length = headers.get("content-length", "")
    # A name that comes twice may be a length that comes twice: which one counts is decided there.
    if len(headers) != len(fields) and found[2].lower().count(b"content-length:") != 1:
        return None
    if "transfer-encoding" in headers or status in _WITHOUT_BODY or not _LENGTH.fullmatch(length):
        return None
    return Head(status, headers, int(length), found.end())


def _is_incomplete(received: bytes) -> bool:
    """Return True if more bytes may make it a head that is read here."""
    begun = received.startswith(_BEGINNING) or _BEGINNING.startswith(received)
    return bool(received) and begun and len(received) < PIECE and b"\n\r\n" not in received and b"\n\n" not in received


class Received(NamedTuple):
    """An answer, as far as it was read."""

    status: int
    headers: dict[str, str]
    """With lower-case names."""
    body: Body
    keep: bool
    """All of it was read, and the connection can carry another request."""


def receive(recv: Callable[[int], bytes], method: str, *, skimmed: bool = False) -> Received:
    """Read the answer to a request.

    Args:
        recv: Reads from the connection, at most the number of bytes that it is given; returns b"" at its end.
        method: The method of the request.
        skimmed: Keep no more of a success than shows that it is one; see `Body`.

    Raises:
        OSError, http.client.HTTPException: There is no whole answer. The status of an error counts without its body.

    """
    received = recv(PIECE)
    while (head := head_of(received)) is None and _is_incomplete(received):
        more = recv(PIECE)
        if not more:
            break
        received += more
    if head is None:
        return _received_by_library(recv, received, method, skimmed=skimmed)
    body = Body(head.status, head.headers, skimmed=skimmed)
    first = received[head.start : head.start + head.length]
    missing = head.length - len(first)
    try:
        wanted = body.feed(first)
        while wanted and missing > 0:
            piece = recv(min(missing, PIECE))
            if not piece:
                raise http.client.IncompleteRead(b"", missing)
            missing -= len(piece)
            wanted = body.feed(piece)
    except (OSError, http.client.HTTPException):
        if head.status < _ERRORS:
            raise
        wanted = False
    at_end = len(received) <= head.start + head.length
    return Received(head.status, head.headers, body, wanted and at_end and not head.closes)


def _received_by_library(
    recv: Callable[[int], bytes], received: bytes, method: str, *, skimmed: bool = False
) -> Received:
    response = http.client.HTTPResponse(_Source(recv, received), method=method)  # type: ignore[arg-type]
    try:
        response.begin()
        headers = {name.lower(): value for name, value in response.headers.items()}
        body = Body(response.status, headers, skimmed=skimmed)
        whole = _read(response, body)
        return Received(response.status, headers, body, whole and not response.will_close)
    finally:
        response.close()


def _read(response: http.client.HTTPResponse, body: Body) -> bool:
    """Read a body, as far as it is needed; return True if the whole of it was read."""
    try:
        while chunk := response.read1(PIECE):
            if not body.feed(chunk):
                return False
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
    except (OSError, http.client.HTTPException):
        if response.status < _ERRORS:
            raise
        return False
    return True


class _Source(io.RawIOBase):
    """A connection as `http.client` reads it, from the first byte of the answer."""

    def __init__(self, recv: Callable[[int], bytes], received: bytes) -> None:
        self._recv = recv
        self._received = received

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return the file that an answer is read from: an answer asks its socket for nothing else."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._received[: len(buffer)] or self._recv(len(buffer))
        self._received = self._received[len(piece) :]
        buffer[: len(piece)] = piece
        return len(piece)
