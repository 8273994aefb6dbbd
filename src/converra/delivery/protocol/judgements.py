"""Feedback of a session that several processes share. Pure.

The API replaces a field of the metadata as a whole ("Append Messages"), so an append with the feedback of one process
would remove that of the others. It has no condition by which an append could depend on what was read before. So:

1. Before such an append the conversation is read back, and the feedback that it shows is sent again: that in its
   metadata, and that of the system messages that carried it. The latest of each key counts.
2. Another process may append between the two. Appends are atomic, and the answer to the later one shows the messages of
   both: feedback that its messages show and its metadata does not was replaced, and is sent once more.

Nothing is lost where the API shows messages with their metadata. Where it does not, the later of two appends within the
time of a request replaces the other one's metadata; the message that carried the feedback stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.wire.models import FEEDBACK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from converra.api.results import StoredConversation
    from converra.delivery.protocol.progress import Batch, Progress


def take(progress: Progress, metadata: dict[str, Any]) -> dict[str, Any]:
    """Return new metadata with the feedback so far; that of other processes is to be read."""
    if FEEDBACK not in metadata:
        return metadata
    progress.unread_feedback = progress.header.shared
    return {**metadata, FEEDBACK: _merged(progress.state.annotations.get(FEEDBACK), metadata[FEEDBACK])}


def learn(progress: Progress, answer: StoredConversation) -> None:
    """Add the feedback that a read-back shows to that which the next request carries."""
    progress.unread_feedback = False
    state = progress.state
    if FEEDBACK in state.metadata:
        shown = _merged(_in_messages(answer), _feedback(answer.metadata))
        state.metadata[FEEDBACK] = state.annotations[FEEDBACK] = _merged(shown, state.annotations.get(FEEDBACK))


def restore(progress: Progress, batch: Batch, answer: StoredConversation) -> None:
    """Have feedback sent again that an append has replaced, by its answer; not to an API that does not keep it."""
    kept, sent = _feedback(answer.metadata), _feedback(batch.metadata)
    whole = _merged(_in_messages(answer), kept)
    if whole != kept and sent.items() <= kept.items():
        state = progress.state
        whole = _merged(whole, _feedback(state.metadata))  # more may have come meanwhile
        state.metadata[FEEDBACK] = state.annotations[FEEDBACK] = whole
        state.owed = list(dict.fromkeys((*state.owed, FEEDBACK)))
        progress.carry_at = 0.0


def _in_messages(answer: StoredConversation) -> dict[str, Any]:
    """Collect the feedback that messages have carried."""
    shown: dict[str, Any] = {}
    for message in answer.messages:
        shown = _merged(shown, _feedback(message.metadata))
    return shown


def _merged(earlier: Any, later: Any) -> Any:
    """Return the feedback of both, by key; the second where either is of another shape."""
    if not (isinstance(earlier, dict) and isinstance(later, dict)):
        return later
    return {**earlier, **{key: each for key, each in later.items() if _given(each) >= _given(earlier.get(key))}}


def _feedback(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    feedback = (metadata or {}).get(FEEDBACK)
    return feedback if isinstance(feedback, dict) else {}


def _given(feedback: Any) -> str:
    """Return when it was given: all times are in UTC, in the same form."""
    return str(feedback.get("timestamp", "")) if isinstance(feedback, dict) else ""
