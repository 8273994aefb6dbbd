"""Share of resent history in a request to the model: chat clients resend the whole conversation each time.

The stand-in model remembers a digest of each answer it gave and how many messages it was sent. A conversation finds its
turns there by what they say, newest first, so it may take a twin's request for its own where two chats are word for
word the same; the numbers are the same then too.
"""

from __future__ import annotations

import hashlib
import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from converra.server.store.totals import answered, calls

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from converra.server.store.conversations import Store
    from converra.server.store.records import Conversation

_NO_LIMIT = 1 << 62


class Resending(NamedTuple):
    """Of one request to the model: messages that were recorded before, messages that it brought, and its number."""

    resent: int
    appended: int
    request: int


def resendings(
    store: Store, found: Conversation, messages: Sequence[Mapping[str, Any]], among: range
) -> dict[int, Resending]:
    """By the place of the answer, `among` some places of the messages; only turns of the stand-in are known."""
    received = store.received(found)
    places = [at for at in range(among.stop) if _is_answer(messages[at])]
    known: dict[int, Resending] = {}
    before = _NO_LIMIT
    for previous, at in reversed(list(itertools.pairwise([-1, *places]))):
        if at < among.start:
            break
        digest = answer_digest(messages[at]["content"], [str(call.get("id")) for call in calls(messages[at])])
        turn = store.log.resent(digest, until=received[at], before=before)
        if turn is not None:
            before = turn.request
            known[at] = Resending(max(0, turn.sent - (at - previous - 1)), at - previous, turn.request)
    return known


def answer_digest(text: str, call_ids: Sequence[str]) -> bytes:
    """Stands for what the model said: the ids of its calls, which no other answer has, or else its words."""
    return hashlib.sha256(msgspec.json.encode(list(call_ids) or text)).digest()[:16]


def _is_answer(message: Mapping[str, Any]) -> bool:
    """Of a model: by an assistant, or a turn that only calls tools."""
    if message["role"] == "assistant":
        return True
    return message["role"] == "tool" and not answered(message) and any("arguments" in call for call in calls(message))
