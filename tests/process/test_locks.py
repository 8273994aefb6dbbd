"""The order in which locks are taken is the one that docs/explanation/locks.md allows."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any

import pytest

from tests.fleet.redis_server import PROGRAM as REDIS
from tests.fleet.redis_server import redis_server
from tests.process import lock_order
from tests.process.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

NAME = re.compile(r"`([\w.]+)`")

PROGRAM = """
import json
import converra._default, converra.delivery.outbox.sqlite
from tests.process import lock_order

order = lock_order.record()

@atexit.register  # runs last
def show():
    os.write(1, json.dumps([sorted(order.taken), sorted(order.pairs)]).encode() + b"\\n")

def talk(number):
    with converra.conversation("prompt", metadata={"number": number}) as conversation:
        conversation.add_message("user", f"question {number}")
        conversation.add_message("assistant", f"answer {number}", latency_ms=1.0)
        conversation.update_metadata(seen=True)

@atexit.register  # runs after what converra does at the exit: the caller sends this by itself
def late():
    talk("late")

converra.instrument()
talkers = [threading.Thread(target=lambda: [talk(number) for number in range(20)]) for _ in range(3)]
for talker in talkers: talker.start()
for number in range(3):
    child = os.fork()
    if child == 0:
        talk("child")
        sys.exit()
    assert converra.flush(LONG)
    assert os.waitpid(child, 0)[1] == 0
for talker in talkers: talker.join()
assert converra.shutdown(LONG)
talk("again")
converra.uninstrument()
"""


def table() -> dict[str, set[str]]:
    """What may be taken inside each lock, as documented."""
    rows = [line.split("|") for line in (ROOT / "docs/explanation/locks.md").read_text().splitlines()]
    return {NAME.findall(row[1])[0]: set(NAME.findall(row[3])) for row in rows if len(row) > 4 and NAME.search(row[1])}


def allowed() -> set[tuple[str, str]]:
    """All pairs of locks of which the second may be taken while the first is held."""
    inside: dict[str, set[str]] = {}
    rows = table()
    for name in TopologicalSorter(rows).static_order():
        inside[name] = rows[name].union(*(inside[inner] for inner in rows[name]))
    return {(outer, inner) for outer, inners in inside.items() for inner in inners}


def offending(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return sorted(set(pairs) - allowed())


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[str]:
    """The URL of a fleet's outbox."""
    with redis_server() as server:
        yield f"{server.url}?lanes=4&spill={tmp_path / 'spill.db'}"


@pytest.mark.skipif(REDIS is None, reason="redis-server is not installed")
def test_a_fleet_takes_locks_in_the_documented_order(start: Callable[..., Any], redis: str) -> None:
    """A process that hands over and sends inline, and forks meanwhile, takes no lock inside one that forbids it."""
    program = PROGRAM.replace("outbox.sqlite", "fleet.joining")
    ended = start(program, cold=True, OUTBOX=redis, FLUSH_INTERVAL=0.01).ended()
    assert (ended.status, ended.err) == (0, "")
    reports = [json.loads(line) for line in ended.out.splitlines()]
    assert len(reports) == 4
    pairs = {tuple(pair) for _, found in reports for pair in found}
    assert offending(pairs) == []
    assert ("delivery.fleet.shipper._lock", "delivery.outbox.memory._leaving") in pairs
    assert ("process.lifecycle._forking", "delivery.fleet.spill._lock") in pairs


@pytest.mark.parametrize("outbox", [None, "outbox.sqlite3"], ids=["memory", "durable"])
def test_locks_are_taken_in_the_documented_order(start: Callable[..., Any], tmp_path: Path, outbox: str | None) -> None:
    """Turns on several threads, flushes, forks, a restart and the exit take no lock inside one that forbids it."""
    ended = start(PROGRAM, cold=True, OUTBOX=outbox and tmp_path / outbox, FLUSH_INTERVAL=0.01).ended()
    assert (ended.status, ended.err) == (0, "")
    reports = [json.loads(line) for line in ended.out.splitlines()]
    assert len(reports) == 4
    pairs = {tuple(pair) for _, found in reports for pair in found}
    assert offending(pairs) == []
    assert ("process.jobs.lock", "delivery.outbox.memory._entering") in pairs
    assert ("delivery.worker.flusher._lock", "delivery.worker.transport.lock") in pairs
    assert ("process.lifecycle._forking", "delivery.worker.transport.lock") in pairs
    if outbox is not None:
        assert ("process.lifecycle._forking", "delivery.outbox.ledger._lock") in pairs
        assert "delivery.outbox.sqlite._entering" in {name for taken, _ in reports for name in taken}


def test_every_lock_is_in_the_table() -> None:
    """A new lock needs a row, and a removed one leaves none behind."""
    assert set(table()) == lock_order.creations()


def test_a_wrong_order_is_found() -> None:
    """The recorder sees a lock that is taken inside another one, and the table forbids what it does not allow."""
    order = lock_order.Order()
    outer = lock_order.RecordedLock(threading.Lock(), "delivery.stats._lock", order)
    inner = lock_order.RecordedLock(threading.RLock(), "process.jobs.lock", order)
    with outer, inner, inner:
        assert inner.acquire()
    with inner:
        pass
    assert order.pairs == Counter({("delivery.stats._lock", "process.jobs.lock"): 1})
    assert offending(order.pairs) == [("delivery.stats._lock", "process.jobs.lock")]
