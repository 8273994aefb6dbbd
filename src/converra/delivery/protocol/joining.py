"""Who sends the beginning of a shared session, where its processes deliver in another order than they recorded in.

A process that comes into a chat has learned what was said before from the history that it was given. If it is the first
to open the conversation, it sends that too. Whoever recorded it, and delivers later, must not send it once more. So the
opener leaves the signs of what it has learned in the conversation's metadata, and who joins compares. Pure.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from converra.delivery.protocol.entry import entry_text

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from converra.delivery.protocol.entry import EncodedMessage

LEARNED = "sdkLearned"
"""The name of the signs in the metadata."""

MOST = 64
"""Signs that are left, those of the latest messages: nobody has more waiting while another goes on with the chat."""


def signs(entries: Iterable[EncodedMessage]) -> list[str]:
    """What the learned ones of these messages are known by."""
    return [_sign(entry) for entry in entries if entry.already_known][-MOST:]


def known(
    entries: Iterable[EncodedMessage],
    system_texts: Container[str],
    already_known: Container[str],
    *,
    over: bool = False,
) -> list[EncodedMessage]:
    """Which of our messages the opener has sent: what we had learned, the same system texts, and what it has learned.

    Where the conversation is `over`, what is left goes to a further one, and the system texts with it.
    """
    ours = [entry for entry in entries if not entry.already_known and _sign(entry) not in already_known]
    if not (over and any(entry.role != "system" for entry in ours)):
        ours = [entry for entry in ours if not (entry.role == "system" and entry_text(entry) in system_texts)]
    kept = set(map(id, ours))
    return [entry for entry in entries if id(entry) not in kept]


def _sign(entry: EncodedMessage) -> str:
    """Which message of the chat it is, and a digest of what the answer and its resent copy have in common.

    Whoever has heard the whole chat numbers its messages alike. Who has not has other signs, and nothing is withheld.
    """
    fields = msgspec.json.decode(entry.raw)
    calls = [call.get("id") for call in fields.get("toolCalls") or ()]
    told = msgspec.json.encode([fields["role"], fields["content"].strip(), calls])
    return f"{entry.id.rpartition('-')[2]}:{hashlib.blake2b(told, digest_size=4).hexdigest()}"
