"""`make bench PEERS=1`: what other recorders of model calls cost, and this one, in one interleaved run.

Each runs in a process of its own, with its real exporter in the background, pointed at a server on this machine that
takes everything. Blocks of calls take turns in shuffled order, so the load of the machine affects all alike. A cost is
the median of a recorder's blocks less that of a process that records nothing.

`python -m benchmarks.peers [ROUNDS [CALLS]]`
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from random import Random
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.contenders import CONTENDERS
from benchmarks.sink import Sink

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = 15
BLOCK_SECONDS = 0.15
CALLS = 20_000
OURS = "converra"
FLOOR = "floor"
"""Keeps texts and times, and delivers nothing: what Python leaves to save."""
PEERS = [name for name in CONTENDERS if name not in {"plain", OURS, FLOOR}]

ROWS = {
    "small call, 20 in a conversation": (0.06, 0.5),
    "small call, a conversation each": (0.10, 1.2),
    "60 messages, 20 tools": (0.03, 0.4),
    "stream of 300 chunks": (0.12, 0.5),
    "64 tasks, one conversation": (0.08, 0.6),
    "64 tasks, a conversation each": (0.10, 1.2),
    "Responses": (0.06, 0.4),
    "agent turn of 5 steps": (0.05, 0.3),
    "LangChain call": (0.25, 0.5),
}
"""By row: the highest ratio to the best peer that is wanted, of the caller's CPU and of the process's."""


class Everything(Sink):
    """Takes conversations as the API does, and any other request with an empty answer; counts what it takes."""

    def __init__(self) -> None:
        super().__init__(0.0)
        self.bytes: dict[str, int] = {}

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """Return status and body of the answer to one request."""
        self.bytes[path] = self.bytes.get(path, 0) + len(body)
        return super().answer(method, path, body) if "/conversations" in path else (200, {})


async def _serve() -> None:
    sink = Everything()
    server = await asyncio.start_server(sink.serve, "127.0.0.1", 0, limit=64 * 1024 * 1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(sink.summary() | {"bytes": sink.bytes}), flush=True)


class Child:
    """A process that answers orders."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", *arguments]
        environment = os.environ | {"PYTHONHASHSEED": "0"}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self.process.stdin is not None  # noqa: S101 - a pipe was asked for
        assert self.process.stdout is not None  # noqa: S101 - a pipe was asked for
        self._orders, self._answers = self.process.stdin, self.process.stdout

    def read(self) -> str:
        """Return its next line."""
        line = self._answers.readline()
        if not line:
            raise RuntimeError(f"{self.process.args!r} ended with {self.process.wait()}")
        return line.strip()

    def do(self, *order: Any) -> Any:
        """Have it carry out an order; return its answer."""
        print(json.dumps(order), file=self._orders, flush=True)
        return json.loads(self.read())

    def end(self) -> None:
        """Close its input and wait for its end."""
        self._orders.close()
        self.process.wait(60)


@contextmanager
def child(*arguments: str) -> Iterator[Child]:
    """Run a child process; kill it at the end if it has not ended."""
    running = Child(*arguments)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait()


def measure(url: str, rounds: int) -> dict[str, dict[str, tuple[float, float]]]:
    """Return the median costs by row and contender."""
    blocks: dict[str, dict[str, list[tuple[float, float]]]] = {row: {name: [] for name in CONTENDERS} for row in ROWS}
    shuffle = Random(1).shuffle  # noqa: S311 - an order, not a secret
    with ExitStack() as stack:
        children = {name: stack.enter_context(child("benchmarks.contenders", name, url)) for name in CONTENDERS}
        for one in children.values():
            one.do("ready")
        for row, taken in blocks.items():
            counts = {name: one.do("count", row, BLOCK_SECONDS) for name, one in children.items()}
            order = list(children)
            for _ in range(rounds):
                shuffle(order)
                for name in order:
                    taken[name].append(tuple(children[name].do("block", row, counts[name])))
            _print_row(row, {name: _median(taken[name]) for name in CONTENDERS})
    return {row: {name: _median(costs) for name, costs in taken.items()} for row, taken in blocks.items()}


def _median(costs: list[tuple[float, float]]) -> tuple[float, float]:
    callers, processes = zip(*costs, strict=True)
    return median(callers), median(processes)


def _print_row(row: str, costs: dict[str, tuple[float, float]]) -> None:
    """Print what each adds to a call, and the ratio of Converra to the best peer; * marks one above what is wanted."""
    added = {name: [cost - plain for cost, plain in zip(costs[name], costs["plain"], strict=True)] for name in costs}
    cells = [f"{added[name][0]:>7.0f} /{added[name][1]:>6.0f}" for name in (OURS, FLOOR, *PEERS)]
    ratios = []
    for which, wanted in enumerate(ROWS[row]):
        best = min(cost for name in PEERS if (cost := added[name][which]) > 0)
        ratio = added[OURS][which] / best
        ratios.append(f"{ratio:>5.2f}{'*' if ratio > wanted else ' '}")
    print(f"{row:<34}{''.join(f'{cell:>17}' for cell in cells)}    {' /'.join(ratios)}", flush=True)


def _print_exits(sink: Child, url: str, calls: int) -> None:
    """Print how many calls a second each delivers, from the first call to the end of the process."""
    print(f"\n{f'{calls:,} calls, then the exit':<34}{'calls a second':>17}{'seconds':>10}{'MB sent':>10}")
    for name in (OURS, *PEERS):
        before = sink.do()
        with child("benchmarks.contenders", name, url, str(calls)) as running:
            running.read()
            began = time.perf_counter()
            running.process.wait(300)
            took = time.perf_counter() - began
        after = sink.do()
        sent = sum(after["bytes"].values()) - sum(before["bytes"].values())
        delivered = f"{(after['messages'] - before['messages']):,} messages" if name == OURS else ""
        print(f"{name:<34}{calls / took:>17,.0f}{took:>10.1f}{sent / 1e6:>10.1f}  {delivered}", flush=True)


def main() -> None:
    """Print the tables."""
    with child("benchmarks.peers", "serve") as sink:
        url = sink.read()
        rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
        heads = "".join(f"{name:>17}" for name in (OURS, FLOOR, *PEERS))
        print(f"{'µs of CPU added: caller / process':<34}{heads}    ours : best peer", flush=True)
        measure(url, rounds)
        _print_exits(sink, url, int(sys.argv[2]) if len(sys.argv) > 2 else CALLS)  # noqa: PLR2004 - a second argument


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        asyncio.run(_serve())
    else:
        main()
