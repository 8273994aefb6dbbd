"""The real uWSGI: it loads the app in its master, which forks in C, unless told to be lazy."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.delivery.harness import held
from tests.deployments.wsgi import NOTHING, Deployment, deployment, eventually, numbered, problems

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["deployment"]

pytestmark = pytest.mark.timeout(150)

TWO = ("--master", "--processes", "2")
WAYS = {
    "threads-enabled": (*TWO, "--enable-threads"),
    "threads": (*TWO, "--threads", "4"),
    "no-threads": TWO,
    "lazy-apps": (*TWO, "--lazy-apps", "--enable-threads"),
    "lazy-apps-no-threads": (*TWO, "--lazy-apps"),
    "no-master": ("--processes", "2", "--enable-threads"),
    "one-process": ("--enable-threads",),
    "fork-hooks": (*TWO, "--enable-threads", "--py-call-uwsgi-fork-hooks"),
    "osafterfork": (*TWO, "--enable-threads", "--py-call-osafterfork"),
}
ways = pytest.mark.parametrize("options", WAYS.values(), ids=WAYS.keys())
threads = pytest.mark.parametrize("options", [WAYS["threads-enabled"], WAYS["threads"]], ids=["enabled", "threads"])
outboxes = pytest.mark.parametrize("durable", [False, True], ids=["memory", "durable"])

LOADING = """
import uwsgi
talk(f"loading-{uwsgi.worker_id()}")
"""


def _loading(options: Sequence[str]) -> list[str]:
    """What is recorded while the app is loaded, in the master or in each worker."""
    return ["loading-1", "loading-2"] if "--lazy-apps" in options else ["loading-0"]


@ways
@outboxes
def test_every_turn_arrives_once(deployment: Deployment, options: Sequence[str], durable: bool) -> None:
    """However the app is loaded: what is recorded meanwhile, what workers record, and what an outbox held before."""
    deployment.write(after=LOADING)
    if durable:
        deployment.fill(5)
    deployment.uwsgi(*options)
    if "--lazy-apps" in options:
        assert eventually(lambda: deployment.log.count("WSGI app 0 (mountpoint='') ready") == 2)
    deployment.talk("asked", 12)
    deployment.stop()
    old = numbered("old", 5) if durable else []
    assert deployment.arrived(*_loading(options), *numbered("asked", 12), *old) == NOTHING


@threads
def test_turns_arrive_while_workers_run(deployment: Deployment, options: Sequence[str]) -> None:
    """A thread of each worker delivers: nothing waits for its end."""
    deployment.write(after=LOADING)
    deployment.uwsgi(*options)
    deployment.talk("asked", 12)
    assert eventually(lambda: deployment.arrived("loading-0", *numbered("asked", 12)) == NOTHING)
    deployment.stop()
    assert deployment.arrived("loading-0", *numbered("asked", 12)) == NOTHING


def test_an_outbox_is_delivered_though_nothing_is_recorded(deployment: Deployment) -> None:
    """A worker delivers what an earlier process has left, as soon as it was forked."""
    deployment.write(after="talk = lambda name: None")
    deployment.fill(5)
    deployment.uwsgi(*TWO, "--enable-threads")
    assert eventually(lambda: problems(deployment.api, numbered("old", 5)) == NOTHING)
    deployment.stop()


@pytest.mark.parametrize("way", ["threads-enabled", "threads", "no-threads", "lazy-apps"])
def test_recycled_workers_lose_nothing(deployment: Deployment, way: str) -> None:
    """Each worker is replaced after a few requests, and its successor forked from the master again."""
    deployment.write(after=LOADING)
    deployment.uwsgi(*WAYS[way], "--max-requests", "5", "--min-worker-lifetime", "0")
    served = set()
    for part in range(4):
        served |= deployment.talk(f"part{part}", 12)
    deployment.stop()
    assert len(served) > 2
    asked = [name for part in range(4) for name in numbered(f"part{part}", 12)]
    found = deployment.arrived(*asked)
    if way == "lazy-apps":  # each generation of workers loads the app
        found["twice"] = [word for word in found["twice"] if "loading" not in word]
    assert found == NOTHING


@threads
def test_a_reload_loses_nothing(deployment: Deployment, options: Sequence[str]) -> None:
    """SIGHUP stops all workers, loads the app again, and forks again."""
    deployment.uwsgi(*options)
    before = deployment.talk("before", 12)
    deployment.signal(signal.SIGHUP)
    assert eventually(lambda: not any(_runs(pid) for pid in before))
    assert not before & deployment.talk("after", 12)
    deployment.stop()
    assert deployment.arrived(*numbered("before", 12), *numbered("after", 12)) == NOTHING


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_hooks_of_the_app_are_kept(deployment: Deployment) -> None:
    """Those that were set before are called before ours, and what replaces ours costs nothing that is recorded."""
    hooks = """
    import sys, uwsgi
    uwsgi.post_fork_hook = lambda: print("forked", uwsgi.worker_id(), file=sys.stderr, flush=True)
    uwsgi.atexit = lambda: print("exits", uwsgi.worker_id(), file=sys.stderr, flush=True)
    """
    deployment.write(before=hooks, after=LOADING)
    deployment.uwsgi(*TWO, "--enable-threads")
    deployment.talk("asked", 12)
    deployment.stop()
    assert all(deployment.log.count(line) == 1 for line in ("forked 1", "forked 2", "exits 1", "exits 2"))
    assert deployment.arrived("loading-0", *numbered("asked", 12)) == NOTHING


@threads
@outboxes
def test_an_app_that_replaces_our_hooks(deployment: Deployment, options: Sequence[str], durable: bool) -> None:
    """Then a worker finds out by its process id that it is one (uwsgidecorators does that when it is imported)."""
    if durable:
        deployment.fill(5)
    deployment.write(after=LOADING + "uwsgi.post_fork_hook = uwsgi.atexit = lambda: None")
    deployment.uwsgi(*options)
    deployment.talk("asked", 12)
    deployment.stop()
    old = numbered("old", 5) if durable else []
    assert deployment.arrived("loading-0", *numbered("asked", 12), *old) == NOTHING


CALLS = """
import openai
converra.instrument("prompt", idle_timeout=0.5)
client = openai.OpenAI(api_key="k")

