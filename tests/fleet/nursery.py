"""A process that has everything imported, and forks others on request: a killed one is replaced in milliseconds.

It reads one request a line, JSON with the name of a role and its arguments, and prints the id of the child.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from converra.config import Config
from converra.delivery.delivery import Delivery
from converra.delivery.fleet import client, joining, lanes, shipper, stream, url
from converra.delivery.header import Header
from tests.delivery.harness import Note, said

if __name__ == "__main__":  # everything is quicker here than in a fleet
    lanes.LEASE_SECONDS = 2.0
    lanes.ROUND_SECONDS = 0.2
    shipper.BEAT_SECONDS = 0.5
    shipper.DEAD_AFTER = 4.0
    stream.IDLE_LOOK_SECONDS = 0.3
    stream.SETTLING_SECONDS = 0.3


def settings(base_url: str, outbox: str, **others: Any) -> Config:
    """The settings of each process of the test."""
    usual = {"timeout": 1.0, "flush_interval": 0.1, "idle_timeout": 1.0, "api_key": "k"}
    return Config(base_url=base_url, outbox=outbox, **{**usual, **others})


def message(key: str, number: int) -> Note:
    """The message of this number in a conversation; its text says where it belongs."""
    role = "assistant" if number % 2 else "user"
    return said(role, f"{key}/{number}", metadata={"messageId": f"{key}-{number}"})


def produce(config: Config, log: str, name: str, conversations: int, turns: int, pause: float) -> None:
    """Record conversations, and note in the log what was handed over, until the end or the kill."""
    delivery = Delivery(config)
    delivery.start()
    with Path(log).open("a", buffering=1) as noted:
        for number in range(conversations):
            key = f"{name}.{number}"
            queue = delivery.open(Header(key=key, prompt_id="prompt"))
            for turn in range(turns):
                queue.append([message(key, 2 * turn), message(key, 2 * turn + 1)])
                time.sleep(pause)
                if delivery.flush(60):
                    noted.write(f"{key} {2 * turn + 2}\n")
            queue.end()
        complete = delivery.flush(60)
        delivery.shutdown(5)
        noted.write(f"{name} {'ended' if complete else 'failed'}\n")


def relay(config: Config) -> None:
    """Send until SIGTERM or the kill."""
    made = joining.relay_of(config, url.parse(config.outbox or ""))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    made.start()
    try:
        while True:
            time.sleep(0.1)
    finally:
        made.stop(5)
        counted = made.counters
        sys.stderr.write(
            json.dumps({"readbacks": counted.readbacks, "duplicated_risk": counted.duplicated_risk}) + "\n"
        )


def main() -> None:
    """Serve requests until the input ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are reaped by the system
    client.module()
    import httpx  # noqa: F401 - imported once, here

    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            config = settings(**asked["config"])
            if asked["role"] == "relay":
                relay(config)
            else:
                produce(config, **asked["arguments"])
            sys.stderr.flush()
            os._exit(0)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
