"""Pictures, audio, video and files of whatever shape providers give them, as attachments.

An embedded one is base64, a data URL or bytes, a linked one an address, a named one a file id. Nothing is decoded here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from converra.history.turn import Attachment
from converra.integrations.payload.extras import ENCODED, encoded
from converra.integrations.payload.fields import BLOB_LENGTH, fields, items, string

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

MEDIA_FIELDS = {"images": "image", "image": "image", "audios": "audio", "videos": "video", "video": "video"}
"""Fields of a message, beside its content, that hold one or several of a kind."""

KINDS = ("image", "audio", "video", "document", "file")

KIB = 1024
MAX_NAME = 200
"""Characters of a URL or a file name that a placeholder line shows."""

MAX_DEPTH = 6
MAX_FOUND = 64
"""Limits of the search for media inside of an item: its depth, and the number found."""

_URL = r"data:[\w.+-]+/[\w.+-]+(?:;[\w.=-]+)*;base64,[A-Za-z0-9+/=_-]+"
_EMBEDDED = re.compile(rf"!\[[^\]\n]*\]\((?P<markdown>{_URL})\)|(?P<bare>{_URL})")

_HOLDERS = (
    *("image_url", "video_url", "audio_url", "file_url", "document_url", "input_audio", "output_audio"),
    *("image", "audio", "video", "document", "file", "source", "inline_data", "inlineData", "file_data", "fileData"),
    "s3Location",
)
"""Fields that hold the data, the address, or an object with either."""

_DATA = ("data", "b64_json", "base64", "file_data", "image_base64", "partial_image_b64", "bytes")
_URLS = ("url", "uri", "file_uri", "fileUri")
_MIMES = ("mime_type", "mimeType", "media_type", "mediaType")
_FORMATS = ("format", "output_format")
_OF_FORMAT = {
    "pdf": "application/pdf",
    "csv": "text/csv",
    "html": "text/html",
    "txt": "text/plain",
    "md": "text/markdown",
    "doc": "application/msword",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xls": "application/vnd.ms-excel",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
"""MIME types of formats of documents."""
_NAMES = ("filename", "file_name", "name", "title", "file_id", "fileId")


def attachment(value: Any, kind: str | None = None) -> Attachment | None:
    """Read a part that embeds, links or names a picture, a sound, a video or a file; `kind` if that is known."""
    if isinstance(value, str):
        return _of_string(value, kind or "file")
    own = fields(value)
    facts = _facts(own)
    data, url, name = _data(facts), _first(facts, _URLS), _first(facts, _NAMES)
    if url and url.startswith("data:"):
        data, url = url, None
    kind = kind or _kind(own)
    if kind is None and data is not None and (isinstance(data, bytes) or encoded(data)):
        kind = "file"
    if kind is None or not (data or url or name):
        return None
    mime = _first(facts, _MIMES) or data_mime(data)
    if mime is None and (style := _first(facts, _FORMATS)):
        mime = style if "/" in style else _OF_FORMAT.get(style, f"{kind}/{style}")
    return Attachment(_by_mime(kind, mime), mime, data, url, name)


def beside(own: Mapping[str, Any], known: frozenset[str]) -> Iterator[Attachment]:
    """Yield the attachments in the unknown fields of a message, such as `images`."""
    for name in [name for name in own if name not in known]:  # in their order
        value, kind = own[name], MEDIA_FIELDS.get(name)
        if kind is None:
            yield from inside(value)
        elif value:
            yield from filter(None, (attachment(one, kind) for one in items(value) or (value,)))


def encodings(attachments: Iterable[Attachment]) -> set[str]:
    """Return the data of attachments that are embedded as text."""
    return {one.data for one in attachments if one.data and isinstance(one.data, str)}


def embeds(text: str | None) -> bool:
    """Return True if a text contains a large data URL: gateways write pictures into it as Markdown."""
    return text is not None and len(text) > BLOB_LENGTH and ";base64," in text


def taken_out(text: str) -> tuple[str, list[Attachment]]:
    """Replace each large data URL in a text by a line, and return what they held."""
    found: list[Attachment] = []

    def line(match: re.Match[str]) -> str:
        url = match["markdown"] or match["bare"]
        if len(url) <= BLOB_LENGTH:
            return match[0]
        kind = url[len("data:") :].partition("/")[0]
        found.append(Attachment(kind if kind in KINDS else "file", data_mime(url), url))
        return placeholder(found[-1])

    return _EMBEDDED.sub(line, text), found


def inside(value: Any) -> list[Attachment]:
    """Return the attachments anywhere inside of an item, in order: embedded data, and parts that name a kind."""
    found: list[Attachment] = []
    _search(value, found, 0)
    return found


def _search(value: Any, found: list[Attachment], depth: int) -> None:
    if depth > MAX_DEPTH or len(found) >= MAX_FOUND:
        return
    if isinstance(value, str):
        if value.startswith("data:") and ";base64," in value[:ENCODED]:
            found.append(Attachment("image" if value.startswith("data:image/") else "file", data_mime(value), value))
        return
    for one in items(value):
        _search(one, found, depth + 1)
    own = fields(value)
    part = attachment(own) if own else None
    if part is not None and (part.data or part.url):
        found.append(part)
        return
    for one in own.values():
        _search(one, found, depth + 1)


def data_mime(data: str | bytes | None) -> str | None:
    """Return the MIME type that a data URL names."""
    if not isinstance(data, str) or not data.startswith("data:"):
        return None
    return data[len("data:") : ENCODED].partition(",")[0].partition(";")[0] or None


def _of_string(value: str, kind: str) -> Attachment:
    if value.startswith("data:"):
        return Attachment(kind, data_mime(value), value)
    if "://" in value[:16]:
        return Attachment(kind, None, None, value)
    return Attachment(kind, None, value) if encoded(value) else Attachment(kind, None, None, None, value)


def _facts(own: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the objects that describe a part: the part itself, and those in its `_HOLDERS` fields."""
    found = [own]
    for holder in found:
        for name in _HOLDERS:
            inner = holder.get(name)
            if isinstance(inner, str):
                found.append({"url" if _is_address(inner) else "data": inner})
            elif len(found) < MAX_DEPTH and fields(inner):
                found.append(fields(inner))
    return found


