"""A flush is linear in what waits: steps are counted, since times depend on the machine."""

from __future__ import annotations

import gc
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from converra.config import Config
from converra.delivery.delivery import Delivery
from converra.delivery.header import Header
from converra.delivery.protocol.progress import Progress
from converra.delivery.worker.schedule import Schedule
from tests.delivery.harness import turn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from converra.api.operations import Operation


class Quick:
    """An API that takes the same few steps for each request, however many conversations it has."""

    def __init__(self) -> None:
        self.limit_headers: Mapping[str, str] | None = None
        self.completed: set[str] = set()

    def send(self, operation: Operation[Any], *, timeout: float | None = None) -> Any:
        body = json.loads(operation.body or b"{}")
        found = body.get("idempotencyKey") or operation.path.split("/")[2]
        if body.get("status") == "completed":
            self.completed.add(found)
        return operation.read(json.dumps({"id": found, "status": "active"}).encode())

    def close(self) -> None:
        pass

    def abandon(self) -> None:
        pass


def _steps(work: Callable[[], Any]) -> int:
    """Calls that are made meanwhile, also of functions in C."""
    count = 0

    def note(_frame: Any, event: str, _arg: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    gc.collect()
    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def _sender(api: Quick, outbox: str | None = None) -> Delivery:
    """A delivery whose only worker is the caller."""
    config = Config(api_key="k", flush_interval=60.0, outbox=outbox, max_pending_bytes=2**30)
    sender = Delivery(config, connect=lambda _key: api)
    sender._flusher.workers.closed = True
    return sender


def _flushed(count: int, *, ended: bool, outbox: str | None = None) -> float:
    """Steps of a flush for each of so many conversations of one call."""
    api = Quick()
    sender = _sender(api, outbox)
    for number in range(count):
        queue = sender.open(Header(key=f"key-{number}", prompt_id="p"))
        queue.append(turn(number))
        if ended:
            queue.end()
    flush = (lambda: sender.flush(60)) if ended else (lambda: sender.shutdown(60))
    steps = _steps(flush)
    assert len(api.completed) == count
    assert sender.stats().pending == 0
    sender.shutdown(60)  # closes the file
    return steps / count


@pytest.mark.parametrize("ended", [True, False], ids=["flush", "shutdown"])
@pytest.mark.parametrize("outbox", [None, "outbox.sqlite3"], ids=["memory", "durable"])
def test_a_conversation_costs_the_same_among_many(*, ended: bool, outbox: str | None, tmp_path: Path) -> None:
    """Ten times as many conversations take ten times as many steps to flush, not a hundred times."""
    few, many = (_flushed(n, ended=ended, outbox=outbox and str(tmp_path / f"{n}{outbox}")) for n in (60, 600))
    assert many < 1.1 * few


def test_a_flush_looks_only_at_what_waits() -> None:
    """Conversations that are open and have nothing to send cost a flush nothing."""

    def flushes_of_one(idle: int) -> int:
        api = Quick()
        sender = _sender(api)
        queues = [sender.open(Header(key=f"key-{number}", prompt_id="p")) for number in range(idle + 1)]
        for queue in queues:
            queue.append(turn("first"))
        assert sender.flush(60)

        def again() -> None:
            for number in range(20):
                queues[0].append(turn(number))
                assert sender.flush(60)

        return _steps(again)

    assert flushes_of_one(500) < 1.1 * flushes_of_one(5)


def test_what_is_due_next_is_found_in_as_many_steps_among_many() -> None:
    """A hundred times as many planned conversations: the same steps for each that is planned and taken."""

    def each(count: int) -> float:
        planned = [Progress(Header(key=str(number), prompt_id="p")) for number in range(count)]

        def work() -> None:
            schedule = Schedule()
            for number, progress in enumerate(planned):
                schedule.put(progress, 5.0, float(-number))
                schedule.put(progress, 1.0, float(-number))
            while schedule.next_at() is not None:
                assert schedule.take(2.0)[0] is not None

        return _steps(work) / count

    assert each(20_000) < 1.05 * each(200)
