"""Kinds of processes that are not just a script: functions, green threads, servers without threads, busy signals."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.delivery.harness import Held, held, words

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from converra.server.run import LocalServer


def _program(code: str) -> str:
    """The lines at the left margin, where the other ones stand."""
    return "\n".join(line.removeprefix("    ") for line in code.splitlines())


def test_a_function_is_flushed_as_its_conversation_ends(server: LocalServer, start: Callable[..., Any]) -> None:
    """AWS Lambda freezes the process between calls: nothing waits for later."""
    code = """
    os.environ["AWS_LAMBDA_FUNCTION_NAME"] = "f"
    sender = started()
    record(sender, "a", 1, 2)
    assert sender.stats().delivered == 4
    os._exit(0)
    """
    assert start(code).ended().err == ""
    assert (Held(server).words, Held(server).status) == (words(1, 2), "completed")


def test_a_function_is_flushed_as_a_session_is_left(server: LocalServer, start: Callable[..., Any]) -> None:
    """A session that is kept open goes on in the next call of the function, perhaps in another process."""
    code = """
    from converra.config import load
    from converra.capture.recorder import Recorder
    os.environ["AWS_LAMBDA_FUNCTION_NAME"] = "f"
    recorder = Recorder(load({}))
    with recorder.conversation("prompt", session_id="s", keep_open=True) as conversation:
        conversation.add_message("user", "question 1")
        conversation.add_message("assistant", "answer 1")
    assert recorder.stats().delivered == 2
    os._exit(0)
    """
    assert start(code).ended().err == ""
    assert (Held(server).words, Held(server).status) == (words(1), "active")


def test_green_threads(server: LocalServer, start: Callable[..., Any]) -> None:
    """With gevent's patches everything runs in one thread, and is delivered all the same."""
    code = """
    from gevent import monkey; monkey.patch_all()
    import gevent
    from tests.process.child import record, started
    sender = started(flush_interval=0.05)
    gevent.joinall([gevent.spawn(record, sender, str(n), n, n + 100) for n in range(20)])
    assert sender.flush(LONG)
    gevent.spawn(record, sender, "last", 7).join()
    """
    assert start(code).ended().err == ""
    found = [tuple(one.words) for one in held(server)]
    assert sorted(found) == sorted([*(tuple(words(n, n + 100)) for n in range(20)), tuple(words(7))])


def test_a_server_without_threads(server: LocalServer, start: Callable[..., Any]) -> None:
    """Where uWSGI never runs a background thread: one warning, and no thread."""
    code = """
    import types
    sys.modules["uwsgi"] = types.SimpleNamespace(opt={"http": b":80"})
    sender = started()
    record(sender, "a", 1)
    record(sender, "b", 2)
    assert threading.active_count() == 1
    os._exit(0)
    """
    ended = start(code).ended()
    assert ended.err.count("enable-threads") == 1
    assert [one.words for one in held(server)] == [words(1), words(2)]


