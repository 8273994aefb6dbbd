"""Sessions that several processes share: the messages that the opener of the conversation has sent for the others.

==============  ====================================================================================================
term            meaning
==============  ====================================================================================================
shared session  a conversation that several processes record under the same idempotency key (`keep_open=True`)
opener          the process whose create made the conversation
joiner          a process whose create was answered with the opener's conversation
already known   a message that was recorded before this process joined: its first request resent it as history
signature       the number of a message in the session, with a digest of its role, text and call ids
==============  ====================================================================================================

Processes may deliver in another order than they recorded in. A process that joins a chat late, and is the first to
deliver, opens the conversation with all that it already knows. The process that recorded those messages delivers
later, and must not send them again. So:

1. The opener sends its already known messages too, and keeps their signatures in the conversation's metadata.
2. A joiner drops the messages that it already knew: the process that recorded them sends them.
3. A joiner drops its own messages whose signatures are in the metadata, and system messages that are stored already.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from converra.delivery.protocol.entry import entry_text

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from converra.delivery.protocol.entry import EncodedMessage

OPENED_BY = "sdkOpenedBy"
"""Name of the opener's id in the conversation's metadata."""

SIGNATURES = "sdkLearned"
"""Name of the signatures in the conversation's metadata."""

MAX_SIGNATURES = 64
"""Signatures in the metadata, those of the latest messages: no process has more waiting while another continues."""


def signatures(entries: Iterable[EncodedMessage]) -> list[str]:
    """Sign the already known messages among those that wait."""
    return [signature(entry) for entry in entries if entry.already_known][-MAX_SIGNATURES:]


def sent_by_opener(
    entries: Iterable[EncodedMessage],
    system_texts: Container[str],
    opener_signatures: Container[str],
    *,
    closed: bool = False,
) -> list[EncodedMessage]:
    """Select the waiting messages that a joiner must not send.

    Args:
        entries: The messages that wait, in order.
        system_texts: The system texts that are stored in the conversation.
        opener_signatures: The signatures in its metadata.
        closed: The conversation takes no more messages. What is left then opens a further one, so its system messages
            are kept if there is anything else to send.

    """
    recorded_here = [e for e in entries if not e.already_known and signature(e) not in opener_signatures]
    if not (closed and any(entry.role != "system" for entry in recorded_here)):
        recorded_here = [e for e in recorded_here if not _repeats_system_text(e, system_texts)]
    kept = set(map(id, recorded_here))
    return [entry for entry in entries if id(entry) not in kept]


def _repeats_system_text(entry: EncodedMessage, system_texts: Container[str]) -> bool:
    """Feedback may say the same twice."""
    return entry.role == "system" and not entry.after_end and entry_text(entry) in system_texts


def signature(entry: EncodedMessage) -> str:
    """Digest what a message and its resent copy have in common, under its number in the session.

    Processes that have seen the whole chat number its messages alike. One that has seen less (a sliding window) makes
    other signatures: then nothing is dropped, and a message may be stored twice rather than never.
    """
    fields = msgspec.json.decode(entry.raw)
    calls = [call.get("id") for call in fields.get("toolCalls") or ()]
    common = msgspec.json.encode([fields["role"], fields["content"].strip(), calls])
    return f"{entry.id.rpartition('-')[2]}:{hashlib.blake2b(common, digest_size=4).hexdigest()}"
