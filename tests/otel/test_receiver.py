"""The routes of OTLP in an app of one's own, with a sink of one's own: they need no local server."""

from __future__ import annotations

import asyncio
import gzip
from typing import TYPE_CHECKING

import httpx
from starlette.applications import Starlette

from converra.otlp.routes import BusyError, Receiver
from tests.otel.recorded import bodies

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converra.otlp.records import SpanLog
    from converra.spans.span import Span


class Kept:
    """A sink that keeps what comes, unless it is busy."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.logs: list[SpanLog] = []
        self.keys: set[str | None] = set()
        self.busy: bool = False

    def take(self, spans: Sequence[Span], logs: Sequence[SpanLog], key: str | None) -> None:
        if self.busy:
            raise BusyError("later")
        self.spans += spans
        self.logs += logs
        self.keys.add(key)


def test_the_routes_stand_alone() -> None:
    """Spans and log records reach the sink with the key of their request; a busy sink is tried again later."""
    kept = Kept()
    app = Starlette(routes=Receiver(kept, limit=100_000).routes())

    async def send() -> list[int]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://relay") as client:
            headers = {"Content-Type": "application/json", "Content-Encoding": "gzip", "X-API-Key": "k-1"}
            sent = [(body.path, gzip.compress(body.content)) for body in bodies("adk-events")]
            found = [await client.post(path, content=body, headers=headers) for path, body in sent]
            kept.busy = True
            found.append(await client.post(*sent[0][:1], content=sent[0][1], headers=headers))
            found.append(await client.post("/v1/traces", content=gzip.compress(bytes(100_001)), headers=headers))
            found.append(await client.get("/v1/traces"))
        return [answer.status_code for answer in found]

    assert asyncio.run(send()) == [200, 200, 503, 413, 405]
    assert (len(kept.spans), len(kept.logs), kept.keys) == (8, 3, {"k-1"})
