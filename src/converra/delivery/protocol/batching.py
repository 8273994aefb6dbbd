"""What to send next for one conversation, and when: pure decisions about what waits.

1. A conversation is due when its oldest message has waited for the flush interval, when enough waits to fill a request,
   when it has ended, or when a flush asks for it.
2. The newest message of an open one is held back until it has waited that long itself: it may be the last, and the last
   one carries `completed` (API document, "Append Messages": at least one message).
3. The create holds the leading system and user messages that lose nothing by it, and their details. It holds all of a
   conversation that has ended where nothing would be lost by it, and of one of texts where requests are scarce.
4. What fills a conversation to a limit completes it; the rest goes on in a further one.
"""

from __future__ import annotations

from itertools import islice, takewhile
from typing import TYPE_CHECKING, NamedTuple

from converra.delivery.protocol.entry import Fit
from converra.delivery.protocol.progress import Batch, Opening, OpeningForm
from converra.wire import limits

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from converra.delivery.protocol.entry import EncodedMessage
    from converra.delivery.protocol.progress import Progress

FULL_MESSAGES = 200
"""So many waiting messages are sent without waiting for the interval."""

HEAD_START = 300.0
"""Ended conversations go before open ones as if they had waited so many seconds longer: mostly, but not for ever."""

RESERVE = 1024
"""Bytes of a conversation kept free for the closing message."""

_ROOM = limits.MAX_CONTENT_BYTES - RESERVE

_OPENING_ROOM = limits.MAX_CONTENT_BYTES - 64 * 1024
"""Bytes of messages in a create, so that its metadata fits beside them."""

_OPEN_STATUSES = ("active", "in_progress")


class ReadBack(NamedTuple):
    """Read the conversation back: to settle an append whose answer was lost, or to learn who opened it."""


Step = Opening | Batch | ReadBack | None


def due_at(progress: Progress, interval: float) -> float | None:
    """When the conversation needs its next request; None while there is nothing to send."""
    if not progress.busy:
        return None
    if _pressing(progress):
        return progress.retry_at
    return max(progress.oldest + interval, progress.retry_at)


def _pressing(progress: Progress) -> bool:
    state = progress.state
    begun = state.unsettled or state.opener_unknown or state.opening
    return bool(begun or progress.ended or progress.send_now or progress.depth >= FULL_MESSAGES)


def rank(progress: Progress) -> float:
    """Which conversation goes first where there are more than may be sent: the lowest."""
    since = progress.oldest if progress.waiting else 0.0
    return since - HEAD_START if progress.ended else since


def plan(progress: Progress, *, ended: bool, held_back: int = 0, refused: Collection[str] = ()) -> Step:
    """The next request. `held_back` of the newest messages stay; `refused` are statuses that this API does not know."""
    state = progress.state
    if state.unsettled or state.opener_unknown:
        return ReadBack()
    if state.opening:
        return state.opening
    if state.closed and progress.entries:
        progress.move_on()
    if progress.state.closed:
        return None
    ready = list(islice(progress.entries, max(0, len(progress.entries) - held_back)))
    if progress.state.id is not None:
        return append(progress, ready, ended=ended)
    return opening(progress, ready, ended=ended, refused=refused) if ready or (ended and progress.always) else None


def opening(
    progress: Progress, ready: Sequence[EncodedMessage], *, ended: bool, refused: Collection[str] = ()
) -> Opening:
    """The create: with everything, or with the leading messages, or with the first one, or with a word of ours."""
    form = progress.state.form
    status = next((name for name in _OPEN_STATUSES if name not in refused), "")
    if form is OpeningForm.WITHOUT_MESSAGES or not ready:
        return Opening(0, status, OpeningForm.WITHOUT_MESSAGES)
    last = _last_word(progress, ready, refused) if ended and len(ready) == len(progress.entries) else ""
    if last:
        return Opening(len(ready), last, form, _ids(ready))
    count = _leading(progress, ready) or _first(ready)
    return Opening(count, status, form if count else OpeningForm.WITHOUT_MESSAGES, _ids(ready[:count]))


def _last_word(progress: Progress, ready: Sequence[EncodedMessage], refused: Collection[str]) -> str:
    """The status with which one request says it all: `completed`, `abandoned`, or none."""
    if progress.header.shared or len(ready) > progress.state.most or _weight(ready) > _OPENING_ROOM:
        return ""
    answered = any(entry.role in ("assistant", "tool") for entry in ready)
    status, most = ("completed", Fit.ANSWER) if answered else ("abandoned", Fit.NAMED)
    most = Fit.DETAILED if progress.scarce else most
    fits = all(entry.fit <= most for entry in ready) and (answered or progress.state.part == 1)
    return status if fits and status not in refused else ""


def _leading(progress: Progress, ready: Sequence[EncodedMessage]) -> int:
    plain = takewhile(lambda entry: entry.role != "assistant" and entry.fit is Fit.PLAIN, ready)
    return _fitting(list(islice(plain, progress.state.most)), _OPENING_ROOM)


def _first(ready: Sequence[EncodedMessage]) -> int:
    """1 where the create can hold the first message with its details."""
    return _fitting(ready[:1], _OPENING_ROOM) if ready[0].fit <= Fit.NAMED else 0


def append(progress: Progress, ready: Sequence[EncodedMessage], *, ended: bool) -> Batch | None:
    """The append: as much as the conversation, the request and what is known about refused messages allow."""
    state = progress.state
    everything = len(progress.entries)
    wanted = ready[: min(_most(progress), limits.MAX_MESSAGES - state.count)]
    count = _fitting(wanted, _ROOM - state.weight)
    full = state.count + count >= limits.MAX_MESSAGES or _next_is_too_much(progress, count)
    completes = full or (ended and count == everything)
    if count == 0 and not completes:
        return None
    return _batch(progress, ready[:count], completes=completes)


def _batch(progress: Progress, sent: Sequence[EncodedMessage], *, completes: bool) -> Batch:
    state, closing = progress.state, not sent
    written = {progress.counter: state.appended + len(sent) + closing}
    return Batch(
        entries=len(sent),
        completes=completes,
        closing=closing,
        ids=_ids(sent or (progress.closing,)),
        metadata=state.metadata | written,
    )


def _ids(entries: Sequence[EncodedMessage]) -> tuple[str, ...]:
    return tuple(entry.id for entry in entries)


def _most(progress: Progress) -> int:
    """Most messages of the next append: half of what holds a refused one, or what a 413 has left."""
    state = progress.state
    return min(state.most, max(1, state.suspects // 2)) if state.suspects else state.most


def _next_is_too_much(progress: Progress, count: int) -> bool:
    """Whether the message after the first `count` does not fit into the conversation any more."""
    used = progress.state.weight + _weight(islice(progress.entries, count))
    following = next(islice(progress.entries, count, None), None)
    return following is not None and not _fits(following, _ROOM - used)


def _fitting(entries: Sequence[EncodedMessage], room: int) -> int:
    """How many of the first entries fit."""
    for count, entry in enumerate(entries):
        if not _fits(entry, room):
            return count
        room -= entry.weight
    return len(entries)


def _fits(entry: EncodedMessage, room: int) -> bool:
    """A message that is over the limit by itself (huge tool arguments) is for the API to judge, in an empty one."""
    return entry.weight <= room or (entry.weight > _ROOM - RESERVE and room > _ROOM - RESERVE)


def _weight(entries: Sequence[EncodedMessage] | islice[EncodedMessage]) -> int:
    return sum(entry.weight for entry in entries)
