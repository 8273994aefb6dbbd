"""Late errors: the app could not read an answer (an output parser raised) that was recorded already. Pure.

A recorder cannot change a message that it has appended, so it notes the error in the conversation's metadata, under
`LATE_ERRORS` and the message's id. Before the next request:

=====================  =============================================================================================
the message            then
=====================  =============================================================================================
waits                  the error goes to its `metadata.error`. The state keeps it as well: a durable outbox has the
                       message as it was recorded, and another process may have to send that
is sent, or under way  the error stays in the conversation's metadata. A request under way is not changed: it may
                       have been stored, and the key of a create promises the same content
=====================  =============================================================================================
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from converra.delivery.protocol.entry import with_error

if TYPE_CHECKING:
    from converra.delivery.protocol.progress import Progress

LATE_ERRORS = "sdkAnswerErrors"
"""Name of the errors in the conversation's metadata, each under the `messageId` of its answer."""


def take(progress: Progress, metadata: dict[str, Any]) -> dict[str, Any]:
    """Take the errors of waiting messages out of new metadata; return the rest, with all other errors so far."""
    errors = metadata.get(LATE_ERRORS)
    if not isinstance(errors, dict):
        return metadata
    under_way = progress.state.opening or progress.state.unsettled
    free = {entry.id for entry in islice(progress.entries, under_way.entries if under_way else 0, None)}
    rest = {name: value for name, value in metadata.items() if name != LATE_ERRORS}
    before = progress.state.annotations.get(LATE_ERRORS)
    sent = dict(before) if isinstance(before, dict) else {}
    news = False
    for name, error in errors.items():
        waiting = next((each for each in (name, f"{name}.1") if each in free), None)  # the first part of a split one
        if waiting is None:
            sent[name], news = error, True
        else:
            progress.state.late_errors[waiting] = error
    return {**rest, LATE_ERRORS: sent} if news else rest


def apply(progress: Progress) -> None:
    """Put the late errors into the waiting messages; forget those of messages that wait no longer."""
    late = progress.state.late_errors
    progress.state.late_errors = {entry.id: late[entry.id] for entry in progress.entries if entry.id in late}
    for at, entry in enumerate(progress.entries):
        if entry.id in late:
            progress.entries[at] = with_error(entry, late[entry.id])