def _is_address(value: str) -> bool:
    return value.startswith("data:") or "://" in value[:16]


def _first(facts: list[dict[str, Any]], names: tuple[str, ...]) -> str | None:
    return next((text for own in facts for name in names if (text := string(own.get(name)))), None)


def _data(facts: list[dict[str, Any]]) -> str | bytes | None:
    found = (own.get(name) for own in facts for name in _DATA)
    data = next((value for value in found if value and isinstance(value, str | bytes | bytearray)), None)
    return bytes(data) if isinstance(data, bytearray) else data


def _kind(own: dict[str, Any]) -> str | None:
    """Return the kind that a part's type names, or else the field that holds its data."""
    words = (string(own.get("type")) or "", *(name for name in _HOLDERS if own.get(name)))
    kinds = (word.removesuffix("_url").rpartition("_")[2] for word in words)
    return next((kind for kind in kinds if kind in KINDS), None)


def _by_mime(kind: str, mime: str | None) -> str:
    family = (mime or "").partition("/")[0]
    return family if kind == "file" and family in KINDS else kind


def placeholder(attachment: Attachment) -> str:
    """Return a line such as `[image: image/png, 2.2 MB]`, for the place of the part in the text."""
    named = attachment.name or attachment.url
    facts = [named[:MAX_NAME]] if named else []
    if attachment.mime:
        facts.append(attachment.mime)
    if attachment.data is not None:
        facts.append(_size(_decoded_length(attachment.data)))
    return f"[{attachment.kind}: {', '.join(facts)}]" if facts else f"[{attachment.kind}]"


def _decoded_length(data: str | bytes) -> int:
    """Bytes of what is encoded, from the length alone; a data URL without base64 is taken as it is."""
    if isinstance(data, bytes):
        return len(data)
    start = 0
    if data.startswith("data:"):
        head = data[:MAX_NAME]
        start = head.find(",") + 1
        if ";base64" not in head[:start]:
            return len(data) - start
    return (len(data) - start) * 3 // 4 - data[-2:].count("=")


def _size(count: int) -> str:
    if count < KIB:
        return f"{count} bytes"
    if count < KIB * KIB:
        return f"{count / KIB:.1f} KB"
    return f"{count / KIB / KIB:.1f} MB"
