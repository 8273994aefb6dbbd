"""RQ: workers that fork or spawn a process for each job, which ends without Python's exit functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.deployments.running import talk, wait_for

if TYPE_CHECKING:
    from tests.deployments.running import Deployment

JOBS = """
from talk import speak, speak_in_a_block

def implicit(n):
    speak(n, n + 1)

def block(n):
    speak_in_a_block(n)

def fails(n):
    speak(n)
    raise ValueError("meant")

def report(job, connection, *_):
    speak(job.args[0] + 1)
"""

ENQUEUE = """
from redis import Redis
from rq import Queue, Retry

queue = Queue(connection=Redis(unix_socket_path={redis!r}))
for n in {numbers}:
    queue.enqueue("jobs.implicit", n)
    queue.enqueue("jobs.block", n)
"""

NUMBERS = [0, 10, 20]
EXPECTED = sorted(each for n in NUMBERS for each in (talk(n, n + 1), talk(n)))

WORKERS = {
    "worker": ("worker",),
    "worker with a scheduler": ("worker", "--with-scheduler"),
    "SimpleWorker": ("worker", "--worker-class", "rq.SimpleWorker"),
    "SpawnWorker": ("worker", "--worker-class", "rq.worker.SpawnWorker"),
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.quick) if n == "worker" else n for n in WORKERS])
def test_a_worker_delivers_what_its_jobs_say(deployment: Deployment, redis: str, name: str) -> None:
    """Six jobs are six conversations, with every turn once, completed once; the app is imported by each job."""
    deployment.write("jobs.py", JOBS)
    deployment.run(ENQUEUE.format(redis=redis, numbers=NUMBERS))
    worker = deployment.start("rq", *WORKERS[name], "--burst", "--url", f"unix://{redis}")
    assert worker.ended() == 0, worker.log
    assert sorted(deployment.arrived()) == EXPECTED
    assert name == "SpawnWorker" or worker.log.count("Job OK") == 6  # its processes log nothing
    assert "converra:" not in worker.log


def test_a_worker_that_has_imported_the_app(deployment: Deployment, redis: str) -> None:
    """A worker that forks with the app in memory, after a call of its own, which it delivers itself."""
    deployment.write("jobs.py", JOBS)
    deployment.run(ENQUEUE.format(redis=redis, numbers=NUMBERS))
    deployment.write(
        "work.py",
        f"""
        from redis import Redis
        from rq import Worker
        import jobs
        jobs.speak(1000)
        Worker(["default"], connection=Redis(unix_socket_path={redis!r})).work(burst=True)
        """,
    )
    worker = deployment.start("python", "work.py")
    assert worker.ended() == 0, worker.log
    assert sorted(deployment.arrived()) == sorted([talk(1000), *EXPECTED])


@pytest.mark.quick
def test_jobs_that_fail_and_callbacks(deployment: Deployment, redis: str) -> None:
    """A job that fails has spoken, too, and so has each callback and each retry."""
    deployment.write("jobs.py", JOBS)
    lines = """
    queue.enqueue("jobs.fails", 100)
    queue.enqueue("jobs.fails", 200, retry=Retry(max=1))
    queue.enqueue("jobs.block", 300, on_success="jobs.report")
    queue.enqueue("jobs.fails", 400, on_failure="jobs.report")
    """
    deployment.run(ENQUEUE.format(redis=redis, numbers=[]) + "\n".join(line.strip() for line in lines.splitlines()))
    worker = deployment.start("rq", "worker", "--burst", "--url", f"unix://{redis}")
    assert worker.ended() == 0, worker.log
    said = [100, 200, 200, 300, 301, 400, 401]
    assert sorted(deployment.arrived()) == sorted(map(talk, said))


def test_a_worker_that_waits_for_jobs(deployment: Deployment, redis: str) -> None:
    """What a job has said is there when its process has ended, while the worker lives."""
    deployment.write("jobs.py", JOBS)
    worker = deployment.start("rq", "worker", "--url", f"unix://{redis}", HANDLE_SIGTERM="true")
    worker.says("Listening on")
    deployment.run(ENQUEUE.format(redis=redis, numbers=NUMBERS))
    wait_for(lambda: sorted(deployment.arrived()) == EXPECTED, lambda: worker.log)
    worker.stop()
    assert "converra:" not in worker.log
