"""Batching: the next request of one conversation, and its time. Pure decisions about the waiting messages.

1. A conversation is due when its oldest message has waited for the flush interval, when 200 messages wait, when it has
   ended, or when a flush asks for it.
2. The newest message of an open conversation is held back until it has waited for the interval itself. It may be the
   last one, and the last one carries `completed`: the API rejects an append without messages ("Append Messages").
3. A create holds the leading system and user messages that lose nothing in it. If the conversation has ended, one
   create holds all of it, provided that nothing is lost; if requests are scarce, details may go to the metadata.
4. An append that fills a conversation to a limit completes it. Later messages go to a further conversation.
5. Feedback on a completed conversation is appended to it, without a status: the API document does not say that nothing
   may follow. Where the API refuses that, it is set aside.
6. Metadata goes with the next message, or with the end. Only if asked for, a message of its own carries it.
"""

from __future__ import annotations

from itertools import islice, takewhile
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from converra.delivery.protocol import added
from converra.delivery.protocol.entry import Fit
from converra.delivery.protocol.progress import Batch, Opening, OpeningForm
from converra.wire import limits

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from converra.delivery.protocol.entry import EncodedMessage
    from converra.delivery.protocol.progress import Progress

FULL_MESSAGES = 200
"""Number of waiting messages that are sent without waiting for the interval."""

HEAD_START = 300.0
"""Seconds by which ended conversations count as older than open ones: they go first, but do not starve them.

Ended conversations that the API already holds count as older still by as much: else a backlog would first open all of
its conversations, and complete none for a long time.
"""

RESERVE = 1024
"""Bytes of a conversation that are kept free for the closing message."""

_ROOM = limits.MAX_CONTENT_BYTES - RESERVE
"""Bytes of messages in a conversation."""

_OPENING_ROOM = limits.MAX_CONTENT_BYTES - 64 * 1024
"""Bytes of messages in a create; the rest is for its metadata."""

_OPEN_STATUSES = ("active", "in_progress")
"""Statuses of an open conversation, by preference: an API may reject one of them."""


class ReadBack(NamedTuple):
    """Read the conversation back: whether an append was stored, which process opened it, what feedback others gave."""


Step = Opening | Batch | ReadBack | None


def due_at(progress: Progress, interval: float) -> float | None:
    """Return the time of the next request; None while there is nothing to send.

    Args:
        progress: The delivery.
        interval: The flush interval in seconds.

    Returns:
        A time of the monotonic clock; it may have passed.

    """
    if not progress.busy:
        return None
    state = progress.state
    unanswered = state.unsettled or state.opener_unknown or state.opening
    if unanswered or progress.ended or progress.send_now or progress.depth >= FULL_MESSAGES:
        return progress.retry_at
    due = progress.oldest + interval if progress.depth else progress.carry_at
    return max(min(due, progress.carry_at), progress.retry_at)


def rank(progress: Progress) -> float:
    """Return the rank among conversations that are due: the lowest is sent first."""
    if not progress.ended:
        return progress.oldest
    return progress.oldest - (HEAD_START if progress.state.id is None else 2 * HEAD_START)


def plan(
    progress: Progress, *, ended: bool, held_back: int = 0, refused: Collection[str] = (), carry: bool = False
) -> Step:
    """Decide the next request of a conversation.

    Args:
        progress: The delivery. If it is closed and messages other than feedback wait, it moves on to a further
            conversation.
        ended: No more messages will arrive.
        held_back: Number of the newest messages that are not sent yet.
        refused: Statuses that this API rejects.
        carry: Send owed metadata even if no message waits.

    Returns:
        A create, an append, or a GET; None if there is nothing to send.

    """
    state = progress.state
    if state.unsettled or state.opener_unknown:
        return ReadBack()
    if state.opening:
        return state.opening
    if state.closed and progress.entries and not (state.id and progress.entries[0].after_end):
        progress.move_on()
    step = _next(progress, ended=ended, held_back=held_back, refused=refused, carry=carry)
    return ReadBack() if isinstance(step, Batch) and progress.unread_feedback else step


def _next(
    progress: Progress, *, ended: bool, held_back: int, refused: Collection[str], carry: bool
) -> Opening | Batch | None:
    """Decide the next request of a conversation that waits for no answer."""
    carries = bool(progress.state.owed) and not progress.entries and (carry or ended)
    if progress.state.closed:
        return _after_end(progress, carries=carries)
    ready = list(islice(progress.entries, max(0, len(progress.entries) - held_back)))
    if progress.state.id is not None:
        if carries and not ended:
            return _carrier(progress, completes=progress.state.count + 1 >= limits.MAX_MESSAGES)
        return append(progress, ready, ended=ended)
    if ready or (ended and progress.always) or (carries and progress.header.shared):
        return opening(progress, ready, ended=ended, refused=refused)
    return None


