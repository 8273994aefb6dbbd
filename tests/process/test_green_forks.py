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
import os, sys, time, threading
from tests.process.child import record, started
def in_child(): pass
"""

EVENTLET = """
import os, warnings; warnings.simplefilter("ignore")
os.environ["EVENTLET_NO_GREENDNS"] = "yes"  # it stumbles over an object of its own where dnspython is installed
import eventlet; eventlet.monkey_patch()
import sys, time, threading
from tests.process.child import record, started
def in_child(): pass  # the hub of the parent goes on, and shares its epoll descriptor
"""

TALK = """
sender = started(flush_interval=0.05)

def talk(name, count=4):
    for number in range(count):
        record(sender, f"{name}-{number}", f"{name}-{number}.0", f"{name}-{number}.1", f"{name}-{number}.2")
        time.sleep(0.01)

def fork(name):
    child = os.fork()
    if child == 0:
        in_child()
        talk(name)
        sys.exit()
    return child
"""

NOTHING: dict[str, list[str]] = {"mixed": [], "twice": [], "lost": []}

outboxes = pytest.mark.parametrize("outbox", [None, "outbox.sqlite3"], ids=["memory", "durable"])
moments = pytest.mark.parametrize("moment", [0.0, 0.03, 0.08, 0.15])


def _problems(server: LocalServer, *names: str, count: int = 4) -> dict[str, list[str]]:
    """What is wrong with what arrived: words of two conversations in one, words that came twice, and lost ones."""
    heard: collections.Counter[str] = collections.Counter()
    mixed = []
    for conversation in held(server):
        told = [word for word in conversation.words if word != "Conversation ended."]
        heard.update(told)
        if len({word.split()[1].split(".")[0] for word in told}) > 1:
            mixed.append(str(told))
    expected = {
        f"{kind} {name}-{number}.{turn}"
        for kind in ("question", "answer")
        for name in names
        for number in range(count)
        for turn in range(3)
    }
    twice = sorted(word for word, times in heard.items() if times > 1)
    return {"mixed": mixed, "twice": twice, "lost": sorted(expected - heard.keys())}


@pytest.fixture
def run(
    server: LocalServer, start: Callable[..., Any], tmp_path: Path, outbox: str | None
) -> Callable[[str, str], None]:
    """Runs a program against a server that takes a while for each request; returns once it has ended well."""

    def to_the_end(world: str, code: str) -> None:
        server.faults.add("any", "delay", times=None, seconds=0.05)
        program = world + TALK + "\n".join(line.removeprefix("    ") for line in code.splitlines())
        ended = start(program, OUTBOX=outbox and tmp_path / outbox, SHUTDOWN_TIMEOUT=20).ended()
        assert (ended.status, ended.err) == (0, "")

    return to_the_end


THREE_FORKS = """
    talk("before")
    time.sleep({moment})
    children = [fork(f"child{{number}}") for number in range(3)]
    talk("parent")
    for child in children: assert os.waitpid(child, 0)[1] == 0
    """


@outboxes
@moments
def test_forks_while_requests_are_under_way(run: Callable[..., None], server: LocalServer, moment: float) -> None:
    """Each of three children that are forked amid requests delivers its own turns, and its parent all of the rest."""
    run(GEVENT, THREE_FORKS.format(moment=moment))
    assert _problems(server, "before", "parent", "child0", "child1", "child2") == NOTHING


@outboxes
def test_forks_by_several_green_threads_at_once(run: Callable[..., None], server: LocalServer) -> None:
    """Two that fork at the same moment neither hang nor send anything again."""
    code = """
    talk("before")
    children, parent = [], os.getpid()
    def work(name):
        child = os.fork()
        if child == 0:
            if os.getppid() != parent: os._exit(0)  # a copy of the other thread has forked, in a child
            talk(name)
            sender.flush(20)
            os._exit(0)
        children.append(child)
    threads = [threading.Thread(target=work, args=(f"child{number}",)) for number in range(2)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    talk("parent")
    for child in children: assert os.waitpid(child, 0)[1] == 0
    """
    run(GEVENT, code)
    assert _problems(server, "before", "parent", "child0", "child1") == NOTHING


@outboxes
def test_a_child_that_is_patched_after_the_fork(run: Callable[..., None], server: LocalServer) -> None:
    """As gunicorn's gevent worker does it with --preload: what was made before does not stop the green threads."""
    code = """
    talk("before")
    child = os.fork()
    if child == 0:
        from gevent import monkey, hub; monkey.patch_all(); hub.reinit()
        import gevent
        ticks = []
        def tick():
            while True:
                ticks.append(time.monotonic())
                gevent.sleep(0.01)
        gevent.spawn(tick)
        gevent.joinall([gevent.spawn(talk, f"child{number}") for number in range(3)])
        gevent.sleep(1)
        assert len(ticks) > 20, len(ticks)
        sys.exit()
    assert os.waitpid(child, 0)[1] == 0
    """
    run("\nimport os, sys, time\nfrom tests.process.child import record, started\n", code)
    assert _problems(server, "before", "child0", "child1", "child2") == NOTHING


@outboxes
def test_a_child_of_a_child(run: Callable[..., None], server: LocalServer) -> None:
    """Each generation starts clean."""
    code = """
    talk("before")
    child = os.fork()
    if child == 0:
        talk("child")
        grandchild = fork("grandchild")
        assert os.waitpid(grandchild, 0)[1] == 0
        sys.exit()
    talk("parent")
    assert os.waitpid(child, 0)[1] == 0
    """
    run(GEVENT, code)
    assert _problems(server, "before", "parent", "child", "grandchild") == NOTHING


@pytest.mark.parametrize("outbox", [None])
def test_a_request_of_the_client_goes_on_in_the_parent_only(run: Callable[..., None], server: LocalServer) -> None:
    """A copy of a green thread that waits for an answer fails with an APIConnectionError."""
    code = f"""
    import gevent
    from converra import APIConnectionError, Converra
    client = Converra(api_key="k", base_url={server.base_url!r}, max_retries=0)
    def ask():
        try: answers.append(type(client.conversations.list()).__name__)
        except APIConnectionError: answers.append("failed")
    answers = []
    ask()
    asking = gevent.spawn(ask)
    time.sleep(0.02)
    child = os.fork()
    if child == 0:
        time.sleep(0.3)
        ask()
        print(answers)
        sys.exit(answers != ["Page", "failed", "Page"])
    asking.join()
    assert answers == ["Page", "Page"], answers
    assert os.waitpid(child, 0)[1] == 0
    """
    run(GEVENT, code)


@outboxes
@moments
def test_eventlet(run: Callable[..., None], server: LocalServer, moment: float) -> None:
    """The same with eventlet's green threads."""
    run(EVENTLET, THREE_FORKS.format(moment=moment))
    assert _problems(server, "before", "parent", "child0", "child1", "child2") == NOTHING
