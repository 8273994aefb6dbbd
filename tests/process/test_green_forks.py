"""Forks of a process whose threads are green: they survive a fork, and must not go on in the child."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Any

import pytest

from tests.delivery.harness import held

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from converra.server.run import LocalServer

GEVENT = """
from gevent import monkey; monkey.patch_all()
import os, sys, time, threading, gevent
from tests.process.child import record, started
"""

EVENTLET = """
import warnings; warnings.simplefilter("ignore")
import eventlet; eventlet.monkey_patch()
import os, sys, time, threading, eventlet.hubs
from tests.process.child import record, started
"""

TALK = """
sender = started(flush_interval=0.05)

def talk(name, count=4):
    for number in range(count):
        record(sender, f"{name}-{number}", f"{name}-{number}.0", f"{name}-{number}.1", f"{name}-{number}.2")
        time.sleep(0.01)
"""


def _problems(server: LocalServer, *names: str, count: int = 4) -> dict[str, list[str]]:
    """What is wrong with what arrived: words of two conversations in one, words that came twice, and lost ones."""
    heard: collections.Counter[str] = collections.Counter()
    problems: dict[str, list[str]] = {"mixed": [], "twice": [], "lost": []}
    for conversation in held(server):
        told = [word for word in conversation.words if word != "Conversation ended."]
        heard.update(told)
        if len({word.split()[1].split(".")[0] for word in told}) > 1:
            problems["mixed"].append(str(told))
    expected = {
        f"{kind} {name}-{number}.{turn}"
        for kind in ("question", "answer")
        for name in names
        for number in range(count)
        for turn in range(3)
    }
    problems["twice"] = sorted(word for word, times in heard.items() if times > 1)
    problems["lost"] = sorted(expected - heard.keys())
    return problems


NONE: dict[str, list[str]] = {"mixed": [], "twice": [], "lost": []}


@pytest.mark.parametrize("outbox", [None, "outbox.sqlite3"], ids=["memory", "durable"])
@pytest.mark.parametrize("moment", [0.0, 0.03, 0.08, 0.15])
def test_forks_while_requests_are_under_way(
    server: LocalServer, start: Callable[..., Any], tmp_path: Path, outbox: str | None, moment: float
) -> None:
    """Each of three children that are forked amid requests delivers its own turns, and its parent all of the rest."""
    code = f"""
    talk("before")
    gevent.sleep({moment})
    children = []
    for number in range(3):
        child = os.fork()
        if child == 0:
            talk(f"child{{number}}")
            sys.exit()
        children.append(child)
    talk("parent")
    for child in children: os.waitpid(child, 0)
    """
    server.faults.add("any", "delay", times=None, seconds=0.05)
    ended = start(_program(GEVENT, code), OUTBOX=outbox and tmp_path / outbox, SHUTDOWN_TIMEOUT=20).ended()
    assert (ended.status, ended.err) == (0, "")
    assert _problems(server, "before", "parent", "child0", "child1", "child2") == NONE


def _program(world: str, code: str) -> str:
    return world + TALK + "\n".join(line.removeprefix("    ") for line in code.splitlines())
