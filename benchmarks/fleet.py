"""The cost of a fleet: `make bench-fleet`, with a real Redis server on this machine.

Hand-over, the caller's thread, lag and memory for 1 to 64 lanes and for growing backlogs, and a model of 1,000 hosts
that uses what was measured.
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

from benchmarks.fleet_entries import Note, blobs
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
    """The figures of one backlog."""

    lanes: int
    backlog: int
    fill: float
    drain: float
    memory: float


def backlog(server: RedisServer, lanes: int, count: int) -> Run:
    """Fill lanes with entries, then read and acknowledge all of them; without the API, which would be slower."""
    engine = joining.engine_of(parse(f"{server.url}?lanes={lanes}&prefix=b{lanes}-{count}"))
    before = engine.about()["used_memory"]
    lanes = engine.lanes()
    waiting = blobs(min(count, 20_000), lanes)
    rounds = math.ceil(count / 20_000)
    began = time.perf_counter()
    for _ in range(rounds):
        for lane, bodies in waiting.items():
            for at in range(0, len(bodies), 250):
                assert engine.hand_over([Parcels(lane, "p", bodies[at : at + 250])]) == [None]  # noqa: S101 - as above
    fill = time.perf_counter() - began
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
    drain = time.perf_counter() - began
    engine.close()
    return Run(lanes, count, count / fill, count / drain, memory)


def backlogs(largest: int) -> Iterator[str]:
    """Throughput and memory from 1 to 64 lanes, and from a thousand waiting turns on."""
    with redis_server() as server:
        cases = [(lanes, 20_000) for lanes in (1, 4, 16, 64)]
        cases += [(64, count) for count in (1_000, 10_000, 100_000, 1_000_000) if count <= largest]
        for lanes, count in cases:
            run = backlog(server, lanes, count)
            yield (
                f"{run.lanes:4} lanes, {run.backlog:9,} waiting: {run.fill:8,.0f}/s in, {run.drain:8,.0f}/s out, "
                f"{run.memory:6,.0f} bytes each"
            )


class Fleet(NamedTuple):
    """A fleet that is simulated: what its processes do in a second."""

    hosts: int = 1_000
    processes: int = 8
    turns: float = 20.0
    """Turns a second of all processes together, as the API's limit allows in the long run."""
    relays: int = 4
    lanes: int = 64


def simulated(fleet: Fleet, *, inline: bool, seconds: int = 600) -> Iterator[str]:
    """Count what the processes of a fleet ask of Redis, second by second, with the intervals that the code has."""
    from converra.delivery.fleet import lanes, shipper, stream

    processes = fleet.hosts * fleet.processes
    competitors = processes if inline else fleet.relays
    pace = max(lanes.ROUND_SECONDS, competitors / lanes.ATTEMPTS)
    holders = min(competitors, fleet.lanes)
    operations = dict.fromkeys(("hand-over", "signs of life", "rounds", "renewals", "readings", "states", "rate"), 0.0)
    per_turn_states = 4.0  # before and after each of two requests; a conversation of one turn
    for second in range(seconds):
        operations["hand-over"] += fleet.turns
        beats = [process for process in range(processes) if (process + second) % int(shipper.BEAT_SECONDS) == 0]
        operations["signs of life"] += len(beats)
        operations["rounds"] += holders / lanes.ROUND_SECONDS + (competitors - holders) / pace
        operations["renewals"] += fleet.lanes / (lanes.LEASE_SECONDS / 3)
        operations["readings"] += fleet.lanes / stream.IDLE_POLL_SECONDS
        operations["states"] += per_turn_states * fleet.turns / 4
        operations["rate"] += 2 * fleet.turns / 4
    connections = processes * (2 if inline else 1) + (0 if inline else fleet.relays * 5)
    name = "inline" if inline else f"{fleet.relays} relays"
    total = sum(operations.values()) / seconds
    shares = ", ".join(f"{what} {count / seconds:,.0f}" for what, count in operations.items())
    yield f"{fleet.hosts:,} hosts, {processes:,} processes, {fleet.turns:.0f} turns/s, {name}:"
    yield f"{total:8,.0f} commands/s ({shares})"
    yield f"{connections:8,} connections, some {connections * 20 / 1024:,.0f} MiB of buffers in Redis"
    outage = 3600 * fleet.turns * 1.1 / 1024
    yield f"{outage:8,.0f} MiB for a backlog of one hour"
    yield f"{pace:8.1f} s between two looks of a process without a lane; a lost lane is found by one of {competitors:,}"


def main() -> None:
    """Print all figures."""
    largest = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    durable = ("--appendonly", "yes")
    parts = {
        "Hand-over, Redis in memory": hand_over(),
        "Hand-over, append-only file": hand_over(*durable),
        "The caller's thread": callers(),
        "Backlogs": backlogs(largest),
        "A fleet, simulated": simulated(Fleet(), inline=False),
        "The same without relays": simulated(Fleet(), inline=True),
    }
    for title, lines in parts.items():
        print(f"\n{title}")
        for line in lines:
            print(f"  {line}", flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(Path(folder))
        main()
