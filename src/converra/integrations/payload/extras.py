"""Fields of an answer that are not read here: kept in its metadata as they are, as far as they are small.

Providers and gateways add what they like: sources, filter results, timings, prices. Encoded data is never kept.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from converra.integrations.payload.fields import copied, fields

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

MAX_STRING = 4_096
"""Longest string, in characters, that is kept inside of a field; of a longer one, its length."""

MAX_FIELD = 16 * 1024
"""Largest field that is kept, in bytes of JSON; of a larger one, its size."""

MAX_FIELDS = 64
"""Fields of one answer that are kept."""

ENCODED = 200
"""Characters beyond which a string in the alphabet of base64 is taken for encoded data."""

TAKEN = frozenset(
    {
        *("messageId", "role", "attachments", "traceId", "spanId", "error", "thread", "replaces", "finishReason"),
        *("usageDetails", "alternatives", "partial", "timeToFirstTokenMs", "reasoning", "refusal", "audio", "logprobs"),
        *(
            "annotations",
            "items",
            "item",
            "part",
            "parts",
            "phase",
            "documents",
            "calls",
            "cached",
            "responseId",
            "continues",
        ),
        *("name", "fields"),
    }
)
"""Names that a message's metadata has for something else."""

FILTERS = frozenset(
    {*("prompt_filter_results", "content_filter_results", "content_filter_result", "content_filter_offsets")}
)
"""Fields of content filters, kept only if a filter found something."""

_STARTS = ("iVBORw0KGg", "/9j/", "R0lGOD", "UklGR", "JVBERi0", "SUQz", "AAAAIGZ0eX", "AAAAHGZ0eX", "T2dnUw", "UEsDB")
"""First characters of files in base64: PNG, JPEG, GIF, RIFF (WebP, WAV), PDF, MP3, MP4, Ogg, ZIP."""

_ALPHABET = re.compile(r"[A-Za-z0-9+/_=\-]+")


def unread(own: Mapping[str, Any], known: frozenset[str], hidden: Container[str] = ()) -> dict[str, Any]:
    """Collect the fields outside `known` that hold something, as metadata; names that are taken go below `fields`."""
    found: dict[str, Any] = {}
    for name in list(own)[: MAX_FIELDS + len(known)] if own.keys() - known else ():
        value = own[name]
        if name not in known and name[:2] != "__" and holds(value) and (name not in FILTERS or _flagged(value)):
            place = found.setdefault("fields", {}) if name in TAKEN else found
            place[name] = kept(value, hidden)
    return found


def _flagged(value: Any) -> bool:
    """Return True if a content filter found something: Azure adds its results to every answer."""
    if isinstance(value, list | tuple):
        return any(map(_flagged, value))
    own = fields(value)
    found = own.get("filtered") is True or own.get("detected") is True or own.get("error")
    return bool(found) or own.get("severity") not in (None, "safe") or any(map(_flagged, own.values()))


_SIZED = (str, list, tuple, dict)
"""Constant, since `str | list` makes a union at each call."""


def holds(value: Any) -> bool:
    """Return True unless a value is null, or an empty text, list or object."""
    return bool(value) if isinstance(value, _SIZED) else value is not None


def kept(value: Any, hidden: Container[str] = ()) -> Any:
    """Copy as plain data, without encoded data and what is `hidden`; a large value becomes its size."""
    found = _small(copied(value), hidden, MAX_STRING)
    try:
        size = len(msgspec.json.encode(found))
    except (ValueError, TypeError, RecursionError):  # lone surrogates, odd keys: repaired later, and measured here
        size = len(repr(found))
    return found if size <= MAX_FIELD else f"<{size} bytes>"


def screened(value: Any, hidden: Container[str] = ()) -> Any:
    """Copy as plain data at any size, without encoded data and what is `hidden`."""
    return _small(copied(value), hidden, sys.maxsize)


def _small(value: Any, hidden: Container[str], most: int) -> Any:
    if isinstance(value, str):
        return f"<{len(value)} characters>" if len(value) > most or value in hidden or encoded(value) else value
    if isinstance(value, list):
        return [_small(item, hidden, most) for item in value]
    if isinstance(value, dict):
        return {key: _small(item, hidden, most) for key, item in value.items()}
    return value


class Unread:
    """Fields that are not read, put together from the chunks of a stream; their values are copies."""

    __slots__ = ("_known", "fields")

    def __init__(self, known: frozenset[str]) -> None:
        self._known = known
        self.fields: dict[str, Any] = {}

    def note(self, own: Mapping[str, Any]) -> None:
        """Take what one chunk says; what comes in every chunk is right in the last."""
        for name, value in own.items():  # `own.keys() - self._known` costs twice as much, for every chunk
            if value is not None and name not in self._known and holds(value) and value != self.fields.get(name):
                self.fields[name] = copied(value)

    def add(self, delta: Mapping[str, Any]) -> None:
        """Add what one chunk brings: pieces of a text, members of a list."""
        for name, value in delta.items():
            if value is not None and name not in self._known and holds(value):
                self.fields[name] = _joined(self.fields.get(name), copied(value))


def _joined(before: Any, piece: Any) -> Any:
    if isinstance(before, str) and isinstance(piece, str):
        return before + piece if len(before) <= MAX_FIELD else before
    if isinstance(before, list) and isinstance(piece, list):
        return before + [one for one in piece if one not in before]
    return {**before, **piece} if isinstance(before, dict) and isinstance(piece, dict) else piece


def encoded(value: str) -> bool:
    """Return True for encoded binary data: a data URL, long base64, also in lines, or a known file's."""
    if value.startswith("data:"):
        return "," in value[:ENCODED]
    if len(value) < ENCODED:
        return value.startswith(_STARTS) and _ALPHABET.fullmatch(value) is not None
    words = value[:1024].split()
    whole = words[:-1] if len(words) > 1 else words
    return bool(words) and all(len(word) >= 60 and _ALPHABET.fullmatch(word) for word in whole)  # noqa: PLR2004 - lines of base64 have 64 or 76


def merged(before: dict[str, Any] | None, more: dict[str, Any]) -> dict[str, Any] | None:
    """Metadata with what was not read; fields that are there already stay."""
    if not more:
        return before
    if not before:
        return more
    both = {**more, **before}
    if "fields" in more and "fields" in before:
        both["fields"] = {**fields(more["fields"]), **fields(before["fields"])}
    return both
