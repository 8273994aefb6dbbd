"""The HTTP side of `converra relay`: health, metrics, and the receiver of OpenTelemetry spans."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import BaseRoute, Route

from converra.delivery.fleet.engine import AwayError
from converra.otlp.routes import Receiver

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from converra.cli.relay_spans import HandedOverSpans
    from converra.delivery.fleet.relay import Relay

HEALTHY_SECONDS = 15.0
"""Seconds without an answer of Redis after which the relay is not healthy."""


def routes(relay: Relay, spans: HandedOverSpans) -> list[BaseRoute]:
    """Return the endpoints of a relay."""

    def healthz(_request: Request) -> Response:
        age = time.monotonic() - relay.lanes.reached_at
        lanes = sorted(lane.number for lane in relay.lanes.held())
        state = {"healthy": age < HEALTHY_SECONDS, "lanes": lanes, "relays": relay.lanes.alive}
        return JSONResponse(state, 200 if age < HEALTHY_SECONDS else 503)

    def metrics(_request: Request) -> Response:
        return PlainTextResponse(exposition(relay), media_type="text/plain; version=0.0.4")

    return [Route("/healthz", healthz), Route("/metrics", metrics), *Receiver(spans).routes()]


def serve(relay: Relay, spans: HandedOverSpans, listener: socket.socket, shutdown_timeout: float) -> None:
    """Run a relay and its endpoints until SIGTERM or Ctrl-C; then finish what is under way."""

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        relay.start()
        yield
        await asyncio.to_thread(spans.close)
        await asyncio.to_thread(relay.stop, shutdown_timeout)

    app = Starlette(routes=routes(relay, spans), lifespan=lifespan)
    config = uvicorn.Config(app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listener])


def exposition(relay: Relay) -> str:
    """Return the metrics in the text format of Prometheus. Those of the fleet are missing while Redis is away."""
    counted = relay.counters
    rows: list[tuple[str, str, str, float]] = [
        ("lanes_held", "gauge", "Lanes that this relay sends from.", len(relay.lanes.held())),
        ("relays", "gauge", "Relays that share the lanes.", relay.lanes.alive),
        ("held_bytes", "gauge", "Bytes of entries that are read and not delivered.", relay.outbox.pending_bytes),
        ("delivered_total", "counter", "Messages that the API has stored.", counted.delivered),
        ("rejected_total", "counter", "Messages that the API has rejected.", counted.rejected),
        ("withheld_total", "counter", "Messages that another process had sent.", counted.withheld),
        ("requests_total", "counter", "Requests to the API.", counted.requests),
        ("retries_total", "counter", "Requests that were sent again.", counted.retries),
        ("readbacks_total", "counter", "Conversations read back to settle a request.", counted.readbacks),
        ("duplicated_risk_total", "counter", "Messages that may be stored twice.", counted.duplicated_risk),
        ("rate_waits_total", "counter", "Requests that waited for the shared rate limit.", relay.rate.waits),
    ]
    try:
        lanes = relay.engine.state()
    except AwayError:
        rows.append(("redis_up", "gauge", "1 if Redis answers.", 0))
    else:
        rows += [
            ("redis_up", "gauge", "1 if Redis answers.", 1),
            ("backlog_entries", "gauge", "Entries of the fleet that wait.", sum(lane.entries for lane in lanes)),
            ("oldest_age_seconds", "gauge", "Age of the oldest of them.", max(lane.oldest for lane in lanes)),
            ("dead_messages", "gauge", "Messages set aside in the fleet.", sum(lane.dead for lane in lanes)),
        ]
    return "".join(_lines(rows))


def _lines(rows: Sequence[tuple[str, str, str, float]]) -> list[str]:
    return [
        f"# HELP converra_{name} {text}\n# TYPE converra_{name} {kind}\nconverra_{name} {value:g}\n"
        for name, kind, text, value in rows
    ]
