"""A minute without Redis under load: what the caller pays, what arrives afterwards, and what is dropped.

`python -m benchmarks.fleet_outage [seconds]`. One process records at a steady rate. Redis (append-only file) is killed,
and started again after the outage. One run has a spill file, the other one only bounded memory.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.fleet_entries import Note
from converra.config import Config
from converra.delivery.delivery import Delivery
from converra.delivery.fleet.engine import Reading
from converra.delivery.fleet.entry import decode
from converra.delivery.fleet.joining import engine_of
from converra.delivery.fleet.url import parse
from converra.delivery.header import Header
from tests.fleet.redis_server import redis_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converra.delivery.stats import Stats

RATE = 200
"""Turns a second."""

AROUND = 5.0
"""Seconds of load before the outage and after it."""

MEMORY = 4 * 2**20
"""Bytes that may wait in memory: less than a minute's turns take."""


class Costs(NamedTuple):
    """Microseconds of the calls of one phase: CPU time of the thread, and the wall clock."""

    cpu: list[float]
    wall: list[float]

    def __str__(self) -> str:
        median, late = statistics.median(self.cpu), statistics.quantiles(self.cpu, n=100)[98]
        return f"{median:5.1f} us of CPU (median), {late:6.1f} (99th of 100), {max(self.wall) / 1e3:5.1f} ms at most"


def load(delivery: Delivery, seconds: float, phase: str) -> Costs:
    """Record turns at the rate, and measure each call."""
    costs = Costs([], [])
    began = time.perf_counter()
    for number in range(int(seconds * RATE)):
        time.sleep(max(0.0, began + number / RATE - time.perf_counter()))
        pair = (Note("user", 2 * number), Note("assistant", 2 * number + 1))
        wall, used = time.perf_counter(), time.thread_time()
        queue = delivery.open(Header(key=f"{phase}-{number}", prompt_id="prompt"))
        queue.append(pair)
        queue.end()
        costs.cpu.append((time.thread_time() - used) * 1e6)
        costs.wall.append((time.perf_counter() - wall) * 1e6)
    return costs


def outage(seconds: float, spill: Path | None) -> Iterator[str]:
    """Run one process through an outage."""
    with redis_server("--appendonly", "yes", "--appendfsync", "always") as server:
        outbox = f"{server.url}?lanes=16" + ("" if spill is None else f"&spill={spill}")
        delivery = Delivery(
            Config(api_key="k", base_url="http://127.0.0.1:1/v1", outbox=outbox, relay="none", max_pending_bytes=MEMORY)
        )
        yield f"before: {load(delivery, AROUND, 'before')}"
        delivery.flush(60)
        server.kill()
        yield f"during: {load(delivery, seconds, 'during')}"
        counted = delivery.stats()
        yield f"        {counted.pending:,} messages wait, {counted.pending_bytes / 2**20:.1f} MiB of them in memory"
        back = threading.Timer(0.0, server.start)
        back.start()
        yield f"after:  {load(delivery, AROUND, 'after')}"
        back.join()
        began = time.perf_counter()
        delivery.flush(120)
        yield f"        all handed over {time.perf_counter() - began:.1f} s later"
        yield from outcome(delivery.stats(), outbox)
        delivery.shutdown(5)


def outcome(counted: Stats, outbox: str) -> Iterator[str]:
    """Compare what was recorded with what Redis has."""
    engine = engine_of(parse(outbox))
    held, stored = engine.take(range(engine.lanes()), "t", 600), 0
    while found := [
        each for some in engine.read([Reading(lane, "t", None, 1_000) for lane in held]) for each in some[0]
    ]:
        stored += sum(len(decode(raw).messages) for _, raw in found)
    engine.close()
    yield (
        f"        {counted.captured:,} messages recorded, {counted.handed_over:,} handed over, {stored:,} in Redis, "
        f"{counted.dropped:,} dropped, {counted.captured - counted.handed_over - counted.dropped} not accounted for"
    )


def outages(seconds: float) -> Iterator[str]:
    """Both runs."""
    with tempfile.TemporaryDirectory() as folder:
        yield f"{seconds:.0f} s without Redis, {RATE} turns/s, with a spill file"
        yield from outage(seconds, Path(folder) / "spill.db")
    yield f"{seconds:.0f} s without Redis, {RATE} turns/s, {MEMORY / 2**20:.0f} MiB of memory"
    yield from outage(seconds, None)


def main() -> None:
    """Print all figures."""
    for line in outages(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0):
        print(line, flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        main()