def opening(
    progress: Progress, ready: Sequence[EncodedMessage], *, ended: bool, refused: Collection[str] = ()
) -> Opening:
    """Decide the create: with all messages, the leading ones, the first one, or only a synthetic one."""
    form = progress.state.form
    status = next((name for name in _OPEN_STATUSES if name not in refused), "")
    if form is OpeningForm.WITHOUT_MESSAGES or not ready:
        return Opening(0, status, OpeningForm.WITHOUT_MESSAGES)
    if ended and len(ready) == len(progress.entries):
        final_status = _final_status(progress, ready, refused)
        if final_status:
            return Opening(len(ready), final_status, form, tuple(entry.id for entry in ready))
    count = _leading(progress, ready) or _first(ready)
    return Opening(count, status, form if count else OpeningForm.WITHOUT_MESSAGES, tuple(e.id for e in ready[:count]))


def _final_status(progress: Progress, ready: Sequence[EncodedMessage], refused: Collection[str]) -> str:
    """Return the status with which a single create can deliver the conversation; "" if it cannot."""
    state = progress.state
    if progress.header.shared or len(ready) > state.most:
        return ""
    weight, worst, answered = 0, Fit.PLAIN, False
    for entry in ready:
        weight += entry.weight
        worst = max(worst, entry.fit)
        answered = answered or entry.role in ("assistant", "tool")
    if weight > _OPENING_ROOM or not (answered or state.part == 1):
        return ""
    status, worst_fit = ("completed", Fit.ANSWER) if answered else ("abandoned", Fit.NAMED)
    if progress.scarce:
        worst_fit = Fit.DETAILED
    return status if worst <= worst_fit and status not in refused else ""


def _leading(progress: Progress, ready: Sequence[EncodedMessage]) -> int:
    """Count the leading messages that a create holds without loss."""
    plain = takewhile(lambda entry: entry.role != "assistant" and entry.fit is Fit.PLAIN, ready)
    return _fitting(list(islice(plain, progress.state.most)), _OPENING_ROOM)[0]


def _first(ready: Sequence[EncodedMessage]) -> int:
    """Return 1 if the create can hold the first message with its details, else 0."""
    return _fitting(ready[:1], _OPENING_ROOM)[0] if ready[0].fit <= Fit.NAMED else 0


def append(progress: Progress, ready: Sequence[EncodedMessage], *, ended: bool) -> Batch | None:
    """Decide the append: as many messages as the limits, a smaller server and the search for a rejected one allow.

    A message that no longer fits into the conversation completes it.
    """
    state = progress.state
    # After a 413 fewer; and half of those that hold a rejected one.
    most = min(state.most, max(1, state.suspects // 2)) if state.suspects else state.most
    count, room = _fitting(ready[: min(most, limits.MAX_MESSAGES - state.count)], _ROOM - state.weight)
    following = next(islice(progress.entries, count, None), None)
    full = state.count + count >= limits.MAX_MESSAGES or (following is not None and not _fits(following, room))
    completes = full or (ended and following is None)
    if count == 0 and not completes:
        return None
    sent = ready[:count] or (added.closing(progress),)
    return Batch(
        entries=count,
        completes=completes,
        closing=count == 0,
        ids=tuple(entry.id for entry in sent),
        metadata=state.metadata | {progress.counter: state.appended + len(sent)},
    )


def _carrier(progress: Progress, *, completes: bool = False) -> Batch:
    """Decide the append with a message that only carries metadata, or that as the last which fits completes as well."""
    batch = Batch(entries=0, completes=completes, closing=True)
    state, message = progress.state, added.instead_of_entries(progress, batch)
    metadata = state.metadata | {progress.counter: state.appended + 1}
    return msgspec.structs.replace(batch, ids=(message.id,), metadata=metadata)


def _after_end(progress: Progress, *, carries: bool) -> Batch | None:
    """Decide the append to a completed conversation: one message, so that a refusal costs no other."""
    if not progress.entries:
        return _carrier(progress) if carries else None
    state, first = progress.state, progress.entries[0]
    return Batch(entries=1, ids=(first.id,), metadata=state.metadata | {progress.counter: state.appended + 1})


def _fitting(entries: Sequence[EncodedMessage], room: int) -> tuple[int, int]:
    """Count the first entries that fit; return the room that they leave as well."""
    for count, entry in enumerate(entries):
        if not _fits(entry, room):
            return count, room
        room -= entry.weight
    return len(entries), room


def _fits(entry: EncodedMessage, room: int) -> bool:
    """Report whether a message fits. One that is over the limit by itself is sent alone: the API may accept it."""
    return entry.weight <= room or (entry.weight > _ROOM - RESERVE and room > _ROOM - RESERVE)
