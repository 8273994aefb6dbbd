"""A fleet of any size, simulated event by event with the intervals of the code; the standard library suffices.

`python -m benchmarks.fleet_simulation` prints a fleet of 1,000 hosts. With `check` it also runs a small fleet, of real
processes with a real Redis server and the local API, and prints what it has cost beside what the simulation expects.

Simulated are conversations, turns, hand-overs, signs of life, rounds, renewals and readings of lanes, requests under
the shared rate limit, and a relay that dies. Not simulated: the time that Redis and the processes need to compute.
"""

from __future__ import annotations

import heapq
import itertools
import random
import statistics
import sys
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from converra.delivery.fleet import lanes as leases
from converra.delivery.fleet import scripts, shipper, stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TURN_BYTES, KEPT_BYTES = 1_035, 900
"""Bytes of a waiting turn in Redis, and of a conversation that Redis still remembers; both measured."""

CONNECTION_BYTES = 10_000
"""Bytes of a connection in Redis: 38,000 just after a command and 2,300 some seconds later; one in 15 s is usual."""


@dataclass(frozen=True)
class Fleet:
    """The fleet that is simulated."""

    processes: int = 8_000
    """Processes that record: 1,000 hosts with 8 each."""
    turns: float = 10.0
    """Turns a second of all of them together."""
    per_conversation: int = 4
    between: float = 5.0
    """Mean seconds between two turns of a conversation; it ends as long after its last one."""
    relays: int = 4
    inline: bool = False
    lanes: int = 64
    limit: int = 300
    """Requests a minute of the API key."""
    latency: float = 0.15
    """Seconds that the API takes for a request."""
    flush_interval: float = 2.0
    seconds: float = 600.0
    killed_at: float | None = None
    """When a relay dies."""


@dataclass(eq=False)
class Chat:
    """A conversation on its way."""

    lane: int
    written: deque[float] = field(default_factory=deque)
    """Times of the turns that Redis has and its relay has not read."""
    waiting: deque[float] = field(default_factory=deque)
    """Times of the turns that its relay has."""
    unread_end: bool = False
    ended: bool = False
    opened: bool = False
    sending: bool = False
    planned: int = 0
    """Grows with each plan: only the latest one counts."""


