"""The content field of a `create`, read field for field as it was sent, and the limits of what a conversation holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.errors import InvalidArgumentError
from converra.server.api import schemas, validation
from converra.server.api.refusal import Refusal
from converra.transcript import parse
from converra.wire.limits import MAX_CONTENT_BYTES, MAX_MESSAGE_BYTES, MAX_MESSAGES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TITLE_LENGTH = 60


def read(content: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The messages and metadata of a content field (API document, "Content Format")."""
    check_size(content, MAX_CONTENT_BYTES, "content")
    structured = _decoded_object(content)
    if structured is None:
        messages, metadata = _read_text(content), dict[str, Any]()
    else:
        messages, metadata = _read_structured(structured)
    for index, message in enumerate(messages):
        check_size(message["content"], MAX_MESSAGE_BYTES, f"content.messages[{index}].content")
    return messages, metadata


def _decoded_object(content: str) -> dict[str, Any] | None:
    """The JSON object of structured content; None for text, which broken JSON counts as."""
    try:
        decoded = validation.decode(content.encode())
    except Refusal:
        return None
    return decoded if isinstance(decoded, dict) else None


def _read_structured(structured: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Field for field as sent: the models of the client would leave out what they do not know."""
    validation.check(structured, schemas.STRUCTURED_CONTENT, at="content")
    check_count(len(structured["messages"]))
    return structured["messages"], structured.get("metadata", {})


def _read_text(content: str) -> list[dict[str, Any]]:
    try:
        return [{"role": message.role, "content": message.content} for message in parse(content).messages]
    except InvalidArgumentError as error:
        details = {"content": f"Neither JSON with a messages array nor text with role labels: {error}"}
        raise Refusal(400, "VALIDATION_ERROR", "Invalid request body", details) from error


def check_size(text: str, maximum: int, where: str) -> None:
    """Raise the API's 413 for more than `maximum` bytes of UTF-8."""
    size = len(text.encode())
    if size > maximum:
        raise Refusal(413, "PAYLOAD_TOO_LARGE", "Payload Too Large", {where: f"{size:,} bytes; at most {maximum:,}"})


def check_count(count: int) -> None:
    """Raise the API's 413 for more messages than one conversation holds."""
    if count > MAX_MESSAGES:
        details = {"messages": f"{count:,} messages; at most {MAX_MESSAGES:,}"}
        raise Refusal(413, "PAYLOAD_TOO_LARGE", "Payload Too Large", details)


def title(messages: Sequence[Mapping[str, Any]]) -> str:
    """The first words of the user, else of the first message."""
    said = next((message for message in messages if message["role"] == "user"), messages[0])
    words = " ".join(said["content"].split())
    return words if len(words) <= _TITLE_LENGTH else words[: _TITLE_LENGTH - 1] + "…"
