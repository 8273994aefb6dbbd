"""Reading a conversation back, to learn whether an append was stored, and who opened the conversation.

An answer may show the messages, only the metadata, or only the content, so each question is asked of what is shown,
most telling first (API document, "Get Conversation" promises the content alone).
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from converra.delivery.protocol.entry import entry_text
from converra.delivery.protocol.joining import LEARNED

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from converra.api.results import Conversation, StoredMessage
    from converra.delivery.protocol.entry import EncodedMessage
    from converra.delivery.protocol.progress import Batch, Progress


def is_stored(answer: Conversation, progress: Progress, batch: Batch) -> bool | None:
    """Whether an append took effect; None where the answer does not tell. It is stored as a whole or not at all."""
    for found in (
        _by_message_id(answer.messages, progress, batch),
        _by_counter(answer.metadata, progress, batch),
        _by_status(answer.status, progress, batch),
        _by_content(answer.content, progress, batch),
    ):
        if found is not None:
            return found
    first = progress.state.appended == 0  # then the counter, which is not there, was never seen to be kept
    return False if answer.metadata is not None and first else None


def is_ours(answer: Conversation, progress: Progress, opening: Sequence[EncodedMessage]) -> bool:
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


def already_known(answer: Conversation) -> list[str]:
    """The signs of what whoever opened the conversation had learned; see `joining`."""
    shown = (answer.metadata or {}).get(LEARNED) or _metadata_in(answer.content).get(LEARNED)
    return [str(sign) for sign in shown] if isinstance(shown, list) else []


def _by_message_id(shown: list[StoredMessage] | None, progress: Progress, batch: Batch) -> bool | None:
    """None where messages are not shown, or are shown without the ids that we gave them."""
    if shown is None or not batch.ids:
        return None
    ids = {str((message.metadata or {}).get("messageId")) for message in shown}
    if not ids.isdisjoint(batch.ids):
        return True
    if progress.state.appended == 0 and not progress.header.shared:  # how many there were before is known
        return len(shown) > progress.state.count
    return None if ids == {"None"} else False


def _by_counter(metadata: dict[str, Any] | None, progress: Progress, batch: Batch) -> bool | None:
    written = (metadata or {}).get(progress.counter)
    return written >= (batch.metadata or {}).get(progress.counter, 0) if isinstance(written, int) else None


def _by_status(status: str | None, progress: Progress, batch: Batch) -> bool | None:
    if not batch.completes or status is None or progress.header.shared:
        return None
    return status == "completed"


def _by_content(content: str | None, progress: Progress, batch: Batch) -> bool | None:
    """By the words themselves, at the end. Tool messages without words say nothing, nor do words said elsewhere."""
    sent = [progress.closing] if batch.closing else list(islice(progress.entries, batch.entries))
    texts = [text for entry in sent if (text := entry_text(entry).strip())]
    if content is None or not texts:
        return None
    said = _messages_in(content)
    if said is not None:
        return said[-len(texts) :] == texts
    if content.rstrip().endswith(texts[-1]) and _in_order(content, texts):
        return True
    return None if progress.header.shared and texts[-1] in content else False


def _in_order(content: str, texts: Sequence[str]) -> bool:
    """Looking from the end, since the same words may have been said before."""
    end = len(content)
    for text in reversed(texts):
        end = content.rfind(text, 0, end)
        if end < 0:
            return False
    return True


def _begins_with(content: str, texts: Sequence[str]) -> bool:
    said = _messages_in(content)
    if said is not None:
        return said[: len(texts)] == [text.strip() for text in texts]
    at = 0
    for text in texts:
        at = content.find(text, at)
        if at < 0:
            return False
        at += len(text)
    return content.find(texts[0]) <= _LONGEST_LABEL


def _messages_in(content: str) -> list[str] | None:
    """What is said in structured content, leaving out messages without words; None for text."""
    messages = _structured(content).get("messages")
    if not isinstance(messages, list):
        return None
    texts = (str(message.get("content", "")).strip() for message in messages if isinstance(message, dict))
    return [text for text in texts if text]


def _mark_in(content: str | None, name: str) -> str:
    return str(_metadata_in(content).get(name, ""))


def _metadata_in(content: str | None) -> dict[str, Any]:
    """The metadata in structured content that is shown as it was sent."""
    metadata = _structured(content or "").get("metadata")
    return metadata if isinstance(metadata, dict) else {}


def _structured(content: str) -> dict[str, Any]:
    """The JSON of structured content; empty for text."""
    try:
        decoded = msgspec.json.decode(content) if content.lstrip().startswith("{") else {}
    except ValueError:
        return {}
    return decoded if isinstance(decoded, dict) else {}


_LONGEST_LABEL = len("Assistant: ")
