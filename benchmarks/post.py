"""CPU of one request of delivery, by the connection that makes it: delivery's own, or httpx."""

from __future__ import annotations

import time
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.sink import running
from converra.api.connection import Connection
from converra.api.direct import DirectConnection
from converra.api.operations import create_encoded
from converra.wire.json_safe import encode
from converra.wire.models import Message

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS, REQUESTS = 15, 100

MESSAGES = [Message(role="user", content="words " * 60), Message(role="assistant", content="words " * 60)]


def measure() -> dict[str, float]:
    """Return microseconds of CPU on the sending thread for one create of 900 bytes, by connection, interleaved."""
    with running() as sink:
        operation = create_encoded(
            prompt_id="p",
            content=encode({"messages": MESSAGES}),
            status="active",
            llm_model=None,
            company_name=None,
            idempotency_key="one",
        )
        connections: dict[str, Connection | DirectConnection] = {
            "delivery": DirectConnection("benchmark", sink.base_url, 10),
            "httpx": Connection("benchmark", sink.base_url, 10),
        }
        costs: dict[str, list[float]] = {name: [] for name in connections}
        for _ in range(ROUNDS):
            for name, connection in connections.items():
                costs[name].append(_block(partial(connection.send, operation)))
        for connection in connections.values():
            connection.close()
    return {name: median(each) for name, each in costs.items()}


def _block(send: Callable[[], object]) -> float:
    send()
    began = time.thread_time_ns()
    for _ in range(REQUESTS):
        send()
    return (time.thread_time_ns() - began) / 1000 / REQUESTS
