"""Reading a conversation back, to learn whether an append was stored, and who opened the conversation.

An answer may show the messages, only the metadata, or only the content, so each question is asked of what is shown,
most telling first (API document, "Get Conversation" promises the content alone).
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from converra.delivery.entry import entry_text

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from converra.api.results import Conversation, StoredMessage
    from converra.delivery.entry import Entry
    from converra.delivery.progress import Batch, Progress


def is_stored(answer: Conversation, progress: Progress, batch: Batch) -> bool | None:
    """Whether an append took effect; None where the answer does not tell. It is stored as a whole or not at all."""
    by_id = _by_message_id(answer.messages, progress, batch)
    if by_id is not None:
        return by_id
    counted = _by_counter(answer.metadata, progress, batch)
    if counted is not None:
        return counted
    if batch.completes and answer.status is not None and not progress.header.joined:
        return answer.status == "completed"
    return _by_content(answer.content, progress, batch)


def is_ours(answer: Conversation, progress: Progress, opening: Sequence[Entry]) -> bool:
    """Whether our create made the conversation: it holds our mark, or nothing but what we opened it with."""
    marks = [str((answer.metadata or {}).get(progress.mark, "")), _mark_in(answer.content, progress.mark)]
    if any(marks):
        return progress.writer in marks
    texts = [entry_text(entry) for entry in opening]
    if answer.messages is not None:
        return [message.content for message in answer.messages[: len(texts)]] == texts
    return _begins_with(answer.content or "", texts)


def system_texts(answer: Conversation) -> Container[str]:
    """The system messages that are there; the whole content where messages are not shown, which may contain them."""
    if answer.messages is not None:
        return {str(message.content) for message in answer.messages if message.role == "system"}
    return answer.content or ""


def _by_message_id(shown: list[StoredMessage] | None, progress: Progress, batch: Batch) -> bool | None:
    """None where messages are not shown, or are shown without the ids that we gave them."""
    if shown is None or not batch.ids:
        return None
    ids = {str((message.metadata or {}).get("messageId")) for message in shown}
    if not ids.isdisjoint(batch.ids):
        return True
    if progress.state.appended == 0 and not progress.header.joined:  # how many there were before is known
        return len(shown) > progress.state.count
    return None if ids == {"None"} else False


def _by_counter(metadata: dict[str, Any] | None, progress: Progress, batch: Batch) -> bool | None:
    if metadata is None:
        return None
    written = metadata.get(progress.counter)
    if not isinstance(written, int):
        return False if metadata else None
    return bool(written >= (batch.metadata or {}).get(progress.counter, 0))


def _by_content(content: str | None, progress: Progress, batch: Batch) -> bool | None:
    """By the words themselves, which must come in order, at the end; tool messages without words say nothing."""
    sent = [progress.closing] if batch.closing else list(islice(progress.entries, batch.entries))
    texts = [text for entry in sent if (text := entry_text(entry).strip())]
    if content is None or not texts:
        return None
    return content.rstrip().endswith(texts[-1]) and _in_order(content, texts)


def _in_order(content: str, texts: Sequence[str]) -> bool:
    """Looking from the end, since the same words may have been said before."""
    end = len(content)
    for text in reversed(texts):
        end = content.rfind(text, 0, end)
        if end < 0:
            return False
    return True


def _begins_with(content: str, texts: Sequence[str]) -> bool:
    at = 0
    for text in texts:
        at = content.find(text, at)
        if at < 0:
            return False
        at += len(text)
    return bool(texts) and content.find(texts[0]) < len("Assistant: ") + 1


def _mark_in(content: str | None, name: str) -> str:
    """The mark in structured content that is shown as it was sent."""
    if content is None or not content.lstrip().startswith("{"):
        return ""
    try:
        decoded = msgspec.json.decode(content)
    except ValueError:
        return ""
    metadata = decoded.get("metadata") if isinstance(decoded, dict) else None
    return str(metadata.get(name, "")) if isinstance(metadata, dict) else ""
