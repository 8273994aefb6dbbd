"""The relay: holds lanes of a fleet's outbox, and has a flusher send what they contain.

A process with `relay="inline"` has one, and `converra relay` is one. Any number of them share the lanes.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from converra.delivery.fleet import lanes as leases
from converra.delivery.fleet.rate import FairSchedule, SharedRateLimiter
from converra.delivery.fleet.stream import RelayOutbox
from converra.delivery.stats import Counters, Losses
from converra.delivery.worker.flusher import Flusher
from converra.delivery.worker.loop import Mode
from converra.process.jobs import JobQueue

if TYPE_CHECKING:
    from collections.abc import Callable

    from converra.config import Config
    from converra.delivery.fleet.engine import Engine
    from converra.delivery.worker.transport import Connection

STEP = 0.01
"""Seconds between two looks for requests under way, when a relay stops."""


class Relay:
    """Sends from an engine.

    Args:
        config: The settings: key, URL, timeout, intervals.
        engine: The engine; the relay closes it when it stops.
        connect: Makes the connection from a key.
        limit: Requests a minute for all processes; 0 if only the API tells it.
        lanes: Numbers of the lanes that it may hold; None for all.

    """

    def __init__(
        self,
        config: Config,
        engine: Engine,
        connect: Callable[[str], Connection] | None = None,
        *,
        limit: int = 0,
        lanes: range | None = None,
    ) -> None:
        self.counters: Counters = Counters()
        lease = max(leases.LEASE_SECONDS, config.timeout + leases.LEASE_SECONDS / 3)
        self.engine: Engine = engine
        self.lanes: leases.Lanes = leases.Lanes(engine, lanes, lease, lambda: config.api_key_now() is not None)
        self.outbox: RelayOutbox = RelayOutbox(engine, self.lanes, self.counters, config)
        self.rate: SharedRateLimiter = SharedRateLimiter(engine, config, self.counters, limit)
        self.flusher: Flusher = Flusher(
            config,
            self.outbox,
            self.counters,
            Losses(self.outbox, self.counters),
            connect,
            mode=Mode.BACKGROUND,
            periodic_task=None,
            jobs=JobQueue(),
            rate_limiter=self.rate,
            schedule=FairSchedule(),
        )
        self.flusher.owner = self
        self.running: bool = False

    def start(self) -> None:
        """Start to send, unless it runs."""
        if not self.running:
            self.running = True
            self.lanes.start()
            self.flusher.workers.start()

    def stop(self, timeout: float) -> None:
        """Stop reading, finish what is under way within `timeout` seconds, and give the lanes back."""
        if not self.running:
            return
        self.running = False
        until = time.monotonic() + timeout
        self.lanes.leave_all(until)
        while not self.lanes.is_empty and self.flusher.workers.alive and time.monotonic() < until:
            self.flusher.recover_soon()
            time.sleep(STEP)
        idle = self.lanes.is_empty
        self.flusher.workers.stop()
        self.lanes.stop()
        self.flusher.close(max(0.0, until - time.monotonic()), idle=idle)
        self.engine.close()

    def abandon(self) -> None:
        """Leave everything to the parent process, after a fork."""
        self.running = False
        self.engine.abandon()
        self.lanes.abandon()
        self.flusher.abandon()
