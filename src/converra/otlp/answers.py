"""Answers to OTLP requests, in the form of the request ("OTLP/HTTP Response" of the OTLP specification)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from converra.otlp.body import JSON, PROTOBUF

if TYPE_CHECKING:
    from converra.otlp.body import Form

Signal = Literal["Spans", "LogRecords", "DataPoints"]

_CODES = {400: 3, 401: 16, 403: 7, 413: 8, 415: 3, 503: 14}
"""Codes of `google.rpc.Status` by HTTP status: INVALID_ARGUMENT, UNAUTHENTICATED, PERMISSION_DENIED and others."""

_UNKNOWN = 2

_LENGTH_DELIMITED, _VARINT = 2, 0
_CONTINUES = 0x80


class Encoded(NamedTuple):
    """A body and its media type."""

    body: bytes
    media_type: str


def accepted(form: Form, signal: Signal, rejected: int = 0, message: str = "") -> Encoded:
    """Encode an `ExportTraceServiceResponse` or `ExportLogsServiceResponse`.

    Args:
        form: The form of the request.
        signal: `Spans` or `LogRecords`, of which JSON has the count.
        rejected: Number of those that were not taken.
        message: Why, for the person who runs the exporter; an empty one with `rejected=0` means full success.

    """
    if form == "json":
        partial = {"partialSuccess": {f"rejected{signal}": str(rejected), "errorMessage": message}} if message else {}
        return Encoded(msgspec.json.encode(partial), JSON)
    partial_success = _number(1, rejected) + _text(2, message)
    return Encoded(_bytes(1, partial_success) if message else b"", PROTOBUF)


def refused(form: Form, status: int, message: str) -> Encoded:
    """Encode a `google.rpc.Status`, the body of an answer with an HTTP error."""
    code = _CODES.get(status, _UNKNOWN)
    if form == "json":
        return Encoded(msgspec.json.encode({"code": code, "message": message}), JSON)
    return Encoded(_number(1, code) + _text(2, message), PROTOBUF)


def _number(field: int, number: int) -> bytes:
    """Encode a field that is a number; protobuf leaves zero out."""
    return _varint(field << 3 | _VARINT) + _varint(number) if number else b""


def _text(field: int, text: str) -> bytes:
    return _bytes(field, text.encode("utf-8", "replace")) if text else b""


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | _LENGTH_DELIMITED) + _varint(len(value)) + value


def _varint(number: int) -> bytes:
    """Encode a number in base 128, the lowest digit first."""
    digits = bytearray()
    while number >= _CONTINUES:
        digits.append(number & (_CONTINUES - 1) | _CONTINUES)
        number >>= 7
    digits.append(number)
    return bytes(digits)