def test_a_server_with_threads(server: LocalServer, start: Callable[..., Any]) -> None:
    """With enable-threads uWSGI is like any other process."""
    code = """
    import types
    sys.modules["uwsgi"] = types.SimpleNamespace(opt={"enable-threads": b"true"})
    record(started(), "a", 1)
    """
    assert start(code).ended().err == ""
    assert Held(server).words == words(1)


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="Python itself ends a child that was forked so")
def test_a_server_that_forks_without_pythons_hooks(
    server: LocalServer, start: Callable[..., Any], tmp_path: Path
) -> None:
    """UWSGI forks in C: a child that inherits an open outbox file leaves it alone, which is said, and has memory."""
    code = """
    import ctypes
    sender = started()
    record(sender, "parent", 1)
    # else a worker may be importing its HTTP library: without the hooks nothing waits for that
    assert sender.flush(LONG)
    child = ctypes.PyDLL(None).fork()
    if child == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        record(sender, "child", 2)
        sys.exit()
    assert os.waitpid(child, 0)[1] == 0
    """
    ended = start(code, OUTBOX=tmp_path / "outbox.sqlite3").ended()
    assert ended.status == 0
    assert ended.err.count("the parent process was in the middle of using it when it forked") == 1
    assert sorted(one.words for one in held(server)) == [words(1), words(2)]


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="Python itself ends a child that was forked so")
@pytest.mark.parametrize("outbox", [None, "outbox.sqlite3"], ids=["memory", "durable"])
def test_a_child_that_was_forked_in_c(
    server: LocalServer, start: Callable[..., Any], tmp_path: Path, outbox: str | None
) -> None:
    """No hook runs there and the parent's threads seem alive: the child notices by its process id, and delivers."""
    code = """
    import ctypes
    sender = started()
    record(sender, "parent", 1)
    assert sender.flush(10)
    record(sender, "rest", 2, end=False)
    time.sleep(0.7)  # nobody is inside of SQLite then
    child = ctypes.PyDLL(None).fork()
    if child == 0:
        record(sender, "child", 3)
        os._exit(not sender.flush(10))
    assert os.waitpid(child, 0)[1] == 0
    """
    ended = start(code, OUTBOX=outbox and tmp_path / outbox).ended()
    told = sorted(one.words for one in held(server))
    assert (ended.status, told) == (0, [words(1), words(2), words(3)])


def test_a_notebook(server: LocalServer, start: Callable[..., Any]) -> None:
    """Cells that are run again, with the same settings or other ones, also after shutdown(): each turn arrives once."""
    code = """
    import converra
    def cell(number, **settings):
        converra.instrument(**settings)
        with converra.conversation("prompt") as conversation:
            conversation.add_message("user", f"question {number}")
            conversation.add_message("assistant", f"answer {number}", latency_ms=1.0)
    cell(1)
    cell(2)
    cell(3, flush_interval=1.0)
    assert converra.shutdown(LONG)
    cell(4, flush_interval=1.0)
    until(lambda: threading.active_count() < 6)
    """
    ended = start(code).ended()
    assert (ended.status, ended.err) == (0, "")
    assert sorted(one.words for one in held(server)) == [words(number) for number in (1, 2, 3, 4)]


def test_children_of_celery(server: LocalServer, start: Callable[..., Any]) -> None:
    """Its process pool is billiard, which ends children as multiprocessing does."""
    code = """
    import billiard
    from tests.process.child import work
    record(started(), "parent", 1)
    children = [billiard.Process(target=work, args=(number,)) for number in (2, 3)]
    for child in children: child.start()
    for child in children: child.join()
    """
    assert start(code).ended().status == 0
    assert sorted(one.words for one in held(server)) == [words(1), words(2), words(3)]


def test_signal_handlers_and_finalizers_may_record(server: LocalServer, start: Callable[..., Any]) -> None:
    """They interrupt a caller anywhere, also inside an append, and neither hang nor lose anything."""
    code = """
    import gc
    from converra.delivery.header import Header
    from tests.delivery.harness import turn
    sender = started(flush_interval=0.01)
    count = {"main": 0, "signal": 0, "finalizer": 0}
    queues = {name: sender.open(Header(key=name, prompt_id="p")) for name in count}

    def say(name):
        count[name] += 1
        queues[name].append(turn(f"{name} {count[name]}"))

    def on_signal(number, frame):
        say("signal")
        sender.stats()
        if count["signal"] % 10 == 0: sender.flush(0.2)

    class Cycle:
        def __init__(self): self.me = self
        def __del__(self): say("finalizer")

    gc.set_threshold(50)
    signal.signal(signal.SIGALRM, on_signal)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.003)
    until = time.monotonic() + 1.5
    while time.monotonic() < until or min(count.values()) < 2:
        for _ in range(20): say("main")
        Cycle()
        time.sleep(0.005)
    signal.setitimer(signal.ITIMER_REAL, 0)
    gc.collect()
    gc.disable()
    for queue in queues.values(): queue.end()
    print(count["main"], count["signal"], count["finalizer"])
    """
    ended = start(_program(code)).ended()
    assert (ended.status, ended.err) == (0, "")
    counts = dict(zip(("main", "signal", "finalizer"), map(int, ended.out.split()), strict=True))
    told = [word for one in held(server) for word in one.words if word.startswith(("question", "answer"))]
    assert len(told) == len(set(told))
    for name, count in counts.items():
        assert count >= 2
        mine = [word for word in told if f" {name} " in word]
        assert sorted(mine) == sorted(words(*(f"{name} {number}" for number in range(1, count + 1))))
        if name == "main":  # the others interrupt themselves
            assert mine == words(*(f"{name} {number}" for number in range(1, count + 1)))


