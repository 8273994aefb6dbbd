"""The cost of a fleet: `make bench-fleet`, with a real Redis server on this machine.

Hand-over, the caller's thread, memory for growing backlogs, relays with 1 to 64 lanes, a minute without Redis, the
budget of a rate limit, a small fleet beside its simulation, and a simulation of 1,000 hosts. It takes ten minutes.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.fleet_check import budget, checks
from benchmarks.fleet_entries import Note, blobs
from benchmarks.fleet_outage import outages
from benchmarks.fleet_relay import cpu, relays, server_cpu
from benchmarks.fleet_simulation import simulations
from converra.config import Config
from converra.delivery.delivery import Delivery
from converra.delivery.fleet import joining
from converra.delivery.fleet.engine import Parcels, Reading, Saved
from converra.delivery.fleet.url import parse
from converra.delivery.header import Header
from tests.fleet.redis_server import RedisServer, redis_server

if TYPE_CHECKING:
    from collections.abc import Iterator

TURNS = 10_000
"""Turns of each producer."""

PER_CONVERSATION = 4
"""Turns of a conversation."""

PRODUCERS = 2


def record(outbox: str | None, results: Any, turns: int) -> None:
    """Record turns in short conversations, as an app does; put the seconds of a call and of all into `results`."""
    settings = Config(
        api_key="k", base_url="http://127.0.0.1:1/v1", outbox=outbox, relay="none", max_pending_bytes=2**30
    )
    delivery = Delivery(settings)
    pairs = [(Note("user", 2 * number), Note("assistant", 2 * number + 1)) for number in range(turns)]
    spent, began = [], time.perf_counter()
    for number, pair in enumerate(pairs):
        if number % PER_CONVERSATION == 0:
            queue = delivery.open(Header(key=f"{os.getpid()}-{number}", prompt_id="prompt"))
        at = time.perf_counter()
        queue.append(pair)
        if number % PER_CONVERSATION == PER_CONVERSATION - 1:
            queue.end()
        spent.append(time.perf_counter() - at)
    complete = outbox is not None and delivery.flush(600)
    took = time.perf_counter() - began
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu = usage.ru_utime + usage.ru_stime
    results.put((complete, statistics.median(spent), sum(spent) / turns, took, cpu))
    results.close()
    results.join_thread()
    os._exit(0)


def produced(outbox: str | None, producers: int = PRODUCERS, turns: int = TURNS) -> list[tuple[Any, ...]]:
    """Run producers at the same time, each a process of its own."""
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    running = [context.Process(target=record, args=(outbox, results, turns)) for _ in range(producers)]
    for process in running:
        process.start()
    found = [results.get() for _ in running]
    for process in running:
        process.join()
    return found


def server_figures(server: RedisServer) -> tuple[float, int]:
    """Return the CPU seconds and the bytes that a server has used."""
    engine = joining.engine_of(parse(server.url))
    about = engine.about()
    engine.close()
    return about["used_cpu_user"] + about["used_cpu_sys"], about["used_memory"]


def hand_over(*options: str) -> Iterator[str]:
    """Turns a second from two producers to the acknowledged hand-over."""
    with redis_server(*options) as server:
        cpu, memory = server_figures(server)
        found = produced(f"{server.url}?lanes=64")
        more_cpu, more_memory = server_figures(server)
    assert all(complete for complete, *_ in found)  # noqa: S101 - else the figures mean nothing
    count = TURNS * PRODUCERS
    seconds = max(took for *_, took, _ in found)
    yield f"{count / seconds:8,.0f} turns/s from call to acknowledgement"
    yield f"{sum(cpu for *_, cpu in found) / count * 1e6:8.1f} us of CPU a turn in producers"
    yield f"{(more_cpu - cpu) / count * 1e6:8.1f} us of CPU a turn in Redis"
    yield f"{(more_memory - memory) / count:8,.0f} bytes a turn in Redis"


def callers() -> Iterator[str]:
    """The caller's thread, with Redis and with the outbox in memory; one process each."""
    with redis_server() as server:
        for name, outbox in (("memory", None), ("redis", server.url), ("memory", None), ("redis", server.url)):
            ((_, median, mean, *_),) = produced(outbox, 1, 4_000)
            yield f"{median * 1e6:8.1f} us a turn (median), {mean * 1e6:.1f} us (mean), outbox: {name}"


