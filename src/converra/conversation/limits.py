"""The limits of the API (API document, "Content Limits"), in one place. A KB is 1,024 bytes of UTF-8."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converra.errors import ContentLimitError

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_CONTENT_BYTES = 512 * 1024
"""One conversation's `content` field."""

MAX_MESSAGES = 500
"""Messages of one conversation in structured content."""

MAX_MESSAGE_BYTES = 100 * 1024
"""One message's content."""


def check_content(content: str, messages: Sequence[str], *, structured: bool) -> None:
    """Raise ContentLimitError for a content field that the API would refuse.

    `messages` are the texts of the messages within. Their number is limited in the structured format only.
    """
    _check("max content size", "the content field", len(content.encode()), MAX_CONTENT_BYTES, "bytes")
    if structured:
        _check("max messages", "the structured content", len(messages), MAX_MESSAGES, "messages")
    for index, text in enumerate(messages):
        _check("max message length", f"message {index}", len(text.encode()), MAX_MESSAGE_BYTES, "bytes")


def _check(limit: str, subject: str, actual: int, maximum: int, unit: str) -> None:
    if actual > maximum:
        raise ContentLimitError(
            f"{subject} has {actual:,} {unit}; the API's {limit} is {maximum:,} {unit}. Nothing was sent.",
            status_code=413,
            code="CONTENT_LIMIT",
            details={"limit": limit, "maximum": maximum, "actual": actual, "unit": unit},
        )
