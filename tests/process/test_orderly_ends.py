"""However a process ends in order, what it recorded is delivered: flush_interval is an hour, so only the end sends."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.delivery.harness import Held, held, words
from tests.patience import HANG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from converra.server.run import LocalServer

ENDS: dict[str, tuple[str, int]] = {
    "falls off the end": ("record(started(), 'a', 1, 2)", 0),
    "sys.exit": ("record(started(), 'a', 1, 2); sys.exit(3)", 3),
    "an exception": ("record(started(), 'a', 1, 2); raise ValueError", 1),
    "Ctrl-C": (
        (  # a shell lets the commands that it runs in the background ignore SIGINT, and their children too
            "signal.signal(signal.SIGINT, signal.default_int_handler); sender = started(); record(sender, 'a', 1, 2);"
            # an import at exit, as of httpx, may have Python forget that it was Ctrl-C: the status is 1 then
            " until(lambda: sender._flusher._transport.connection);"
            " os.kill(os.getpid(), signal.SIGINT); time.sleep(LONG)"
        ),
        -signal.SIGINT,
    ),
    "sys.exit in a handler of SIGTERM": (
        (
            "signal.signal(signal.SIGTERM, lambda *_: sys.exit(4)); record(started(), 'a', 1, 2);"
            " os.kill(os.getpid(), signal.SIGTERM); time.sleep(LONG)"
        ),
        4,
    ),
    "SIGTERM with handle_sigterm": (
        "record(started(handle_sigterm=True), 'a', 1, 2); os.kill(os.getpid(), signal.SIGTERM); time.sleep(LONG)",
        -signal.SIGTERM,
    ),
    "a thread that outlives the main one": (
        "threading.Thread(target=lambda: (time.sleep(0.3), record(started(), 'a', 1, 2))).start()",
        0,
    ),
    "an atexit handler that records": (
        "sender = started(); atexit.register(lambda: record(sender, 'a', 1, 2))",
        0,
    ),
    "an atexit handler that was there before us": (
        "def late(): record(sender, 'a', 1, 2)\natexit.register(late)\nsender = started()",
        0,
    ),
    "asyncio.run that has ended": (
        "import asyncio\nasync def main(): record(started(), 'a', 1, 2)\nasyncio.run(main())",
        0,
    ),
    "a finalizer": (
        (
            "class Late:\n    def __init__(self): self.sender = started()\n"
            "    def __del__(self): record(self.sender, 'a', 1, 2)\nlate = Late()\ndel late"
        ),
        0,
    ),
}


@pytest.mark.parametrize(("code", "status"), ENDS.values(), ids=ENDS)
def test_an_orderly_end_delivers(server: LocalServer, start: Callable[..., Any], code: str, status: int) -> None:
    """All turns are there, once, completed; the exit status is what it would have been, and nothing is printed."""
    ended = start("sender = None\n" + code).ended()
    conversation = Held(server)
    assert (conversation.words, conversation.status) == (words(1, 2), "completed")
    assert ended.status == status
    assert "converra" not in ended.err.replace("tests/process", "")


def test_a_conversation_left_open_is_completed(server: LocalServer, start: Callable[..., Any]) -> None:
    """Process exit ends what is open."""
    start("record(started(), 'a', 1, end=False)").ended()
    assert Held(server).status == "completed"


def test_many_conversations_are_delivered_at_exit(server: LocalServer, start: Callable[..., Any]) -> None:
    """A burst just before the end arrives whole."""
    start("sender = started()\nfor number in range(60): record(sender, str(number), 1, 2)").ended()
    found = held(server)
    assert len(found) == 60
    assert all((one.words, one.status) == (words(1, 2), "completed") for one in found)


def test_sigterm_without_a_handler_kills_as_before(server: LocalServer, start: Callable[..., Any]) -> None:
    """Without handle_sigterm nobody touches the signal."""
    child = start("record(started(), 'a', 1, 2); print('ready', flush=True); time.sleep(LONG)").ready()
    child.signal(signal.SIGTERM)
    assert child.ended().status == -signal.SIGTERM


def test_an_own_handler_of_sigterm_is_left_alone(server: LocalServer, start: Callable[..., Any]) -> None:
    """handle_sigterm takes the signal only where nobody else has."""
    code = """
    signal.signal(signal.SIGTERM, lambda *_: print("mine", flush=True))
    record(started(handle_sigterm=True), 'a', 1, 2)
    os.kill(os.getpid(), signal.SIGTERM)
    """
    assert start(code).ended().out == "mine\n"
    assert Held(server).words == words(1, 2)


@pytest.mark.parametrize("fault", [{"kind": "hang"}, {"kind": "drip", "seconds": 1.0}], ids=["hang", "drip"])
def test_exit_keeps_to_its_budget(
    server: LocalServer, start: Callable[..., Any], stopwatch: Callable[[], float], fault: Any
) -> None:
    """A server that does not answer costs the exit no more than shutdown_timeout, and the loss is said."""
    server.faults.add("any", times=None, **fault)
    ended = start("for key in range(90): record(started(), str(key), 1, 2)", SHUTDOWN_TIMEOUT="1").ended()
    assert stopwatch() < HANG  # one after the other, they would take 90 s
    assert ended.status == 0
    assert ended.err.count("4 messages were still waiting") == 90


def test_exit_keeps_to_its_budget_where_nothing_listens(
    start: Callable[..., Any], stopwatch: Callable[[], float]
) -> None:
    """Neither does a server that is not there."""
    code = """
    sender = started()
    for key in range(9): record(sender, str(key), 1, 2)
    until(lambda: sender.stats().last_error)
    """
    ended = start(code, BASE_URL="http://127.0.0.1:9/api/v1", SHUTDOWN_TIMEOUT="1").ended()
    assert stopwatch() < HANG
    assert "36 messages were still waiting" in ended.err
    assert "127.0.0.1:9" in ended.err


@pytest.fixture
def dripping() -> Iterator[str]:
    """The address of a server that never ends its part of the TLS handshake, a byte at a time."""

    def drip(listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection = listening.accept()[0]
                threading.Thread(target=say, args=(connection,), daemon=True).start()

    def say(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.sendall(b"\x16\x03\x03\x40\x00\x02")  # a record of 16 KB begins
            while True:
                connection.sendall(b"\x00")
                time.sleep(0.1)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=drip, args=(listening,), daemon=True).start()
        yield f"https://127.0.0.1:{listening.getsockname()[1]}/api/v1"


def test_flush_and_exit_keep_to_their_budget_while_tls_drips(
    start: Callable[..., Any], dripping: str, stopwatch: Callable[[], float]
) -> None:
    """Neither waits for a handshake that goes on for ever."""
    code = """
    sender = started()
    record(sender, "a", 1, 2)
    began = time.monotonic()
    assert not sender.flush(0.5)
    print(time.monotonic() - began)
    """
    ended = start(code, BASE_URL=dripping, SHUTDOWN_TIMEOUT="1").ended()
    assert (ended.status, float(ended.out) < HANG) == (0, True)
    assert stopwatch() < HANG
    assert "4 messages were still waiting" in ended.err


def test_sigterm_keeps_to_the_budget_too(
    server: LocalServer, start: Callable[..., Any], stopwatch: Callable[[], float]
) -> None:
    """A hung server does not keep a process from dying of SIGTERM."""
    server.faults.add("any", "hang", times=None)
    child = start(
        "record(started(handle_sigterm=True), 'a', 1); print('ready', flush=True)\n"
        # In Python, a signal may come too late to interrupt a sleep that begins while other threads want to run.
        "while True: time.sleep(0.1)",
        SHUTDOWN_TIMEOUT="0.5",
    ).ready()
    child.signal(signal.SIGTERM)
    assert child.ended().status == -signal.SIGTERM
    assert stopwatch() < HANG


def test_without_a_key_nothing_is_sent_and_that_is_said_once(server: LocalServer, start: Callable[..., Any]) -> None:
    """One warning names CONVERRA_API_KEY."""
    ended = start("sender = started()\nfor key in range(3): record(sender, str(key), 1)", API_KEY=None).ended()
    assert ended.status == 0
    assert ended.err.count("CONVERRA_API_KEY") == 1
    assert server.requests == []


def test_a_key_that_appears_late_is_used(server: LocalServer, start: Callable[..., Any]) -> None:
    """load_dotenv() after the first turn: what was recorded before arrives all the same."""
    code = """
    sender = started(flush_interval=0)
    record(sender, "a", 1, 2)
    assert not sender.flush(LONG)
    os.environ["CONVERRA_API_KEY"] = " late \\n"
    """
    start(code, API_KEY=None).ended()
    assert Held(server).words == words(1, 2)
