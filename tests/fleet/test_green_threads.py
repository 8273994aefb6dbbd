"""A producer whose threads are green, with a Redis server that stops answering."""

from __future__ import annotations

import os
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import warm
from tests.delivery.harness import held, words
from tests.fleet.redis_server import redis_server
from tests.fleet.test_fleet import relay
from tests.patience import LONG, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from converra.server.run import LocalServer

    Closing = Callable[[Callable[[], object]], None]

PROGRAM = """
from gevent import monkey; monkey.patch_all()
import gevent, os, signal, sys, time
from tests.patience import LONG, until
from tests.process.child import record, started

REDIS = int(sys.argv[1])
sender = started()
gevent.joinall([gevent.spawn(record, sender, str(number), number, number + 100) for number in range(20)])
assert sender.flush(LONG)
os.kill(REDIS, signal.SIGSTOP)
record(sender, "paused", 200)
ticks = []
def ticking():
    while True:
        ticks.append(sender.stats().pending)
        gevent.sleep(0.001)
gevent.spawn(ticking)
until(lambda: len(ticks) > 100)  # the others run while a hand-over waits for its answer
assert ticks[-1] == 2
child = os.fork()  # the copy of the thread that waits must not read the answer
os.kill(REDIS, signal.SIGCONT)
if child == 0:
    record(sender, "child", 300)
    sys.exit(0 if sender.flush(LONG, delivered=True) else 1)
assert os.waitpid(child, 0)[1] == 0
assert sender.flush(LONG, delivered=True)
record(sender, "last", 400)
"""


@pytest.mark.fleet
def test_green_threads_run_on_while_redis_does_not_answer(api: LocalServer, tmp_path: Path, closing: Closing) -> None:
    """All is delivered once by the process itself, also what a forked child records; what comes last, by another."""
    with redis_server() as redis:
        settings = {
            "API_KEY": "k",
            "BASE_URL": api.base_url,
            "OUTBOX": f"{redis.url}?lanes=4&spill={tmp_path / 'spill.db'}",
            "FLUSH_INTERVAL": "0.05",
            "TIMEOUT": str(LONG),
            "SHUTDOWN_TIMEOUT": str(LONG),
        }
        own = {f"CONVERRA_{name}": value for name, value in settings.items()}
        ended = warm.run(
            [sys.executable, "-c", textwrap.dedent(PROGRAM), str(redis.process.pid)],
            cwd=Path(__file__).parents[2],
            env={**os.environ, **own, "PYTHONWARNINGS": "ignore:This process:DeprecationWarning"},
            capture_output=True,
            text=True,
            timeout=LONG,
        )
        assert ended.returncode == 0, ended.stderr
        assert "converra failed" not in ended.stderr  # that Redis does not answer may be logged
        expected = [*(words(number, number + 100) for number in range(20)), words(200), words(300), words(400)]
        relay(api, settings["OUTBOX"], closing)
        until(lambda: sorted(each.words for each in held(api)), sorted(expected))