class Run(NamedTuple):
    """The figures of one backlog: turns a second in and out, bytes a turn, microseconds of CPU a turn in and out."""

    lanes: int
    backlog: int
    fill: float
    drain: float
    memory: float
    cpu: tuple[float, float]
    """In this process."""
    redis: tuple[float, float]


def backlog(server: RedisServer, lanes: int, count: int) -> Run:
    """Fill lanes with entries, then read and acknowledge all of them; without the API, which would be slower."""
    engine = joining.engine_of(parse(f"{server.url}?lanes={lanes}&prefix=b{lanes}-{count}"))
    before = engine.about()["used_memory"]
    lanes = engine.lanes()
    waiting = blobs(min(count, 20_000), lanes)
    rounds = math.ceil(count / 20_000)
    began, start = time.perf_counter(), (cpu(), server_cpu(engine))
    for _ in range(rounds):
        for lane, bodies in waiting.items():
            for at in range(0, len(bodies), 250):
                assert engine.hand_over([Parcels(lane, "p", bodies[at : at + 250])]) == [None]  # noqa: S101 - as above
    fill, middle = time.perf_counter() - began, (cpu(), server_cpu(engine))
    memory = (engine.about()["used_memory"] - before) / count
    engine.take(range(lanes), "t", 600)
    began, left = time.perf_counter(), set(range(lanes))
    while left:
        readings = [Reading(lane, "t", None, 200) for lane in sorted(left)]
        for reading, found in zip(readings, engine.read(readings), strict=True):
            if not found.entries:
                left.discard(reading.lane)
                continue
            ids = [number for number, _ in found.entries]
            engine.save(Saved(reading.lane, "t", "k", b"ledger", 0.0, {"p": ids}))
    drain, end = time.perf_counter() - began, (cpu(), server_cpu(engine))
    engine.close()
    own, redis = (((middle[one] - start[one]) / count * 1e6, (end[one] - middle[one]) / count * 1e6) for one in (0, 1))
    return Run(lanes, count, count / fill, count / drain, memory, own, redis)


def backlogs(largest: int) -> Iterator[str]:
    """Throughput and memory from 1 to 64 lanes, and from a thousand waiting turns on."""
    with redis_server() as server:
        cases = [(lanes, 20_000) for lanes in (1, 4, 16, 64)]
        cases += [(64, count) for count in (1_000, 10_000, 100_000, 1_000_000) if count <= largest]
        for lanes, count in cases:
            run = backlog(server, lanes, count)
            yield (
                f"{run.lanes:4} lanes, {run.backlog:9,} waiting: {run.fill:8,.0f}/s in, {run.drain:8,.0f}/s out, "
                f"{run.memory:6,.0f} bytes each, us of CPU in and out: {run.cpu[0]:4.1f} {run.cpu[1]:4.1f} here, "
                f"{run.redis[0]:4.1f} {run.redis[1]:4.1f} in Redis"
            )


def lanes() -> Iterator[str]:
    """One relay with 1 to 64 lanes."""
    with redis_server() as server:
        yield from relays(server)


def main() -> None:
    """Print all figures."""
    largest = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    durable = ("--appendonly", "yes")
    parts = {
        "Hand-over, Redis in memory": hand_over(),
        "Hand-over, append-only file": hand_over(*durable),
        "The caller's thread": callers(),
        "Backlogs": backlogs(largest),
        "Relays": lanes(),
        "A minute without Redis": outages(60.0),
        "The budget of a rate limit": budget(),
        "A small fleet, measured and simulated": checks(),
        "Fleets, simulated": simulations(),
    }
    for title, lines in parts.items():
        print(f"\n{title}")
        for line in lines:
            print(f"  {line}", flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(Path(folder))
        main()
