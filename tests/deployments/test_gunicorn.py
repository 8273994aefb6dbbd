"""The real gunicorn, with its worker classes, preloaded or not."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.deployments.wsgi import NOTHING, Deployment, deployment, eventually, numbered

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["deployment"]

pytestmark = pytest.mark.timeout(150)

WAYS = {
    "sync": ("-k", "sync"),
    "gthread": ("-k", "gthread", "--threads", "4"),
    "gevent": ("-k", "gevent"),
}
ways = pytest.mark.parametrize("options", WAYS.values(), ids=WAYS.keys())
preload = pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["each", "preload"])
outboxes = pytest.mark.parametrize("durable", [False, True], ids=["memory", "durable"])

PATCHED = "from gevent import monkey; monkey.patch_all()"
"""What apps for gevent do first: with --preload the master is patched, too."""


@ways
@preload
@outboxes
def test_every_turn_arrives_once(
    deployment: Deployment, options: Sequence[str], preload: Sequence[str], durable: bool
) -> None:
    """Of each worker, and what an outbox held before, which the master or the workers deliver meanwhile."""
    if durable:
        deployment.fill(20)
    deployment.gunicorn("-w", "3", *options, *preload, "shop:application")
    deployment.talk("asked", 24)
    deployment.stop()
    old = numbered("old", 20) if durable else []
    assert deployment.arrived(*numbered("asked", 24), *old) == NOTHING


@outboxes
def test_a_patched_master(deployment: Deployment, durable: bool) -> None:
    """Its green threads come along into the workers, amid the requests that they had under way."""
    deployment.write(before=PATCHED, after="for number in range(20): talk(f'loading-{number}')")
    if durable:
        deployment.fill(20)
    deployment.gunicorn("-w", "3", "-k", "gevent", "--preload", "shop:application")
    deployment.talk("asked", 24)
    deployment.stop()
    old = numbered("old", 20) if durable else []
    assert deployment.arrived(*numbered("loading", 20), *numbered("asked", 24), *old) == NOTHING


@ways
@preload
def test_a_reload_loses_nothing(deployment: Deployment, options: Sequence[str], preload: Sequence[str]) -> None:
    """SIGHUP replaces all workers."""
    deployment.gunicorn("-w", "2", *options, *preload, "shop:application")
    before = deployment.talk("before", 12)
    deployment.signal(signal.SIGHUP)
    assert eventually(lambda: not before & deployment.talk("warm", 4))
    deployment.talk("after", 12)
    deployment.stop()
    found = deployment.arrived(*numbered("before", 12), *numbered("after", 12))
    found["twice"] = [word for word in found["twice"] if "warm" not in word]
    assert found == NOTHING


@ways
def test_recycled_workers_lose_nothing(deployment: Deployment, options: Sequence[str]) -> None:
    """Each worker is replaced after a few requests."""
    deployment.gunicorn("-w", "2", "--max-requests", "6", "--preload", *options, "shop:application")
    served: set[int] = set()
    parts: list[str] = []

    def several_served() -> bool:
        parts.append(f"part{len(parts)}")
        served.update(deployment.talk(parts[-1], 12))
        return len(served) > 2 and len(parts) > 3

    assert eventually(several_served)
    deployment.stop()
    assert deployment.arrived(*(name for part in parts for name in numbered(part, 12))) == NOTHING


@preload
def test_the_asgi_worker(deployment: Deployment, preload: Sequence[str]) -> None:
    """Uvicorn's worker of gunicorn: an app that calls shutdown() in its lifespan loses nothing."""
    deployment.gunicorn("-w", "2", "-k", "uvicorn_worker.UvicornWorker", *preload, "shop:asgi")
    deployment.talk("asked", 24)
    deployment.stop()
    assert deployment.arrived(*numbered("asked", 24)) == NOTHING
