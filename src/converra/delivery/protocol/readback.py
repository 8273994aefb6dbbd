"""Reading a conversation back: whether an append was stored, and which process opened a shared session.

The API document promises only the content ("Get Conversation"). An answer may also show the messages, the metadata or
the status. `is_stored` takes the first of these that gives an answer:

==============  ==========================================================  ============================================
shown           stored                                                      undecided
==============  ==========================================================  ============================================
message ids     one of the append's ids is there, or more messages than     messages are shown without ids
                before (if no other process appends)
counter         `sdkDelivered` in the metadata has reached the append's     the metadata has no counter
status          `completed`, if the append completes                        other processes may have completed it
content         it ends with the append's texts                             other processes may have appended since
==============  ==========================================================  ============================================
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from converra.delivery.protocol import added
from converra.delivery.protocol.entry import entry_text
from converra.delivery.protocol.joining import OPENED_BY, SIGNATURES

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from converra.api.results import StoredConversation
    from converra.delivery.protocol.entry import EncodedMessage
    from converra.delivery.protocol.progress import Batch, Progress


_LONGEST_LABEL = len("Assistant: ")
"""Characters that may stand before the first text in the text form."""


def is_stored(answer: StoredConversation, progress: Progress, batch: Batch) -> bool | None:
    """Report whether an append was stored, as a whole or not at all; None if the answer does not show it.

    Args:
        answer: The conversation as the API shows it ("Get Conversation").
        progress: The delivery; the messages of the append still wait in it.
        batch: The append.

    """
    for found in (
        _by_message_id(answer, progress, batch),
        _by_counter(answer.metadata, progress, batch),
        _by_status(answer.status, progress, batch),
        _by_content(answer.content, progress, batch),
    ):
        if found is not None:
            return found
    # Metadata without our counter: after an earlier append this API is known to lose it, so its absence proves nothing.
    return False if answer.metadata is not None and progress.state.appended == 0 else None


def is_ours(answer: StoredConversation, progress: Progress, opening: Sequence[EncodedMessage]) -> bool:
    """Report whether this process is the opener: its id is in the metadata, or else its messages come first.

    Args:
        answer: The conversation as the API shows it.
        progress: The delivery of this process.
        opening: The messages of its create.

    """
    openers = [str(metadata.get(OPENED_BY, "")) for metadata in _metadata_shown(answer)]
    if any(openers):
        return progress.writer in openers
    texts = [entry_text(entry) for entry in opening]
    if answer.shows_messages:
        return [message.content for message in answer.messages[: len(texts)]] == texts
    return _begins_with(answer.content or "", texts)


def system_texts(answer: StoredConversation) -> Container[str]:
    """Return the stored system texts, or the whole content if messages are not shown: `in` finds a text there too."""
    if answer.shows_messages:
        return {str(message.content) for message in answer.messages if message.role == "system"}
    return answer.content or ""


def opener_signatures(answer: StoredConversation) -> list[str]:
    """Return the signatures of the messages that the opener already knew; see `joining`."""
    shown = next(filter(None, (metadata.get(SIGNATURES) for metadata in _metadata_shown(answer))), None)
    return [str(signature) for signature in shown] if isinstance(shown, list) else []


def _by_message_id(answer: StoredConversation, progress: Progress, batch: Batch) -> bool | None:
    """Decide by the ids of the messages, or by their number if this process alone appends."""
    shown = answer.messages
    if not answer.shows_messages or not batch.ids:
        return None
    ids = {str((message.metadata or {}).get("messageId")) for message in shown}
    if not ids.isdisjoint(batch.ids):
        return True
    if progress.state.appended == 0 and not progress.header.shared:  # then `count` is the number before the append
        return len(shown) > progress.state.count
    return None if ids == {"None"} else False


def _by_counter(metadata: dict[str, Any] | None, progress: Progress, batch: Batch) -> bool | None:
    written = (metadata or {}).get(progress.counter)
    return written >= (batch.metadata or {}).get(progress.counter, 0) if isinstance(written, int) else None


def _by_status(status: str, progress: Progress, batch: Batch) -> bool | None:
    if not batch.completes or not status or progress.header.shared:
        return None
    return status == "completed"


def _by_content(content: str | None, progress: Progress, batch: Batch) -> bool | None:
    """Decide by the last texts of the content; tool messages without text decide nothing."""
    entries = list(islice(progress.entries, batch.entries))
    sent = [added.instead_of_entries(progress, batch)] if batch.closing else entries
    texts = [text for entry in sent if (text := entry_text(entry).strip())]
    if content is None or not texts:
        return None
    shown = _texts_in(content)
    if shown is not None:
        return shown[-len(texts) :] == texts
    if content.rstrip().endswith(texts[-1]) and _in_order(content, texts):
        return True
    return None if progress.header.shared and texts[-1] in content else False


def _in_order(content: str, texts: Sequence[str]) -> bool:
    """Report whether the last occurrences of the texts are in order: the same texts may also occur earlier."""
    end = len(content)
    for text in reversed(texts):
        end = content.rfind(text, 0, end)
        if end < 0:
            return False
    return True


def _begins_with(content: str, texts: Sequence[str]) -> bool:
    shown = _texts_in(content)
    if shown is not None:
        return shown[: len(texts)] == [text.strip() for text in texts]
    at = 0
    for text in texts:
        at = content.find(text, at)
        if at < 0:
            return False
        at += len(text)
    return content.find(texts[0]) <= _LONGEST_LABEL


def _texts_in(content: str) -> list[str] | None:
    """Return the texts of structured content, without empty ones; None for the text form."""
    messages = _structured(content).get("messages")
    if not isinstance(messages, list):
        return None
    texts = (str(message.get("content", "")).strip() for message in messages if isinstance(message, dict))
    return [text for text in texts if text]


def _metadata_shown(answer: StoredConversation) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the conversation's metadata, and that in its content if the API shows the content as it was sent."""
    in_content = _structured(answer.content or "").get("metadata")
    return answer.metadata or {}, in_content if isinstance(in_content, dict) else {}


def _structured(content: str) -> dict[str, Any]:
    """Decode structured content; return an empty dict for the text form."""
    try:
        decoded = msgspec.json.decode(content) if content.lstrip().startswith("{") else {}
    except ValueError:
        return {}
    return decoded if isinstance(decoded, dict) else {}