def talk(name):
    client.chat.completions.create(model="gpt", messages=[{"role": "user", "content": name}])

talk("loading")
"""


@pytest.mark.parametrize("way", ["threads-enabled", "threads", "no-threads"])
def test_calls_outside_of_any_block(deployment: Deployment, way: str) -> None:
    """Such conversations are completed: those of the master at once, those of workers by silence or at their end."""
    deployment.write(after=CALLS)
    deployment.uwsgi(*WAYS[way])
    deployment.talk("asked", 8)
    deployment.stop()
    found = held(deployment.api)
    assert sorted(one.words[0] for one in found) == sorted(["loading", "warm", *numbered("asked", 8)])
    assert {(len(set(one.words) - {"Conversation ended."}), one.status) for one in found} == {(2, "completed")}


def test_calls_that_fell_silent_without_threads(deployment: Deployment) -> None:
    """The next call completes them, and sends them."""
    deployment.write(after=CALLS)
    deployment.uwsgi("--master", "--processes", "1")
    time.sleep(1)
    deployment.get("first")
    time.sleep(1)
    deployment.get("second")
    found = {one.words[0]: one.status for one in held(deployment.api)}
    assert (found["loading"], found["warm"]) == ("completed", "completed")
    deployment.stop()


def test_without_threads_it_is_said(deployment: Deployment) -> None:
    """Each worker warns once that conversations are sent as they end."""
    deployment.uwsgi(*TWO)
    served = deployment.talk("asked", 12)
    deployment.stop()
    assert deployment.log.count("uWSGI runs without enable-threads") == len(served | {deployment.first})
    assert deployment.arrived(*numbered("asked", 12)) == NOTHING
