"""Cost of a flush by the number of pending conversations: `python -m benchmarks.flush [COUNT ...]`.

Each conversation has one call: two messages, of which the answer has usage and latency. The sink is a process of its
own. The CPU for each conversation must not grow with their number, nor must that of finding the one that is due next.
"""

from __future__ import annotations

import math
import sys
import time
from typing import NamedTuple

from benchmarks.delivery import turn
from benchmarks.sink import running
from converra.config import Config
from converra.delivery.delivery import Delivery
from converra.delivery.header import Header
from converra.delivery.protocol.progress import Progress
from converra.delivery.worker.schedule import Schedule

COUNTS = (1_000, 10_000, 100_000)
STEPS = 2_000
LONGEST = 600.0


class Flush(NamedTuple):
    """Cost of one flush: CPU of the process per conversation, and seconds until all had arrived."""

    cpu_ms: float
    seconds: float
    delivered: bool


def measure(count: int) -> Flush:
    """Measure a flush of `count` pending conversations, all of them ended."""
    with running() as sink:
        settings = Config(api_key="k", base_url=sink.base_url, flush_interval=LONGEST, max_pending_bytes=2**30)
        sender = Delivery(settings)
        sender._flusher.workers.closed = True  # noqa: SLF001 - until all of them wait
        for number in range(count):
            queue = sender.open(Header(key=str(number), prompt_id="p"))
            queue.append(turn(str(number)))
            queue.end()
        sender._flusher.workers.closed = False  # noqa: SLF001 - as above
        sender._flusher.workers.start()  # noqa: SLF001 - as above
        began, cpu = time.perf_counter(), time.process_time()
        delivered = sender.flush(LONGEST)
        flush = Flush((time.process_time() - cpu) * 1000 / count, time.perf_counter() - began, delivered)
        sender.shutdown()
        sink.summary()
    return flush


def next_due(count: int) -> float:
    """Measure microseconds of CPU for finding the conversation that is due next, and planning it again.

    `count` conversations are planned, each due a moment after the one before; a tenth of them is due already.
    """
    schedule, now = Schedule(), 0.0
    for number in range(count):
        schedule.put(Progress(Header(key=str(number), prompt_id="p")), (number - count / 10) / count, number)
    schedule.take(now)
    best = math.inf
    for _ in range(5):
        began = time.thread_time_ns()
        for _ in range(STEPS):
            now += 1 / count
            schedule.next_at()
            progress, _ = schedule.take(now)
            if progress is not None:
                schedule.put(progress, now + 1, now)
        best = min(best, (time.thread_time_ns() - began) / 1000 / STEPS)
    return best


def main() -> None:
    """Print a row for each number of conversations."""
    print(f"{'conversations planned':<28}{'µs of CPU to find the next':>27}")
    for count in (100, 1_000, 10_000, 100_000):
        print(f"{count:<28,}{next_due(count):>27.1f}")
    print(f"\n{'conversations that wait':<28}{'CPU ms each':>14}{'seconds':>10}{'a second':>10}")
    for count in [int(given) for given in sys.argv[1:]] or COUNTS:
        flush = measure(count)
        rate = f"{count / flush.seconds:.0f}" if flush.delivered else "not all"
        print(f"{count:<28,}{flush.cpu_ms:>14.2f}{flush.seconds:>10.1f}{rate:>10}")


if __name__ == "__main__":
    main()
