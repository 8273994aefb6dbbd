"""Joining a fleet: from the settings of a process to its shipper, and to its relay if it takes part in sending."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converra.config import freezes_between_calls
from converra.delivery.fleet.redis_engine import RedisEngine
from converra.delivery.fleet.relay import Relay
from converra.delivery.fleet.shipper import Shipper
from converra.delivery.fleet.url import parse

if TYPE_CHECKING:
    from collections.abc import Callable

    from converra.config import Config
    from converra.delivery.fleet.url import FleetURL
    from converra.delivery.outbox.memory import MemoryOutbox
    from converra.delivery.stats import Counters, Losses
    from converra.delivery.worker.loop import Mode
    from converra.delivery.worker.transport import Connection
    from converra.process.jobs import JobQueue, PeriodicTask, PeriodicTasks


def join(
    config: Config,
    memory: MemoryOutbox,
    counters: Counters,
    losses: Losses,
    connect: Callable[[str], Connection] | None,
    *,
    mode: Mode,
    periodic_task: PeriodicTask | PeriodicTasks | None,
    jobs: JobQueue,
) -> Shipper:
    """Make the shipper of a process. Raises InvalidArgumentError: a bad URL, or the package redis is missing."""
    url = parse(config.outbox or "")
    memory.durable = url.spill is not None
    relay = None
    if config.relay == "inline" and not freezes_between_calls():  # a frozen holder would keep its lanes
        relay = relay_of(config, url, connect)
    return Shipper(
        engine_of(url),
        memory,
        counters,
        losses,
        mode=mode,
        periodic_task=periodic_task,
        jobs=jobs,
        spill_path=url.spill,
        relay=relay,
    )


def relay_of(
    config: Config, url: FleetURL, connect: Callable[[str], Connection] | None = None, lanes: range | None = None
) -> Relay:
    """Make a relay for the fleet of a URL, with an engine of its own: a slow answer delays no hand-over."""
    return Relay(config, engine_of(url), connect, limit=url.limit, lanes=lanes)


def engine_of(url: FleetURL) -> RedisEngine:
    """Make the engine for a URL; the place for another engine."""
    return RedisEngine(url)
