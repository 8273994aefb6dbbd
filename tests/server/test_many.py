"""The viewer with ten thousand conversations."""

from __future__ import annotations

import time

from benchmarks.viewer import fill, measure
from converra.server.run import serve
from converra.server.store.conversations import Store

MOST_MS = 1000
"""Of CPU, which other tests on the machine do not change: ten times what it takes, coverage slows it."""


def test_ten_thousand_conversations_are_no_wait() -> None:
    """Every list, filter and search answers at once, from the first page to the last."""
    store = Store()
    fill(store, 10_000, messages=4)
    with serve(store=store) as server:
        waits = measure(server.url, time.process_time, times=3)
    store.close()
    assert {name: ms for name, ms in waits.items() if ms > MOST_MS} == {}
