"""Many turns against an API of which one request in five fails: `python -m benchmarks.soak [turns]`.

Memory must stay flat, and every message must arrive once.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from benchmarks.delivery import turn
from benchmarks.sink import running
from converra.config import Config
from converra.delivery.delivery import Delivery
from converra.delivery.header import Header

TURNS = 200_000
FAILING = 0.2
PENDING_BYTES = 16 * 1024 * 1024


def _memory_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 2**20


def main(turns: int = TURNS) -> None:
    """Record as fast as the memory limit allows; print the memory in use after each tenth."""
    with running(FAILING) as sink:
        sender = Delivery(Config(api_key="k", base_url=sink.base_url, max_pending_bytes=PENDING_BYTES))
        for number in range(turns):
            if number % 20 == 0:
                queue = sender.open(Header(key=str(number), prompt_id="p"))
            queue.append(turn(str(number)))
            if (number + 1) % 20 == 0:
                queue.end()
                while sender.stats().pending_bytes > PENDING_BYTES // 2:
                    time.sleep(0.01)
            if number % (turns // 10) == 0:
                print(f"{number:>9} turns  {_memory_mib():>7.1f} MiB  {sender.stats().retries} retries", flush=True)
        delivered = sender.shutdown(600)
        print(f"{'all delivered' if delivered else 'NOT ALL DELIVERED'}  {_memory_mib():>7.1f} MiB", sender.stats())
        print(sink.summary())


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
