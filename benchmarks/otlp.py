"""Throughput of the receiver of spans: how many spans a second `converra dev` takes in, all of them stored.

The exporter is the OpenTelemetry SDK's own, for protobuf and gzip, in this process; the server is a process of its own.
Each chat has ten turns in one session, and each turn a span of the model's call, of a tool and of a request around it.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TURNS = 10
SPANS = 3
"""Spans of a turn."""
BATCH = 512
"""Spans of a request, as exporters send them."""
GIVE_UP_SECONDS = 120
WORDS = "Where is the parcel that was announced for Tuesday, and whom can I ask about it? " * 4

SERVER = "-m converra dev --port 0 --json --quiet --db"


class Rate(NamedTuple):
    """One measurement."""

    spans: int
    turns: int
    """Answers of the model that were stored."""
    taken_s: float
    """Seconds until the last batch was accepted."""
    stored_s: float
    """Seconds until the last turn was stored."""
    cpu_s: float
    """Seconds of CPU that the server took for it; on a machine that does other work as well, the better measure."""
    refused: int
    """Batches that were answered with 503, and sent again."""

    @property
    def per_second(self) -> float:
        """Spans a second, from the first batch to the last stored turn."""
        return self.spans / self.stored_s

    @property
    def per_cpu_second(self) -> float:
        """Spans for each second of CPU of the server."""
        return self.spans / self.cpu_s


def measure(chats: int = 400) -> Rate:
    """Send the spans of some chats as fast as the server takes them, and wait until all turns are stored."""
    batches = list(_batches(chats))
    with tempfile.TemporaryDirectory() as folder, _server(path := Path(folder) / "store.db") as (url, pid):
        _post(url, next(_batches(1, first=1_000_000)))  # the first request imports what it needs
        _wait(path, TURNS)
        began, cpu = time.perf_counter(), _cpu(pid)
        refused = sum(_post(url, batch) for batch in batches)
        taken = time.perf_counter() - began
        _wait(path, TURNS * (chats + 1))
        stored, cpu = time.perf_counter() - began, _cpu(pid) - cpu
    return Rate(chats * TURNS * SPANS, chats * TURNS, taken, stored, cpu, refused)


def _cpu(pid: int) -> float:
    """Return the seconds of CPU that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _server(path: Path) -> Iterator[tuple[str, int]]:
    command = [sys.executable, *SERVER.split(), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ) as process:
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        try:
            yield json.loads(process.stdout.readline())["viewer"], process.pid
        finally:
            process.terminate()


def _batches(chats: int, first: int = 0) -> Iterator[bytes]:
    """Encode the spans of chats that take place side by side, in batches as exporters make them."""
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    waiting: list[Any] = []
    for turn in range(TURNS):
        for chat in range(first, first + chats):
            waiting += _turn(chat, turn)
            while len(waiting) >= BATCH:
                yield encode_spans(waiting[:BATCH]).SerializeToString()
                del waiting[:BATCH]
    if waiting:
        yield encode_spans(waiting).SerializeToString()


def _turn(chat: int, turn: int) -> Sequence[Any]:
    """Make the spans of a turn: call, tool, request."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanContext, SpanKind, TraceFlags

    trace_id = (chat + 1) << 64 | (turn + 1)
    start = time.time_ns()

    def span(number: int, name: str, attributes: dict[str, Any], kind: SpanKind, parent: int | None) -> ReadableSpan:
        def context(one: int) -> SpanContext:
            span_id = (chat + 1) << 24 | (turn + 1) << 8 | one
            return SpanContext(trace_id, span_id, is_remote=False, trace_flags=TraceFlags(1))

        return ReadableSpan(
            name,
            context(number),
            context(parent) if parent else None,
            Resource({"service.name": "bench", "telemetry.sdk.language": "python"}),
            attributes,
            kind=kind,
            instrumentation_scope=InstrumentationScope("bench", "1"),
            start_time=start + turn * 1000 + number,
            end_time=start + turn * 1000 + number + 500_000_000,
        )

    said: list[dict[str, Any]] = []
    for earlier in range(turn + 1):
        said.append({"role": "user", "parts": [{"type": "text", "content": f"{earlier}: {WORDS}"}]})
        said.append({"role": "assistant", "parts": [{"type": "text", "content": f"Answer {earlier} of chat {chat}."}]})
    call = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.conversation.id": f"chat-{chat}",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.model": "gpt-4o",
        "gen_ai.response.id": f"chatcmpl-{chat}-{turn}",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 100 * (turn + 1),
        "gen_ai.usage.output_tokens": 10,
        "gen_ai.input.messages": json.dumps(said[:-1]),
        "gen_ai.output.messages": json.dumps([said[-1] | {"finish_reason": "stop"}]),
    }
    tool = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "look",
        "gen_ai.tool.call.id": f"{chat}-{turn}",
    }
    http = {"http.request.method": "POST", "url.path": "/chat", "http.response.status_code": 200}
    return (
        span(3, "chat gpt-4o", call, SpanKind.CLIENT, 1),
        span(2, "execute_tool look", tool, SpanKind.INTERNAL, 1),
        span(1, "POST /chat", http, SpanKind.SERVER, None),
    )


def _post(url: str, body: bytes) -> int:
    """Send a batch, again while the server is busy; return how often it was."""
    request = urllib.request.Request(f"{url}/v1/traces", body, {"Content-Type": "application/x-protobuf"})  # noqa: S310 - our own server
    for refused in range(1000):
        try:
            urllib.request.urlopen(request).close()  # noqa: S310 - as above
        except urllib.error.HTTPError as error:
            if error.code != 503:  # noqa: PLR2004 - HTTP
                raise
            time.sleep(float(error.headers["Retry-After"]))
        else:
            return refused
    raise RuntimeError("the server was busy for too long")


def _wait(path: Path, answers: int) -> None:
    """Wait until the file of the server has that number of answers."""
    until = time.monotonic() + GIVE_UP_SECONDS
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        while time.monotonic() < until:
            ((stored,),) = db.execute("SELECT count(*) FROM messages WHERE role = 'assistant'")
            if stored >= answers:
                return
            time.sleep(0.05)
    raise RuntimeError(f"{stored} of {answers} answers were stored")
