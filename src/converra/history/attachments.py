"""What is said of a part that is no text: its kind, type, size and digest. What it held stays in the process."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from converra.wire import json_safe

if TYPE_CHECKING:
    from converra.history.turn import Attachment

DIGEST_CHUNK = 4 * 64 * 1024
"""Base64 characters decoded at once; a multiple of four, small enough not to hold the interpreter for long."""

MAX_URL = 2_048


def describe(attachment: Attachment) -> dict[str, Any]:
    """`metadata.attachments`: what the part was, never what it held."""
    record: dict[str, Any] = {"kind": attachment.kind}
    mime = attachment.mime
    digest: dict[str, Any] = {}
    if attachment.data is not None:
        embedded, digest = digested(attachment.data)
        mime = mime or embedded
    if mime:
        record["mime"] = mime
    record.update(digest)
    if attachment.url:
        record["url"] = attachment.url[:MAX_URL]
    if attachment.name:
        record["name"] = attachment.name
    return record


def digested(data: str) -> tuple[str | None, dict[str, Any]]:
    """MIME type (of a data URL), and size in bytes and SHA-256 of the decoded content."""
    mime, encoded, payload = _data_url(data)
    if not encoded:
        content = unquote_to_bytes(json_safe.text(payload))
        return mime, {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    digest, size = hashlib.sha256(), 0
    start = len(data) - len(payload)
    try:
        for at in range(start, len(data), DIGEST_CHUNK):
            piece = base64.b64decode(data[at : at + DIGEST_CHUNK], validate=True)
            digest.update(piece)
            size += len(piece)
    except (binascii.Error, ValueError):  # not base64 after all: the length is still worth knowing
        return mime, {"bytes": len(payload) * 3 // 4}
    return mime, {"bytes": size, "sha256": digest.hexdigest()}


def _data_url(data: str) -> tuple[str | None, bool, str]:
    """MIME type, whether base64, and the payload; a bare string counts as base64."""
    if not data.startswith("data:"):
        return None, True, data
    head, _, payload = data[:MAX_URL].partition(",")
    kind, *options = head[len("data:") :].split(";")
    return kind or None, "base64" in options, data[len(head) + 1 :] if payload else ""
