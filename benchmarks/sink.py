"""Minimal API server: accepts conversations, counts their messages, and fails on request.

Run as `python -m benchmarks.sink [share of requests that fail]`; it prints its address, and at the end of its input a
line of JSON: requests, messages, messages that came twice, conversations, and those that were completed.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

FAILURES = (500, 502, 503, 504)
"""Not 429: that is a limit, which delivery keeps to by sending less."""


class Sink:
    """Conversations received. Failures come before or after a request takes effect, at random."""

    def __init__(self, failing: float) -> None:
        self._failing = failing
        self._random = random.Random(1)  # noqa: S311 - repeatable
        self._ids: dict[str, set[str]] = {}
        self._keys: dict[str, str] = {}
        self._ended: set[str] = set()
        self.requests = self.messages = self.twice = 0

    def summary(self) -> dict[str, int]:
        """Return the counts."""
        return {
            "requests": self.requests,
            "messages": self.messages,
            "twice": self.twice,
            "conversations": len(self._keys),
            "completed": len(self._ended),
        }

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """Return status and body of the answer to one request."""
        self.requests += 1
        status = self._random.choice(FAILURES) if self._random.random() < self._failing else 200
        if status != 200 and self._random.random() < 0.5:  # noqa: PLR2004 - an HTTP status, and a coin
            return status, {}
        found = self._take(method, path.partition("?")[0].split("/"), body)
        return status, found if status == 200 else {}  # noqa: PLR2004 - an HTTP status

    def _take(self, method: str, parts: list[str], body: bytes) -> dict[str, Any]:
        if method == "GET":
            shown = [{"metadata": {"messageId": one}} for one in self._ids[parts[-1]]]
            return {"id": parts[-1], "messages": shown}
        request = json.loads(body)
        if parts[-1] == "messages":
            self._append(parts[-2], request)
            return {"id": parts[-2]}
        return {"id": self._create(request), "status": "active"}

    def _create(self, request: dict[str, Any]) -> str:
        key: str = request["idempotencyKey"]
        if key not in self._keys:
            self._keys[key] = key
            self._ids[key] = set()
            self.messages += len(json.loads(request["content"])["messages"])
        return key

    def _append(self, conversation: str, request: dict[str, Any]) -> None:
        known = self._ids[conversation]
        for message in request["messages"]:
            identifier = message["metadata"]["messageId"]
            self.twice += identifier in known
            known.add(identifier)
        self.messages += len(request["messages"])
        if request.get("status") == "completed":
            self._ended.add(conversation)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                method, path, _ = head.split(" ", 2)
                lengths = [line[15:] for line in head.lower().split("\r\n") if line.startswith("content-length:")]
                status, found = self.answer(method, path, await reader.readexactly(int(lengths[0]) if lengths else 0))
                payload = json.dumps(found).encode()
                writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(payload), payload))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


class Running(NamedTuple):
    """Sink in a process of its own."""

    base_url: str
    process: subprocess.Popen[str]

    def summary(self) -> dict[str, int]:
        """Stop it, and return its counts."""
        out, _ = self.process.communicate("\n")
        counts: dict[str, int] = json.loads(out)
        return counts


@contextmanager
def running(failing: float = 0.0) -> Iterator[Running]:
    """Run a sink in another process, so that its CPU time is not counted."""
    command = [sys.executable, "-m", "benchmarks.sink", str(failing)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        yield Running(process.stdout.readline().strip(), process)
        process.kill()


async def _main(failing: float) -> None:
    sink = Sink(failing)
    server = await asyncio.start_server(sink.serve, "127.0.0.1", 0, limit=4 * 1024 * 1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api/v1", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    print(json.dumps(sink.summary()), flush=True)


if __name__ == "__main__":
    asyncio.run(_main(float(sys.argv[1])))
