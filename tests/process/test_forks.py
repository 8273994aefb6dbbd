"""Forks: the child starts clean and delivers its own turns; the parent's are sent by the parent alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.delivery.harness import held, words

if TYPE_CHECKING:
    from collections.abc import Callable

    from converra.server.run import LocalServer

pytestmark = pytest.mark.parametrize("outbox", [None, "outbox.sqlite3"], ids=["memory", "durable"])


@pytest.fixture
def run(
    start: Callable[..., Any], tmp_path: Any, outbox: str | None, server: LocalServer
) -> Callable[[str], dict[tuple[str, ...], str]]:
    """Runs a program to its end; returns what every conversation holds, and its status."""

    def to_the_end(code: str, *, cold: bool = False) -> dict[tuple[str, ...], str]:
        ended = start(code, cold=cold, OUTBOX=outbox and tmp_path / outbox).ended()
        assert (ended.status, ended.err) == (0, "")
        found = held(server)
        all_words = {tuple(one.words): one.status for one in found}
        assert len(all_words) == len(found)
        return all_words

    return to_the_end


def _completed(*turns: tuple[int | str, ...]) -> dict[tuple[str, ...], str]:
    return {tuple(words(*numbers)): "completed" for numbers in turns}


def test_parent_and_child_each_deliver_their_own(run: Callable[[str], Any]) -> None:
    """What waited when the process forked is sent once, by the parent; what the child records, by the child."""
    code = """
    sender = started()
    record(sender, "before", 1, 2)
    child = os.fork()
    if child == 0:
        record(sender, "child", 3)
        assert sender.stats().captured == 2
        sys.exit()
    record(sender, "parent", 4)
    os.waitpid(child, 0)
    """
    assert run(code) == _completed((1, 2), (3,), (4,))


def test_a_child_of_a_parent_that_only_imported(run: Callable[[str], Any]) -> None:
    """Where only the child records, or nobody does, it delivers and ends without a word (gunicorn --preload)."""
    code = """
    for records in (True, False):
        child = os.fork()
        if child == 0:
            sender = started()
            if records: record(sender, "child", 1)
            sys.exit()
        assert os.waitpid(child, 0)[1] == 0
    """
    assert run(code) == _completed((1,))


def test_a_child_of_a_busy_parent_delivers(run: Callable[[str], Any]) -> None:
    """A fork while workers are connected and sending leaves no lock taken and no socket shared (gunicorn --preload)."""
    code = """
    sender = started(flush_interval=0)
    record(sender, "warm", 0)
    assert sender.flush(LONG)
    children = []
    for number in range(1, 9):
        record(sender, f"p{number}", number)
        child = os.fork()
        if child == 0:
            record(sender, f"c{number}", 100 + number)
            assert sender.flush(LONG)
            sys.exit()
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 8
    """
    expected = _completed((0,), *((n,) for n in range(1, 9)), *((n,) for n in range(101, 109)))
    found = run(code)
    # whatever was sent before its end was recorded is ended by a message of ours
    assert {tuple(w for w in told if w != "Conversation ended."): status for told, status in found.items()} == expected


def test_an_inherited_conversation_goes_on_as_the_childs_own(run: Callable[[str], Any], server: LocalServer) -> None:
    """A child that goes on in a conversation of its parent does so in one of its own, which names the parent's."""
    code = """
    from converra.delivery.header import Header
    from tests.delivery.harness import turn
    sender = started()
    queue = sender.open(Header(key="shared", prompt_id="prompt"))
    queue.append(turn(1))
    assert sender.flush(LONG)
    child = os.fork()
    queue.append(turn(2 if child else 3))
    if child:
        os.waitpid(child, 0)
    queue.end()
    """
    assert run(code) == _completed((1, 2), (3,))
    parent, child = held(server)
    assert child.metadata["forkedFrom"] == parent.id


def test_a_fork_while_the_first_import_is_under_way(run: Callable[[str], Any]) -> None:
    """A child that is forked while a worker imports httpx does not find it half imported for ever."""
    code = """
    sender = started()
    record(sender, "parent", 1)
    child = os.fork()
    if child == 0:
        record(sender, "child", 2)
        sys.exit(0 if sender.flush(LONG) else 1)
    assert os.waitpid(child, 0)[1] == 0
    """
    assert run(code) == _completed((1,), (2,))


