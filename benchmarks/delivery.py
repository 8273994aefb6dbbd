"""Cost and throughput of delivery: `python -m benchmarks.delivery`.

- the caller's cost of a turn of two messages, with the memory outbox and with the durable one;
- turns a second from the first append to the last answer, and requests per conversation;
- CPU of one request, by the connection that makes it;
- how long a process takes to exit, with an API that answers and with one that hangs.
"""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import post
from benchmarks.sink import running
from converra.config import Config
from converra.delivery.delivery import Delivery
from converra.delivery.header import Header
from converra.wire.models import Message, Usage

CONVERSATIONS, TURNS = 1000, 20

EXIT = """
from benchmarks.delivery import turn
from converra.config import load
from converra.delivery.delivery import Delivery
from converra.delivery.header import Header
import sys
sender = Delivery(load({}))
for number in range(int(sys.argv[1])):
    queue = sender.open(Header(key=str(number), prompt_id="p"))
    queue.append(turn(str(number)))
    queue.end()
"""


class Note:
    """Smallest possible draft."""

    __slots__ = ("_id", "_role")
    size = 600
    already_known = False

    def __init__(self, role: str, identifier: str) -> None:
        self._role: Any = role
        self._id = identifier

    def message(self) -> Message:
        """Return a sentence or two."""
        usage = Usage(100, 20) if self._role == "assistant" else None
        metadata = {"messageId": self._id}
        return Message(role=self._role, content="some words " * 20, usage=usage, metadata=metadata)


def turn(identifier: str) -> list[Note]:
    """Return a question and its answer."""
    return [Note("user", f"{identifier}u"), Note("assistant", f"{identifier}a")]


def caller_cost(outbox: str | None, *, rounds: int = 30, turns: int = 200) -> float:
    """Measure microseconds of CPU for one turn on the caller's thread."""
    sender = Delivery(Config(flush_interval=60, outbox=outbox, max_pending_bytes=2**30))
    queue = sender.open(Header(key="k", prompt_id="p"))
    queue.append(turn("first"))
    costs = []
    for number in range(rounds):
        ready = [turn(f"{number}-{index}") for index in range(turns)]
        began = time.thread_time_ns()
        for one in ready:
            queue.append(one)
        costs.append((time.thread_time_ns() - began) / 1000 / turns)
    sender.shutdown(0)
    return median(costs)


def throughput(outbox: str | None) -> tuple[float, float, float]:
    """Measure turns per second, requests per conversation, and MiB of memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with running() as sink:
        sender = Delivery(Config(api_key="k", base_url=sink.base_url, outbox=outbox, max_pending_bytes=2**30))
        began = time.perf_counter()
        for conversation in range(CONVERSATIONS):
            queue = sender.open(Header(key=str(conversation), prompt_id="p"))
            for number in range(TURNS):
                queue.append(turn(f"{conversation}-{number}"))
            queue.end()
        sender.flush(300)
        seconds = time.perf_counter() - began
        sender.shutdown()
        counts = sink.summary()
    assert counts["messages"] == 2 * CONVERSATIONS * TURNS  # noqa: S101 - or the numbers would mean nothing
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return CONVERSATIONS * TURNS / seconds, counts["requests"] / CONVERSATIONS, grown


def exit_seconds(base_url: str, conversations: int) -> float:
    """Measure the seconds that recorded conversations add to the run time of a process."""

    def run(count: int) -> float:
        settings = {"CONVERRA_API_KEY": "k", "CONVERRA_BASE_URL": base_url, "CONVERRA_FLUSH_INTERVAL": "60"}
        began = time.perf_counter()
        command = [sys.executable, "-c", EXIT, str(count)]
        subprocess.run(command, env=os.environ | settings, check=True, stderr=subprocess.DEVNULL)
        return time.perf_counter() - began

    return run(conversations) - min(run(0) for _ in range(3))


def main() -> None:
    """Print all results."""
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "outbox.sqlite3")
        print(f"{'µs of the caller per turn':<40}{caller_cost(None):>10.1f}  memory")
        print(f"{'':<40}{caller_cost(file):>10.1f}  durable")
        for name, outbox in (("memory", None), ("durable", f"{file}2")):
            rate, requests, grown = throughput(outbox)
            print(f"{'turns a second':<40}{rate:>10.0f}  {name}: {requests:.2f} requests each, {grown:.0f} MiB")
    for name, microseconds in post.measure().items():
        print(f"{'µs of CPU for a request':<40}{microseconds:>10.0f}  {name}")
    with running() as sink:
        print(f"{'seconds to exit, 100 conversations':<40}{exit_seconds(sink.base_url, 100):>10.2f}  healthy API")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/api/v1"
        print(f"{'':<40}{exit_seconds(url, 100):>10.2f}  hung API")


if __name__ == "__main__":
    main()