def test_fifty_threads_that_are_first_share_one_worker(server: LocalServer, start: Callable[..., Any]) -> None:
    """A race for the first append starts one delivery, and loses nothing."""
    code = """
    sender = started()
    barrier = threading.Barrier(50)
    def first(number):
        barrier.wait()
        record(sender, str(number), number)
    threads = [threading.Thread(target=first, args=(n,)) for n in range(50)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    """
    assert start(code).ended().err == ""
    assert sorted(one.words for one in held(server)) == sorted(words(n) for n in range(50))


def test_no_key_and_no_word_of_a_prompt_in_the_log(server: LocalServer, start: Callable[..., Any]) -> None:
    """Not even at DEBUG, and not when things fail."""
    code = """
    import logging
    logging.basicConfig(level=logging.DEBUG)
    record(started(), "a", 1, 2)
    """
    server.faults.add("any", "status", status=500, times=3)
    server.faults.add("any", "reset", times=2)
    ended = start(code, API_KEY="very-secret").ended()
    assert Held(server).words == words(1, 2)
    assert "very-secret" not in ended.err
    assert "question" not in ended.err


def test_a_request_imports_nothing(start: Callable[..., Any]) -> None:
    """All is loaded when a connection is made: a child that is forked during a request inherits no half import."""
    code = """
    from converra.api import operations
    from converra.delivery.worker.transport import open_connection
    connection = open_connection("k", os.environ["CONVERRA_BASE_URL"], 5.0)
    asked = operations.create_conversation(prompt_id="p", content="User: Hi", idempotency_key="k")
    before = set(sys.modules)
    connection.send(asked)
    print(sorted(set(sys.modules) - before))
    """
    ended = start(code).ended()
    assert (ended.out, ended.err) == ("[]\n", "")


def test_an_app_without_a_key_is_told_once(server: LocalServer, start: Callable[..., Any]) -> None:
    """One warning names the variable; the app runs and ends as ever."""
    ended = start("record(started(), 'a', 1, 2); time.sleep(0.5)", API_KEY=None, FLUSH_INTERVAL="0.1").ended()
    assert ended.status == 0
    assert ended.err == (
        "converra: no API key: set CONVERRA_API_KEY, or pass api_key= to instrument(). Nothing is sent until then; "
        "messages wait, up to the bound of the outbox.\n"
    )
    assert server.requests == []


def test_the_console_alone_needs_no_key(start: Callable[..., Any]) -> None:
    """Turns are printed there; that none is sent is no warning, but a record of level INFO."""
    code = "import logging; logging.basicConfig(level='INFO'); record(started(), 'a', 1); time.sleep(0.5)"
    for level, logged in (("INFO", True), ("WARNING", False)):
        ended = start(code.replace("INFO", level), API_KEY=None, CONSOLE="1", FLUSH_INTERVAL="0.1").ended()
        assert ended.status == 0
        assert ("no API key" in ended.err) is logged
        assert bool(ended.err) is logged
