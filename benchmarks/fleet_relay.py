"""The cost of a relay without the API: lanes that are full are sent through a connection that accepts all at once.

CPU time of the relay and of Redis, since the wall clock of a busy machine says little.
"""

from __future__ import annotations

import itertools
import resource
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.fleet_entries import blobs
from converra.api.operations import Accepted
from converra.config import Config
from converra.delivery.fleet.engine import Parcels
from converra.delivery.fleet.joining import engine_of, relay_of
from converra.delivery.fleet.url import parse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.fleet.redis_server import RedisServer


class AcceptsAll:
    """A connection to an API that stores everything at once."""

    def __init__(self) -> None:
        self.limit_headers: Mapping[str, str] | None = None
        self._numbers = itertools.count()

    def send(self, operation: Any, *, timeout: float | None = None) -> Any:  # noqa: ARG002 - the protocol's signature
        """Accept a request."""
        return Accepted(id=f"conversation-{next(self._numbers)}", status="active")

    def close(self) -> None:
        """Do nothing."""

    def abandon(self) -> None:
        """Do nothing."""


class Sent(NamedTuple):
    """The figures of one run; times in microseconds a conversation, memory in bytes of the process at its peak."""

    seconds: float
    relay: float
    redis: float
    requests: int
    peak: int


def cpu() -> float:
    """Return the CPU seconds of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def sent(server: RedisServer, lanes: int, count: int) -> Sent:
    """Hand over conversations of one turn, and have a relay send them."""
    url = f"{server.url}?lanes={lanes}&prefix=r{lanes}-{count}"
    engine = engine_of(parse(url))
    lanes = engine.lanes()
    for lane, bodies in blobs(count, lanes).items():
        for at in range(0, len(bodies), 250):
            engine.hand_over([Parcels(lane, "p", bodies[at : at + 250])])
    settings = Config(api_key="k", base_url="http://127.0.0.1:1/v1", outbox=url, flush_interval=0.1)
    relay = relay_of(settings, parse(url), lambda _key: AcceptsAll())
    before, own, began, peak = server_cpu(engine), cpu(), time.perf_counter(), 0
    relay.start()
    while any(engine.waiting([lane], "p") for lane in range(lanes)):
        peak = max(peak, relay.outbox.pending_bytes)
        time.sleep(0.2)
    took = time.perf_counter() - began
    used, redis = cpu() - own, server_cpu(engine) - before
    requests = relay.counters.requests
    relay.stop(10)
    engine.close()
    return Sent(took, used / count * 1e6, redis / count * 1e6, requests, peak)


def server_cpu(engine: Any) -> float:
    """Return the CPU seconds of a server."""
    about = engine.about()
    return float(about["used_cpu_user"] + about["used_cpu_sys"])


def relays(server: RedisServer, count: int = 2_000) -> Iterator[str]:
    """One relay with 1 to 64 lanes."""
    for lanes in (1, 4, 16, 64):
        run = sent(server, lanes, count)
        yield (
            f"{lanes:4} lanes, {count:7,} conversations: {count / run.seconds:7,.0f}/s, us of CPU each: "
            f"{run.relay:5.0f} in the relay, {run.redis:4.0f} in Redis; {run.peak / 2**20:5.1f} MiB held at most"
        )
