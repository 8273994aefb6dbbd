"""Limits of the API (API document, "Content Limits"). A KB is 1,024 bytes of UTF-8."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converra.errors import ContentLimitError
from converra.wire.models import Message

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_CONTENT_BYTES = 512 * 1024
"""Bytes of one conversation's `content` field."""

MAX_MESSAGES = 500
"""Messages of one conversation, in structured content."""

MAX_MESSAGE_BYTES = 100 * 1024
"""Bytes of one message's content."""

_OF_EVERY_PART = ("traceId", "spanId")
"""Metadata that each part of a split message has."""


def check_content(content: str, messages: Sequence[str], *, structured: bool) -> None:
    """Check a content field against the limits.

    Args:
        content: The content field.
        messages: The texts of the messages in it.
        structured: It is in the structured form, where the number of messages is limited too.

    Raises:
        ContentLimitError: The API would reject it.

    """
    size = len(content.encode())
    if size > MAX_CONTENT_BYTES:
        raise content_too_large(size)
    if structured and len(messages) > MAX_MESSAGES:
        raise _over("max messages", "the structured content", len(messages), MAX_MESSAGES, "messages")
    for index, text in enumerate(messages):
        size = len(text.encode())
        if size > MAX_MESSAGE_BYTES:
            raise _over("max message length", f"message {index}", size, MAX_MESSAGE_BYTES, "bytes")


def content_too_large(size: int) -> ContentLimitError:
    """Make the error for a content field of `size` bytes."""
    return _over("max content size", "the content field", size, MAX_CONTENT_BYTES, "bytes")


def _over(limit: str, subject: str, actual: int, maximum: int, unit: str) -> ContentLimitError:
    return ContentLimitError(
        f"{subject} has {actual:,} {unit}; the API's {limit} is {maximum:,} {unit}. Nothing was sent.",
        status_code=413,
        code="CONTENT_LIMIT",
        details={"limit": limit, "maximum": maximum, "actual": actual, "unit": unit},
    )


def pieces(text: str, limit: int = MAX_MESSAGE_BYTES) -> list[str]:
    """Cut a text between characters into pieces of at most `limit` bytes of UTF-8 (4 or more)."""
    data = text.encode()
    cut: list[str] = []
    start = 0
    while len(data) - start > limit:
        end = start + limit
        while _continues_character(data[end]):
            end -= 1
        cut.append(data[start:end].decode())
        start = end
    return [*cut, data[start:].decode()]


def _continues_character(byte: int) -> bool:
    return byte & 0xC0 == 0x80  # noqa: PLR2004 - the mark of a UTF-8 continuation byte


def split(message: Message, limit: int = MAX_MESSAGE_BYTES) -> list[Message]:
    """Split a message into parts of at most `limit` bytes of content, numbered in `metadata.part` and `parts`.

    Nothing is stored twice: the first part has the metadata, the last part has tokens, usage, latency and tool calls.
    Each part has its own `messageId`.
    """
    texts = pieces(message.content, limit)
    if len(texts) == 1:
        return [message]
    parts = [_part(message, text, number, len(texts)) for number, text in enumerate(texts, 1)]
    last = parts[-1]
    last.tokens, last.usage = message.tokens, message.usage
    last.latency_ms, last.tool_calls = message.latency_ms, message.tool_calls
    return parts


def _part(message: Message, text: str, number: int, count: int) -> Message:
    original = message.metadata or {}
    names = original if number == 1 else [name for name in _OF_EVERY_PART if name in original]
    metadata = {name: original[name] for name in names}
    if "messageId" in original:
        metadata["messageId"] = f"{original['messageId']}.{number}"
    if "part" in original:  # it is a part itself: a server has a smaller limit than the API document says
        metadata["partOf"] = original.get("messageId")
    metadata |= {"part": number, "parts": count}
    return Message(role=message.role, content=text, timestamp=message.timestamp, model=message.model, metadata=metadata)
