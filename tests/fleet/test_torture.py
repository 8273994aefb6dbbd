"""Processes that are killed at random, with a real Redis server that is killed and paused, and an API that fails.

A few kills here; `make test-fleet` kills fifty times. FLEET_SEED chooses who is killed.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from tests.fleet.redis_server import redis_server
from tests.fleet.torture import Torture
from tests.patience import until

if TYPE_CHECKING:
    from pathlib import Path

    from converra.server.run import LocalServer

KILLS = int(os.environ.get("FLEET_KILLS", "4"))
SEED = int(os.environ.get("FLEET_SEED", "7"))
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


def test_every_turn_arrives_once_in_order_and_completed_once(api: LocalServer, tmp_path: Path) -> None:
    """Whichever process dies when: what was handed over is delivered, and nothing of it twice."""
    few = KILLS < 10
    share = 0.3 if few else 0.2
    api.faults.add("append", "reset", when="after", share=share, times=None)
    api.faults.add("append", "status", status=502, when="after", share=share, times=None)
    api.faults.add("any", "status", status=500, share=0.03, times=None)
    api.faults.add("any", "status", status=429, share=0.02, times=None, headers={"Retry-After": "0.2"})
    with redis_server(*DURABLE) as redis:
        torture = Torture(api, redis, tmp_path, seed=SEED)
        try:
            work = (1, 4, 0.1) if few else (3, 8, 0.2)
            for _ in range(8):
                torture.produce(*work)
            for _ in range(3):
                torture.add_relay()
            for number in range(KILLS):
                time.sleep(torture.random.uniform(0.05, 0.3))
                torture.kill_one(work)
                if number % 10 == 2:
                    redis.kill()
                    time.sleep(torture.random.uniform(0.0, 0.3))
                    redis.start()
                if number % 10 == 7:
                    redis.pause()
                    time.sleep(torture.random.uniform(0.5, 1.0))
                    redis.resume()
            assert torture.settle() == []
            assert sum(torture.kills.values()) == KILLS
            assert torture.handed_over()[0]
        finally:
            torture.close()


def test_processes_that_live_for_a_second_deliver_inline(api: LocalServer, tmp_path: Path) -> None:
    """Each takes part in sending while it lives; what the last one leaves, the next one delivers."""
    with redis_server() as redis:
        torture = Torture(api, redis, tmp_path, seed=SEED, relay="inline")
        try:
            for _ in range(4 if KILLS < 10 else 20):
                for _ in range(2):
                    torture.produce(1, 3, 0.02)
                time.sleep(0.3)
            torture.produce(1, 20, 0.1)  # one that lives longer
            until(lambda: [child for child in torture.producers if torture.nursery.runs(child)], [])
            assert len(torture.stored()) > 1
            torture.add_relay()  # for what the last one has left
            assert torture.settle() == []
            assert len(torture.handed_over()[1]) == len(torture.producers)
        finally:
            torture.close()
