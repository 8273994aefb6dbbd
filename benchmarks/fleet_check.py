"""A small fleet of real producers and relays, and the same one simulated: the figures of both, side by side.

The API is a connection that takes as long as the simulated one. Everything else is real: Redis, shippers, relays.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
import random
import re
import statistics
import threading
import time
from typing import TYPE_CHECKING, Any

from benchmarks.fleet_entries import Note, blobs
from benchmarks.fleet_relay import AcceptsAll
from benchmarks.fleet_simulation import Fleet, Simulation
from converra.config import Config
from converra.delivery.delivery import Delivery
from converra.delivery.fleet.engine import Parcels
from converra.delivery.fleet.joining import engine_of, relay_of
from converra.delivery.fleet.url import parse
from converra.delivery.header import Header
from tests.fleet.redis_server import redis_server

if TYPE_CHECKING:
    from collections.abc import Iterator

SMALL = Fleet(processes=4, relays=2, lanes=16, turns=8.0, between=2.0, seconds=60.0)

INNER = {"xadd": "hand-over", "xreadgroup": "readings", "hset": "states", "hmget": "loads"}
"""Commands that show how often something was done, most of them in a script."""


class Slow(AcceptsAll):
    """An API that takes its time, and notes when the turn in a request was recorded."""

    def __init__(self, latency: float, lags: list[float]) -> None:
        super().__init__()
        self._latency = latency
        self._lags = lags
        self.requests = 0

    def send(self, operation: Any, *, timeout: float | None = None) -> Any:
        """Accept a request."""
        time.sleep(self._latency)
        self.requests += 1
        self._lags += [time.time() - float(at) for at in re.findall(rb"<(\d+\.\d+)>", operation.body or b"")]
        return super().send(operation, timeout=timeout)


def record(senders: list[Delivery], fleet: Fleet) -> None:
    """Record conversations as the simulation does it."""
    chance = random.Random(1)  # noqa: S311 - no secret
    numbers, began = itertools.count(), time.monotonic()
    events: list[tuple[float, int, Any, bool]] = []
    starts = 0.0
    while starts < fleet.seconds:
        queue = chance.choice(senders).open(Header(key=f"chat-{next(numbers)}", prompt_id="prompt"))
        at = starts
        for number in range(fleet.per_conversation):
            heapq.heappush(events, (at, next(numbers), queue, True))
            at += chance.expovariate(1 / fleet.between) if number < fleet.per_conversation - 1 else fleet.between
        heapq.heappush(events, (at, next(numbers), queue, False))
        starts += chance.expovariate(fleet.turns / fleet.per_conversation)
    while events and events[0][0] < fleet.seconds:
        at, number, queue, turn = heapq.heappop(events)
        time.sleep(max(0.0, began + at - time.monotonic()))
        if turn:
            queue.append([Note("user", 2 * number), Note("assistant", 2 * number + 1, f"<{time.time():.6f}>")])
        else:
            queue.end()


def measured(fleet: Fleet) -> dict[str, float]:
    """Run the fleet, and return commands a second by purpose, requests a minute and lags."""
    lags: list[float] = []
    apis: list[Slow] = []

    def connect(_key: str) -> Slow:
        apis.append(Slow(fleet.latency, lags))
        return apis[-1]

    with redis_server() as server:
        url = f"{server.url}?lanes={fleet.lanes}&limit={fleet.limit}"
        settings = Config(
            api_key="k",
            base_url="http://127.0.0.1:1/v1",
            outbox=url,
            relay="none",
            flush_interval=fleet.flush_interval,
        )
        relays = [relay_of(settings, parse(url), connect) for _ in range(fleet.relays)]
        for relay in relays:
            relay.start()
        while any(len(relay.lanes.held()) != fleet.lanes // fleet.relays for relay in relays):
            time.sleep(0.05)
        senders = [Delivery(settings) for _ in range(fleet.processes)]
        engine = engine_of(parse(url))
        before, sent = calls(engine), sum(api.requests for api in apis)
        thread = threading.Thread(target=record, args=(senders, fleet))
        thread.start()
        thread.join(fleet.seconds)
        after, requests = calls(engine), sum(api.requests for api in apis) - sent
        for sender in senders:
            sender.shutdown(5)
        for relay in relays:
            relay.stop(5)
        engine.close()
    found = {purpose: (after[name] - before.get(name, 0)) / fleet.seconds for name, purpose in INNER.items()}
    return found | figures(requests / fleet.seconds * 60, lags)


def figures(requests: float, lags: list[float]) -> dict[str, float]:
    """Name what both have."""
    parts = statistics.quantiles(lags, n=100)
    return {"requests a minute": requests, "lag, median": parts[49], "lag, 95th": parts[94]}


def budget(limit: int = 300, seconds: float = 75.0, relays: int = 3) -> Iterator[str]:
    """Requests of several relays that always have more to send, in any minute and in the last one."""
    with redis_server() as server:
        url = f"{server.url}?lanes=16&limit={limit}"
        engine = engine_of(parse(url))
        for lane, bodies in blobs(int(limit * seconds / 60) + 50, engine.lanes()).items():
            engine.hand_over([Parcels(lane, "p", bodies)])
        settings = Config(api_key="k", base_url="http://127.0.0.1:1/v1", outbox=url, relay="none")
        times: list[float] = []
        running = [relay_of(settings, parse(url), lambda _key: Noting(times)) for _ in range(relays)]
        for relay in running:
            relay.start()
        while not times or time.monotonic() < times[0] + seconds:
            time.sleep(0.5)
        for relay in running:
            relay.stop(5)
        engine.close()
    times = [at - times[0] for at in sorted(times)]
    most = max(bisect.bisect_left(times, at + 60) - number for number, at in enumerate(times))
    last = sum(seconds - 60 <= at < seconds for at in times)
    yield f"{relays} relays, {limit} requests/min: {most} at most in any minute, {last} in the last one"


class Noting(AcceptsAll):
    """An API that notes when each request came."""

    def __init__(self, times: list[float]) -> None:
        super().__init__()
        self._times = times

    def send(self, operation: Any, *, timeout: float | None = None) -> Any:
        """Accept a request."""
        self._times.append(time.monotonic())
        return super().send(operation, timeout=timeout)


def calls(engine: Any) -> dict[str, int]:
    """Return how often each command ran."""
    with engine._connected() as redis:  # noqa: SLF001 - the engine has no method for it
        stats = redis.info("commandstats")
    return {name.removeprefix("cmdstat_"): row["calls"] for name, row in stats.items()}


def checks(fleet: Fleet = SMALL) -> Iterator[str]:
    """Print both."""
    yield f"{fleet.processes} producers, {fleet.relays} relays, {fleet.lanes} lanes, {fleet.turns:.0f} turns/s"
    yield f"  {'':20} {'measured':>9} {'simulated':>9}"
    run = Simulation(fleet).run()
    expected = {purpose: run.commands[purpose] / fleet.seconds for purpose in INNER.values()}
    expected |= figures(run.requests / fleet.seconds * 60, run.lags)
    for name, value in measured(fleet).items():
        yield f"  {name:20} {value:9.1f} {expected[name]:9.1f}"
