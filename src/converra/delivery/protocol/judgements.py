"""Feedback of a session that several processes share. Pure.

The API replaces a field of the metadata as a whole ("Append Messages"), so an append with the feedback of one process
would remove that of the others. Before such an append the conversation is read back, and the feedback that it shows is
sent again: that in its metadata, and that of the system messages that carried it. The latest of each key counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.wire.models import FEEDBACK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from converra.api.results import StoredConversation
    from converra.delivery.protocol.progress import Progress


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
        shown: dict[str, Any] = {}
        for metadata in (*(message.metadata for message in answer.messages), answer.metadata):
            shown = _merged(shown, _feedback(metadata))
        state.metadata[FEEDBACK] = state.annotations[FEEDBACK] = _merged(shown, state.annotations.get(FEEDBACK))


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