def test_a_fork_while_the_first_import_takes_long(run: Callable[..., Any]) -> None:
    """On a busy machine it takes seconds: the fork waits, since a child with half an httpx would never deliver."""
    code = """
    class Busy:
        def find_spec(self, name, path=None, target=None):
            if name == "httpx._models":
                importing.set()
                time.sleep(3)

    importing = threading.Event()
    sys.meta_path.insert(0, Busy())
    sender = started()
    record(sender, "parent", 1)
    assert importing.wait(LONG)
    child = os.fork()
    if child == 0:
        record(sender, "child", 2)
        sys.exit(0 if sender.flush(LONG) else 1)
    assert os.waitpid(child, 0)[1] == 0
    """
    assert run(code, cold=True) == _completed((1,), (2,))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_children_deliver(run: Callable[[str], Any], method: str) -> None:
    """Children of multiprocessing end with os._exit and run no atexit: they deliver all the same."""
    code = f"""
    import multiprocessing
    from tests.process.child import work
    sender = started()
    record(sender, "parent", 1)
    context = multiprocessing.get_context("{method}")
    children = [context.Process(target=work, args=(number,)) for number in (2, 3)]
    for child in children: child.start()
    for child in children: child.join()
    assert [child.exitcode for child in children] == [0, 0]
    """
    assert run(code) == _completed((1,), (2,), (3,))


def test_a_pool_of_processes_delivers(run: Callable[[str], Any]) -> None:
    """So do the workers of a ProcessPoolExecutor."""
    code = """
    from concurrent.futures import ProcessPoolExecutor
    from tests.process.child import work
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(work, range(6)))
    """
    assert run(code) == _completed(*((n,) for n in range(6)))


def test_a_thousand_deliveries_come_and_go(run: Callable[[str], Any]) -> None:
    """The fork hook holds on to nothing, and is silent about what is gone."""
    code = """
    import gc, weakref
    gone = [weakref.ref(started()) for _ in range(1000)]
    gc.collect()
    assert [ref for ref in gone if ref() is not None] == []
    child = os.fork()
    if child == 0: sys.exit()
    assert os.waitpid(child, 0)[1] == 0
    """
    assert run(code) == {}


def test_a_child_has_no_blocks_of_other_threads(run: Callable[[str], Any]) -> None:
    """They did not come along: no call in the child is said to belong into one of them."""
    code = """
    from converra.process import context
    from converra.capture.recorder import Recorder

    def other():
        context.Entered(object())
        opened.set()
        threading.Event().wait()

    def fork():
        seen.append(context.open_elsewhere())
        child = os.fork()
        if child == 0:
            os._exit(context.open_elsewhere())
        seen.append(os.waitpid(child, 0)[1])

    recorder, opened, seen = Recorder(), threading.Event(), []
    threading.Thread(target=other, daemon=True).start()
    opened.wait()
    forking = threading.Thread(target=fork)
    forking.start()
    forking.join()
    assert seen == [True, 0]
    """
    assert run(code) == {}


def test_a_child_has_no_connection_of_its_parent(run: Callable[[str], Any], server: LocalServer) -> None:
    """Also not one that a thread was using just then: the server would not notice that the parent has closed it."""
    port = urlsplit(server.base_url).port
    code = f"""
    import socket
    sender = started(flush_interval=0)
    def connections():
        found = 0
        for name in os.listdir("/proc/self/fd"):
            try: found += socket.socket(fileno=os.dup(int(name))).getpeername()[1:2] == ({port},)
            except OSError: pass
        return found
    record(sender, "warm", 1)
    assert sender.flush(5)
    record(sender, "parent", 2)
    time.sleep(0.15)
    assert connections()
    child = os.fork()
    if child == 0:
        os._exit(connections())
    assert os.waitpid(child, 0)[1] == 0
    """
    server.faults.add("any", "delay", times=None, seconds=0.3)
    assert run(code) == _completed((1,), (2,))
