"""The outbox of a relay's flusher: it takes entries from lanes instead of recording them, and saves to the engine.

`recover` is called by the flusher every `recover_every` seconds, under its lock. It reads the lanes that this process
holds, and gives up the conversations of those that it has lost.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec

from converra.delivery.fleet import dead, entry, ledger, shipper
from converra.delivery.fleet.dead import DeadMessage
from converra.delivery.fleet.engine import AwayError, Found, Kept, Reading, Saved
from converra.delivery.fleet.ledger import Held, Ledger, Unsaved
from converra.delivery.protocol import late_errors
from converra.process.guard import log_limited
from converra.wire import json_safe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from converra.config import Config
    from converra.delivery.conversation_queue import ConversationQueue
    from converra.delivery.fleet.engine import Engine
    from converra.delivery.fleet.lanes import Lane, Lanes
    from converra.delivery.header import Draft
    from converra.delivery.protocol.entry import EncodedMessage
    from converra.delivery.protocol.progress import Progress
    from converra.delivery.stats import Counters

POLL_SECONDS = 0.05
"""Seconds between two readings while entries come."""

IDLE_POLL_SECONDS = 0.25
"""The same while none come."""

READ_AT_ONCE = 200
"""Entries of one lane that are read in one go: all lanes get their turn."""

READ_A_LITTLE = 16
"""The same for a lane of which it is not known that more wait."""

FULL_LANES = 5
"""Lanes with more entries that are read in one go: no worker can choose a request while entries are taken in."""

BACKLOG = 5_000
"""Entries of one lane that may be read and not done; more wait in the engine."""

KEEP_SECONDS = 48 * 3600.0
"""Seconds for which the engine keeps a conversation that is over: its entries may still be handed over again."""

IDLE_LOOK_SECONDS = 5.0
"""Seconds between two looks for conversations whose producer has died."""

SETTLING_SECONDS = 1.0
"""Seconds, besides the timeout, for which a request of an earlier holder may still be stored."""

UNREADABLE = "converra: an entry of the fleet's outbox cannot be read, and was set aside in the dead messages: %s"
AWAY = "converra: the relay cannot reach the outbox of the fleet, and sends nothing until it is back: %s"


class RelayOutbox:
    """Implements `Outbox` and `OutboxFile` for the flusher of a relay."""

    durable: bool = True
    captured: int = 0
    dropped: int = 0

    def __init__(self, engine: Engine, lanes: Lanes, counters: Counters, config: Config) -> None:
        self._engine = engine
        self._lanes = lanes
        self._counters = counters
        self._config = config
        self._held: dict[tuple[Lane, str], Held] = {}
        self._by_progress: dict[Progress, Held] = {}
        self._clock = time.time() - time.monotonic()
        self._saving = threading.Lock()
        """Guards what is held: a worker may save a conversation while another one takes entries in."""
        self._bytes = 0
        self._idle_at = 0.0
        self._reached_since = time.monotonic()
        """Since when the engine was never away: before that, producers could give no sign of life."""
        self._looked_at = 0
        self.recover_every: float = POLL_SECONDS

    @property
    def file(self) -> RelayOutbox:
        """Return the outbox itself."""
        return self

    @property
    def pending_bytes(self) -> int:
        """Bytes of the entries that are read and not done."""
        return self._bytes

    # -- recording: a relay records nothing; the arguments are those of the protocol ----------------------------------

    def put(self, queue: ConversationQueue, drafts: Sequence[Draft]) -> None:
        """Refuse: a relay only sends."""

    def note(self, queue: ConversationQueue, metadata: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """Refuse, as `put`."""
        raise AssertionError(queue, metadata)

    def end(self, queue: ConversationQueue, *, always: bool) -> None:
        """Do nothing."""

    # -- reading -------------------------------------------------------------------------------------------------------

    def recover(self) -> list[Progress]:
        """Read the lanes; return the conversations that have changed, and those that are lost."""
        changed = self._given_up()
        try:
            changed += self._read()
            changed += self._idle()
        except AwayError as error:
            if not error.inherited:
                log_limited("relay", AWAY, error)
            self._counters.last_error = str(error)
            self._reached_since = time.monotonic()
            for lane in self._lanes.held():
                lane.read_again()
            self.recover_every = 1.0
        for held in [held for held in self._held.values() if held.take_late()]:
            changed.append(held.progress)
        return changed

    def _given_up(self) -> list[Progress]:
        """Let go of the conversations of lanes that are lost or given back, except those that are being sent."""
        gone = [held for held in self._held.values() if held.lane.lost or held.lane.leaving]
        for held in gone:
            held.progress.elsewhere = True
            if not held.progress.held:
                self._discard(held)
        self._lanes.left({held.lane.number for held in self._held.values()})
        return [held.progress for held in gone]

    def _discard(self, held: Held) -> None:
        with self._saving:
            self._bytes -= sum(taken.size for taken in held.taken)
        held.lane.outstanding -= len(held.taken)
        self._held.pop((held.lane, held.key), None)
        self._by_progress.pop(held.progress, None)

    def _read(self) -> list[Progress]:
        lanes = [lane for lane in self._lanes.held() if self._has_room(lane)]
        start = self._looked_at % max(1, len(lanes))
        lanes = lanes[start:] + lanes[:start]
        some = [lane for lane in lanes if lane.full][:FULL_LANES]
        self._looked_at += len(some) or 1
        lanes = [*some, *(lane for lane in lanes if not lane.full)]
        readings = [
            Reading(lane.number, self._lanes.token, lane.after, READ_AT_ONCE if lane.full else _a_little())
            for lane in lanes
        ]
        news: list[tuple[Lane, str, bytes]] = []
        finished: list[Lane] = []
        for lane, reading, found in zip(lanes, readings, self._engine.read(readings), strict=True):
            lane.full = len(found.entries) >= reading.most
            self._note(lane, found, finished)
            news += ((lane, number, raw) for number, raw in found.entries if number not in lane.seen)
        changed = self._take(news)
        for lane in finished:
            changed += self._all_read(lane)
        more = any(lane.full for lane in self._lanes.held())
        self.recover_every = 0.0 if more else POLL_SECONDS if news else IDLE_POLL_SECONDS
        return changed

    def _has_room(self, lane: Lane) -> bool:
        if lane.after is not None:  # what an earlier holder had read: all of it, to keep the order
            return True
        return lane.outstanding < BACKLOG and self._bytes < self._config.max_pending_bytes

    def _note(self, lane: Lane, found: Found, finished: list[Lane]) -> None:
        if found.lost:
            lane.lost = True
        elif lane.after is not None:
            if found.entries:
                lane.after = found.entries[-1][0]
            else:
                lane.after = None
                finished.append(lane)

    def _take(self, news: Sequence[tuple[Lane, str, bytes]]) -> list[Progress]:
        decoded: list[tuple[Lane, str, entry.Entry, int]] = []
        for lane, number, raw in news:
            lane.seen.add(number)
            try:
                decoded.append((lane, number, entry.decode(raw), len(raw)))
            except msgspec.DecodeError as error:
                self._set_aside(lane, number, raw, str(error))
        self._load(decoded)
        changed: dict[Progress, None] = {}
        for lane, number, one, size in decoded:
            held = self._held[lane, one.key]
            with self._saving:
                before = len(held.taken)
                withheld = held.take(number, one, self._clock, size)
                if len(held.taken) > before:
                    lane.outstanding += 1
                    self._bytes += size
            if one.carry:
                carry_at = time.monotonic() + self._config.flush_interval
                held.progress.carry_at = min(held.progress.carry_at, carry_at)
            if withheld:
                self._counters.add(withheld=withheld)
            changed[held.progress] = None
        return list(changed)

    def _load(self, decoded: Sequence[tuple[Lane, str, entry.Entry, int]]) -> None:
        """Load the conversations of entries that are not in memory."""
        first = {(lane, one.key): one for lane, _, one, _ in reversed(decoded) if (lane, one.key) not in self._held}
        kept = self._engine.load([(lane.number, key) for lane, key in first])
        for ((lane, key), one), found in zip(first.items(), kept, strict=True):
            self._hold(lane, key, found, one)

    def _hold(self, lane: Lane, key: str, found: Kept | None, one: entry.Entry | None) -> Held | None:
        if found is not None:
            saved = _ledger_decoder.decode(found.ledger)
        elif one is not None:
            saved = ledger.opened(one)
        else:
            return None
        held = self._held[lane, key] = Held(lane, key, saved)
        held.inherited = lane.after is not None
        if found is not None and saved.state is not None and saved.state.unsettled is not None:
            rest = self._config.timeout + SETTLING_SECONDS - found.age
            held.quiet_until = time.monotonic() + max(0.0, rest)
        held.progress.retry_at = time.monotonic() + _READING_SECONDS if held.inherited else held.quiet_until
        self._by_progress[held.progress] = held
        return held

    def _all_read(self, lane: Lane) -> list[Progress]:
        """Continue what an earlier holder of a lane has left: all entries that it had read are here."""
        found = [held for held in self._held.values() if held.lane is lane and held.inherited]
        for held in found:
            held.all_read()
            held.progress.retry_at = held.quiet_until
        return [held.progress for held in found]

    def _set_aside(self, lane: Lane, number: str, raw: bytes, reason: str) -> None:
        log_limited("entry", UNREADABLE, reason)
        message = DeadMessage(key="", prompt_id="", raw=raw, reason=reason, at=time.time(), readable=False)
        self._engine.save(
            Saved(
                lane=lane.number,
                token=self._lanes.token,
                key="unreadable",
                ledger=b"",
                lease_seconds=0.0,
                done={"?": [number]},
                dead={number: dead.encode(message)},
                forget_after=KEEP_SECONDS,
            )
        )

    def _idle(self) -> list[Progress]:
        """Complete conversations that nothing was recorded in for `idle_timeout`, and whose producer has died."""
        now = time.monotonic()
        if now < max(self._idle_at, self._reached_since + shipper.DEAD_AFTER):
            return []
        self._idle_at = now + IDLE_LOOK_SECONDS
        lanes = {lane.number: lane for lane in self._lanes.held() if lane.after is None}
        idle = self._engine.idle(list(lanes), time.time() - self._config.idle_timeout)
        if not idle:
            return []
        self._engine.beat("producers", "relay", shipper.DEAD_AFTER)
        missing = [(lane, key) for lane, key in idle if (lanes[lane], key) not in self._held]
        for (lane, key), found in zip(missing, self._engine.load(missing), strict=True):
            self._hold(lanes[lane], key, found, None)
        silent = [held for lane, key in idle if (held := self._held.get((lanes[lane], key))) is not None]
        alive = self._engine.alive("producers", list({held.ledger.producer for held in silent}))
        for held in silent:
            held.dirty = True
            held.looked_at = time.time()  # the others get their turn before it
            if held.ledger.producer not in alive:
                held.progress.ended = True
        return [held.progress for held in silent]

    # -- sending -------------------------------------------------------------------------------------------------------

    def entries(self, since: float, item: EncodedMessage) -> list[EncodedMessage]:  # noqa: ARG002
        """Return a message, which is encoded already, with the time since when it has waited."""
        return [item]

    def release(self, progress: Progress, left: Sequence[EncodedMessage], rejected: str = "") -> None:
        """Keep rejected messages to set them aside; the next `save` acknowledges the entries."""
        held = self._by_progress.get(progress)
        if held is None:
            return
        fate = "rejected" if rejected else "delivered"
        held.counts[fate] = held.counts.get(fate, 0) + sum(message.whole for message in left)
        if rejected:
            held.dead.update((message.id, (message.raw, rejected)) for message in left)

    def save(self, progress: Progress, *, sends: bool = False) -> bool:
        """Save a conversation; return False if the lane is not this process's any more, or the engine is away."""
        held = self._by_progress.get(progress)
        if held is None or held.lane.lost:
            return False
        with self._saving:
            self._settle(held)
            unsaved = held.take_out()
            request = self._saved(held, unsaved, sends=sends)
        try:
            saved = self._engine.save(request)
        except AwayError as error:
            self._counters.last_error = str(error)
            if not error.inherited:
                log_limited("relay", AWAY, error)
            with self._saving:
                held.put_back(unsaved)
            return False
        held.lane.lost = held.lane.lost or not saved
        return saved

    def _settle(self, held: Held) -> None:
        before = len(held.taken)
        self._bytes -= held.settle()
        held.lane.outstanding -= before - len(held.taken)
        for ids in held.done.values():
            held.lane.seen.difference_update(ids)

    def _saved(self, held: Held, unsaved: Unsaved, *, sends: bool) -> Saved:
        known, header = held.ledger, held.ledger.header
        now = time.time()
        rejected = {
            number: dead.encode(
                DeadMessage(
                    key=held.key,
                    prompt_id=header.prompt_id,
                    header=header,
                    writer=known.writer,
                    raw=raw,
                    reason=reason,
                    at=now,
                )
            )
            for number, (raw, reason) in unsaved.dead.items()
        }
        return Saved(
            lane=held.lane.number,
            token=self._lanes.token,
            key=held.key,
            ledger=_encoder.encode(known),
            lease_seconds=self._config.timeout + 2 * SETTLING_SECONDS if sends else 0.0,
            done=unsaved.done,
            dead=rejected,
            counts={name: count for name, count in unsaved.counts.items() if count},
            open_since=None if held.over or header.shared else max(known.touched, held.looked_at),
            forget_after=KEEP_SECONDS if held.over else 0.0,
            conversation_id=held.progress.first_id,
        )

    def forget(self, progress: Progress) -> None:
        """Save a conversation in which nothing waits, and let it go; its next entry loads it again."""
        held = self._by_progress.get(progress)
        if held is None:
            return
        while progress.notes:
            _, metadata, alone = progress.notes.popleft()
            progress.annotate(late_errors.take(progress, json_safe.plain(metadata)), alone=alone)
        if held.dirty and not self.save(progress) and not held.lane.lost:
            self._unsaved(held)
            return
        self._discard(held)

    def _unsaved(self, held: Held) -> None:
        """Read what is not acknowledged once more, after the engine was away."""
        self._discard(held)
        for taken in held.taken:
            held.lane.seen.discard(taken.id)
        for ids in held.done.values():
            held.lane.seen.difference_update(ids)
        held.lane.read_again()

    def close(self) -> None:
        """Give up everything that is held: the next holder of each lane continues it."""
        for held in list(self._held.values()):
            held.progress.elsewhere = True
            self._discard(held)


def _a_little() -> int:
    return min(READ_A_LITTLE, READ_AT_ONCE)


_READING_SECONDS = 60.0
"""Seconds for which nothing of a conversation is sent while the entries of an earlier holder are being read."""

_encoder = msgspec.msgpack.Encoder()
_ledger_decoder = msgspec.msgpack.Decoder(Ledger)