class Simulation:
    """One run. `commands` counts those of Redis by purpose, `lags` has the seconds from each turn to its delivery."""

    def __init__(self, fleet: Fleet, seed: int = 1) -> None:
        self.fleet = fleet
        self.random = random.Random(seed)  # noqa: S311 - no secret
        self.now = 0.0
        self.commands: Counter[str] = Counter()
        self.lags: list[float] = []
        self.requests = self.turns = self.over = self.most_waiting = self.in_redis = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._unread: dict[int, set[Chat]] = {lane: set() for lane in range(fleet.lanes)}
        self._pending: dict[int, set[Chat]] = {lane: set() for lane in range(fleet.lanes)}
        """Conversations that are in the memory of the lane's holder."""
        self._due: list[tuple[int, float, int, int, Chat]] = []
        self._admitted = 0.0
        competitors = fleet.processes if fleet.inline else fleet.relays
        self.holders = min(competitors, fleet.lanes)
        self._holder_of = {lane: lane % self.holders for lane in range(fleet.lanes)}
        self._dead: set[int] = set()
        self._pace = max(leases.ROUND_SECONDS, competitors / leases.ATTEMPTS)
        self._without = competitors - self.holders

    def at(self, after: float, call: Callable[[], None]) -> None:
        """Do something after some seconds."""
        heapq.heappush(self._events, (self.now + after, next(self._numbers), call))

    def run(self) -> Simulation:
        """Run all of it; the signs of life and the rounds begin at random times."""
        fleet = self.fleet
        for _ in range(fleet.processes):
            self._every(shipper.BEAT_SECONDS, "signs of life")
        for holder in range(self.holders):
            self._every(leases.ROUND_SECONDS, "rounds", holder)
            self.at(self.random.random() * stream.IDLE_POLL_SECONDS, lambda holder=holder: self._read(holder))  # type: ignore[misc]
        for _ in range(self._without):
            self._every(self._pace, "rounds")
        for lane in range(fleet.lanes):
            self._every(leases.LEASE_SECONDS / 3, "renewals", lane=lane)
            self._every(stream.IDLE_LOOK_SECONDS, "looks for idle ones", lane=lane)
        if fleet.killed_at is not None:
            self.at(fleet.killed_at, self._kill)
        self.at(0.0, self._begin)
        self.at(0.0, self._pick)
        while self._events and self._events[0][0] <= fleet.seconds:
            self.now, _, call = heapq.heappop(self._events)
            call()
        return self

    def _every(self, interval: float, purpose: str, holder: int | None = None, lane: int | None = None) -> None:
        def again() -> None:
            who = holder if lane is None else self._holder_of[lane]
            if who not in self._dead:
                self.commands[purpose] += 1
            self.at(interval, again)

        self.at(self.random.random() * interval, again)

    # -- producers -----------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        fleet = self.fleet
        chat = Chat(self.random.randrange(fleet.lanes))
        at = 0.0
        for number in range(fleet.per_conversation):
            self.at(at, lambda: self._hand_over(chat, turn=True))
            at += self.random.expovariate(1 / fleet.between) if number < fleet.per_conversation - 1 else fleet.between
        self.at(at, lambda: self._hand_over(chat, turn=False))
        self.at(self.random.expovariate(fleet.turns / fleet.per_conversation), self._begin)

    def _hand_over(self, chat: Chat, *, turn: bool) -> None:
        self.commands["hand-over"] += 1
        if turn:
            self.turns += 1
            self.in_redis += 1
            self.most_waiting = max(self.most_waiting, self.in_redis)
            chat.written.append(self.now)
        else:
            chat.unread_end = True
        self._unread[chat.lane].add(chat)

    # -- relays --------------------------------------------------------------------------------------------------------

    def _read(self, holder: int) -> None:
        if holder in self._dead:
            return
        held = [lane for lane, owner in self._holder_of.items() if owner == holder]
        self.commands["readings"] += len(held)
        news = 0
        for lane in held:
            for chat in self._unread[lane]:
                if not chat.waiting and not chat.sending:
                    self.commands["loads"] += 1
                self._pending[lane].add(chat)
                chat.waiting += chat.written
                chat.written.clear()
                chat.ended = chat.ended or chat.unread_end
                news += 1
                self._plan(chat)
            self._unread[lane].clear()
        self.commands["clock"] += bool(news)
        self.at(stream.POLL_SECONDS if news else stream.IDLE_POLL_SECONDS, lambda: self._read(holder))

    def _plan(self, chat: Chat) -> None:
        """Plan the next request: at once if the conversation has ended, else when its oldest turn has waited enough."""
        if (
            chat.sending
            or self._holder_of[chat.lane] in self._dead
            or not (chat.waiting or (chat.ended and chat.opened))
        ):
            return
        chat.planned += 1
        due = self.now if chat.ended else max(self.now, chat.waiting[0] + self.fleet.flush_interval)
        rank = 2 if not chat.ended else 0 if chat.opened else 1
        plan = chat.planned
        row = (rank, due, next(self._numbers), plan, chat)
        self.at(due - self.now, lambda: self._ready(row))

    def _ready(self, row: tuple[int, float, int, int, Chat]) -> None:
        if row[3] == row[4].planned and not row[4].sending:
            heapq.heappush(self._due, row)
            if self.now >= self._admitted:
                self._pick()

    def _pick(self) -> None:
        """Send the next due conversation, if the rate limit leaves room: GCRA, as in the script."""
        while self._due and self._is_stale(self._due[0]):
            heapq.heappop(self._due)
        if not self._due or self.now < self._admitted - 1e-9:
            return
        limit = self.fleet.limit
        burst = max(1, limit // 60)
        gap = scripts.WINDOW / max(1, limit - burst + 1)
        self.commands["rate limit"] += 1
        tat = max(self._tat, self.now)
        wait = tat - gap * (burst - 1) - self.now
        if wait > 0:
            self._admitted = self.now + wait
            self.at(wait, self._pick)
            return
        self._tat = tat + gap
        chat = heapq.heappop(self._due)[4]
        scarce = len(self._due) > 5  # noqa: PLR2004 - more wait than the limit has requests for
        chat.sending = True
        chat.planned += 1
        self.requests += 1
        self.commands["states"] += 2
        sent = list(chat.waiting)
        opens, chat.opened = not chat.opened, True
        whole = chat.ended and (not opens or scarce)
        if opens and not whole:
            sent = []  # the create has the question alone; an append follows with the answer
        self.at(self.fleet.latency, lambda: self._answered(chat, sent, whole=whole))
        self.at(0.0, self._pick)

    _tat = 0.0

    def _is_stale(self, row: tuple[int, float, int, int, Chat]) -> bool:
        chat = row[4]
        return row[3] != chat.planned or chat.sending or self._holder_of[chat.lane] in self._dead

    def _answered(self, chat: Chat, sent: list[float], *, whole: bool) -> None:
        for _ in sent:
            self.lags.append(self.now - chat.waiting.popleft())
            self.in_redis -= 1
        chat.sending = False
        if whole and not chat.waiting and not chat.written:
            self.over += 1
            self.commands["states"] += 1
            self._pending[chat.lane].discard(chat)
            return
        self._plan(chat)

    def _kill(self) -> None:
        """End a relay; the others take its lanes once the leases have run out, and read what it had read."""
        dead = next(iter(set(self._holder_of.values()) - self._dead))
        self._dead.add(dead)
        left = [holder for holder in range(self.holders) if holder not in self._dead]

        def taken() -> None:
            for lane in [lane for lane, owner in self._holder_of.items() if owner == dead]:
                self._holder_of[lane] = self.random.choice(left)
                self.commands["rounds"] += 1
                for chat in self._pending[lane]:  # the leases were longer than any request
                    self._plan(chat)

        self.at(leases.LEASE_SECONDS + self._pace, taken)

    # -- figures -------------------------------------------------------------------------------------------------------

    @property
    def connections(self) -> int:
        """Connections to Redis: one of each producer; of each relay one for lanes and one for each worker."""
        fleet = self.fleet
        return fleet.processes * (2 if fleet.inline else 1) + (0 if fleet.inline else fleet.relays * 5)

    def lines(self) -> Iterator[str]:
        """Describe the outcome."""
        fleet, seconds = self.fleet, self.fleet.seconds
        total = sum(self.commands.values())
        shares = ", ".join(f"{what} {count / seconds:,.1f}" for what, count in self.commands.most_common())
        yield f"{total / seconds:8,.0f} commands/s ({shares})"
        yield f"{self.connections:8,} connections, {self.connections * CONNECTION_BYTES / 2**20:,.0f} MiB of Redis"
        done = self.over / seconds * 60
        yield f"{self.requests / seconds * 60:8,.0f} requests/min of {fleet.limit}, {done:,.0f} conversations/min over"
        lags = statistics.quantiles(self.lags, n=100)
        later = f"{lags[94]:.1f} s (95 of 100), {max(self.lags):.1f} s (all)"
        yield f"{lags[49]:8.1f} s until a turn is delivered (median), {later}"
        yield f"{self.most_waiting:8,} turns waited at most, {self.most_waiting * TURN_BYTES / 2**20:,.1f} MiB"
        kept = self.over / seconds * stream.KEEP_SECONDS
        yield f"{kept:8,.0f} conversations remembered after two days, {kept * KEPT_BYTES / 2**20:,.0f} MiB"


CASES = {
    "1,000 hosts, 10 turns/s, 4 relays": Fleet(),
    "The same, inline": Fleet(inline=True),
    "The same with 4 relays, of which one dies": Fleet(killed_at=300.0),
    "1,000 hosts, 20 turns/s, 4 relays": Fleet(turns=20.0),
    "1,000 hosts, 40 turns/s, 4 relays: more than the limit can carry": Fleet(turns=40.0),
    "10 hosts, 10 turns/s, 2 relays": Fleet(processes=80, relays=2),
}


def simulations() -> Iterator[str]:
    """All cases."""
    for title, fleet in CASES.items():
        yield title
        yield from (f"  {line}" for line in Simulation(fleet).run().lines())


def main() -> None:
    """Print all figures."""
    for line in simulations():
        print(line, flush=True)
    if "check" in sys.argv:
        from benchmarks.fleet_check import checks

        for line in checks():
            print(line, flush=True)


if __name__ == "__main__":
    main()
