"""The body of an OTLP request: its media type, its compression, and what is wrong with it.

Follows "OTLP/HTTP Request" of the OTLP specification: protobuf or JSON, as it is or gzip.
"""

from __future__ import annotations

import zlib
from typing import Literal

Form = Literal["protobuf", "json"]

PROTOBUF = "application/x-protobuf"
JSON = "application/json"

MEDIA_TYPES: dict[str, Form] = {PROTOBUF: "protobuf", "application/protobuf": "protobuf", JSON: "json"}
"""Media types that are read. Some proxies and older exporters leave the `x-` out."""

MAX_BODY_BYTES = 64 * 1024 * 1024
"""Largest body, as it is sent and unpacked: each span of a long chat carries the whole chat, and a batch 512 spans."""

_GZIP = zlib.MAX_WBITS | 16
_UNCOMPRESSED = ("", "identity")


class BodyError(Exception):
    """A request that is refused with an HTTP `status`; the exporter does not send it again."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status: int = status
        self.message: str = message


def form_of(content_type: str) -> Form:
    """Return the form that a Content-Type names.

    Raises:
        BodyError: 415: it names another one.

    """
    media_type = content_type.partition(";")[0].strip().lower()
    form = MEDIA_TYPES.get(media_type)
    if form is None:
        raise BodyError(415, f"Content-Type is {media_type or 'missing'}; send {PROTOBUF} or {JSON}")
    return form


def unpacked(body: bytes, encoding: str, limit: int = MAX_BODY_BYTES) -> bytes:
    """Return the body without its compression; never more than `limit` bytes are made of it.

    Raises:
        BodyError: 415 for a compression other than gzip, 400 for broken gzip, 413 past the limit.

    """
    encoding = encoding.strip().lower()
    if encoding in _UNCOMPRESSED:
        whole = body
    elif encoding == "gzip":
        whole = _gunzipped(body, limit)
    else:
        raise BodyError(415, f"Content-Encoding is {encoding}; send gzip, or none")
    if len(whole) > limit:
        raise BodyError(413, f"The body is larger than {limit:,} bytes; make the batches of the exporter smaller")
    return whole


def _gunzipped(body: bytes, limit: int) -> bytes:
    """Unpack one gzip member after the other, up to a byte past the limit."""
    parts: list[bytes] = []
    size, rest = 0, body
    try:
        while rest and size <= limit:
            member = zlib.decompressobj(_GZIP)
            part = member.decompress(rest, limit + 1 - size)
            parts.append(part)
            size += len(part)
            if size <= limit and not member.eof:
                raise BodyError(400, "The gzip body is cut short")
            rest = member.unused_data
    except zlib.error as error:
        raise BodyError(400, f"The body is not gzip: {error}") from error
    return b"".join(parts)
