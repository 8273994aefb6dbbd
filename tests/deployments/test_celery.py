"""Celery: children of the prefork pool that are recycled or stopped, and the other pools."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.deployments.running import talk, wait_for

if TYPE_CHECKING:
    from tests.deployments.running import Deployment

TASKS = """
from celery import Celery
from talk import speak, speak_in_a_block

app = Celery("tasks", broker="redis+socket://{redis}", backend="redis+socket://{redis}")
app.conf.broker_connection_retry_on_startup = True

@app.task
def implicit(n):
    speak(n, n + 1)

@app.task
def block(n):
    speak_in_a_block(n)
"""

WORKER = ("celery", "-A", "tasks", "worker", "--loglevel", "INFO", "--concurrency", "2")

SEND = """
from tasks import block, implicit
results = [task.delay(n) for n in {numbers} for task in (implicit, block)]
for result in results:
    result.get(timeout=60)
"""

NUMBERS = [0, 10, 20, 30, 40, 50]
EXPECTED = sorted(each for n in NUMBERS for each in (talk(n, n + 1), talk(n)))

POOLS = {
    "prefork": (),
    "children for one task": ("--max-tasks-per-child", "1"),
    "children for five tasks": ("--max-tasks-per-child", "5"),
    "solo": ("--pool", "solo"),
    "threads": ("--pool", "threads"),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.quick) if n == "children for five tasks" else n for n in POOLS],
)
def test_a_worker_delivers_before_it_stops(deployment: Deployment, redis: str, name: str) -> None:
    """All that tasks have said arrives once: of children that are recycled, and of those that a warm stop ends."""
    deployment.write("tasks.py", TASKS.format(redis=redis))
    worker = deployment.start(
        "celery", "-A", "tasks", "worker", "--loglevel", "INFO", "--concurrency", "2", *POOLS[name]
    )
    worker.says(" ready.")
    deployment.run(SEND.format(numbers=NUMBERS))
    assert worker.stop() == 0, worker.log
    assert sorted(deployment.arrived()) == EXPECTED
    assert "converra: not delivered" not in worker.log
    assert "handle_sigterm" not in worker.log


def test_a_recycled_child_delivers_at_once(deployment: Deployment, redis: str) -> None:
    """What a recycled child has recorded arrives while the worker lives, not only at its end."""
    deployment.write("tasks.py", TASKS.format(redis=redis))
    worker = deployment.start(
        "celery", "-A", "tasks", "worker", "--loglevel", "INFO", "--concurrency", "1", "--max-tasks-per-child", "2"
    )
    worker.says(" ready.")
    deployment.run(SEND.format(numbers=[0, 10]))
    expected = sorted([talk(0, 1), talk(0), talk(10, 11), talk(10)])
    wait_for(lambda: sorted(deployment.arrived()) == expected, lambda: worker.log)
    worker.stop()
    assert sorted(deployment.arrived()) == expected


def test_a_warm_stop_with_a_slow_api(deployment: Deployment, redis: str) -> None:
    """The pool waits for its children, and nobody warns of a setting that is not needed."""
    deployment.server.faults.add("any", "delay", seconds=0.5, times=None)
    deployment.write("tasks.py", TASKS.format(redis=redis))
    worker = deployment.start(
        "celery", "-A", "tasks", "worker", "--loglevel", "INFO", "--concurrency", "2", HANDLE_SIGTERM="true"
    )
    worker.says(" ready.")
    deployment.run(SEND.format(numbers=NUMBERS))
    assert worker.stop(signal.SIGTERM) == 0, worker.log
    assert sorted(deployment.arrived()) == EXPECTED
    assert "converra: not delivered" not in worker.log
    assert "handle_sigterm" not in worker.log
