"""Servers that are known by name: uvicorn in a child process, and the handlers of SIGTERM that are not ours."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.delivery.harness import Held, words

if TYPE_CHECKING:
    from collections.abc import Callable

    from converra.server.run import LocalServer

UVICORN = """
import asyncio, uvicorn
{before}

class Server(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets=sockets)
        record(started({settings}), "a", 1, end=False)
        print("ready", flush=True)

async def app(scope, receive, send):
    raise RuntimeError("nobody asks")

{run}
print("went on")
"""

SERVE = "Server(uvicorn.Config(app, port=0, log_level='error', lifespan='off')).run()"


def _uvicorn(before: str = "", settings: str = "", run: str = SERVE) -> str:
    return UVICORN.format(before=before, settings=settings, run=run)


def _arrived(server: LocalServer) -> bool:
    return (Held(server).words, Held(server).status) == (words(1), "completed")


@pytest.mark.parametrize("settings", ["", "handle_sigterm=True"])
def test_uvicorn_delivers_before_it_dies_of_sigterm(
    server: LocalServer, start: Callable[..., Any], settings: str
) -> None:
    """What is open is completed and sent between the end of the app and the signal that uvicorn raises again."""
    child = start(_uvicorn(settings=settings)).ready()
    child.signal(signal.SIGTERM)
    ended = child.ended()
    assert (ended.status, ended.out, ended.err) == (-signal.SIGTERM, "", "")
    assert _arrived(server)


def test_uvicorn_that_is_interrupted_ends_as_before(server: LocalServer, start: Callable[..., Any]) -> None:
    """Ctrl-C is an exception, after which Python cleans up: the app decides what comes next."""
    child = start(_uvicorn(run=f"try: {SERVE}\nexcept KeyboardInterrupt: print('interrupted')")).ready()
    child.signal(signal.SIGINT)
    ended = child.ended()
    assert (ended.status, ended.out.split("\n")) == (0, ["interrupted", "went on", ""])
    assert _arrived(server)


def test_a_server_that_was_told_to_stop_leaves_the_rest_open(server: LocalServer, start: Callable[..., Any]) -> None:
    """Where no signal ends the process, its conversations go on after the server's end."""
    run = """
async def main():
    server = Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    server.should_exit = True
    await serving

asyncio.run(main())
from converra.process import lifecycle
(sender,) = lifecycle.deliveries.alive()
assert sender.flush(10)
print(sender.stats().pending)
os._exit(0)
"""
    ended = start(_uvicorn(run=run)).ended()
    assert (ended.status, ended.err) == (0, "")
    assert (Held(server).words[:1], Held(server).status) == (words(1)[:1], "active")


def test_an_app_that_raises_at_its_end_is_not_noticed(server: LocalServer, start: Callable[..., Any]) -> None:
    """What uvicorn's shutdown raises passes, and everything has arrived."""
    before = """
async def broken(self):
    raise LookupError("at the end")
uvicorn.lifespan.off.LifespanOff.shutdown = broken
"""
    child = start(_uvicorn(before="import uvicorn.lifespan.off" + before)).ready()
    child.signal(signal.SIGTERM)
    ended = child.ended()
    assert "LookupError: at the end" in ended.err
    assert _arrived(server)


def test_uninstrument_puts_uvicorn_back(start: Callable[..., Any]) -> None:
    """The hook is there from `instrument()` on, whenever uvicorn is imported, and gone after `uninstrument()`."""
    code = """
    import converra
    converra.instrument()
    import uvicorn
    hooked = uvicorn.Server.shutdown
    original = hooked.__wrapped__
    assert original.__module__ == "uvicorn.server"
    converra.instrument()
    assert uvicorn.Server.shutdown is hooked
    converra.uninstrument()
    assert uvicorn.Server.shutdown is original
    converra.instrument()
    assert uvicorn.Server.shutdown.__wrapped__ is original
    uvicorn.Server.shutdown = other = lambda self: None
    converra.uninstrument()
    assert uvicorn.Server.shutdown is other
    """
    ended = start(code).ended()
    assert (ended.status, ended.err) == (0, "")


FUTILE = {
    "a function": (
        "def stop(number, frame): sys.exit()\nsignal.signal(signal.SIGTERM, stop)",
        "SIGTERM is handled by __main__.stop.",
    ),
    "a method": (
        "class App:\n    def stop(self, number, frame): sys.exit()\nsignal.signal(signal.SIGTERM, App().stop)",
        "SIGTERM is handled by __main__.App.stop.",
    ),
    "an object": (
        "import functools\nsignal.signal(signal.SIGTERM, functools.partial(sys.exit, 0))",
        "SIGTERM is handled by functools.partial.",
    ),
    "an event loop": (
        "import asyncio\nloop = asyncio.new_event_loop()\nloop.add_signal_handler(signal.SIGTERM, loop.stop)",
        "SIGTERM is handled by asyncio.unix_events._sighandler_noop.",
    ),
}


@pytest.mark.parametrize("kind", FUTILE)
def test_a_setting_without_effect_is_warned_of_once(start: Callable[..., Any], kind: str) -> None:
    """Where SIGTERM has another handler already: one line says which, and what to write."""
    handler, named = FUTILE[kind]
    code = f"{handler}\nrecord(started(handle_sigterm=True), 'a', 1)\nrecord(started(handle_sigterm=True), 'b', 1)"
    lines = start(code).ended().err.splitlines()
    assert len([line for line in lines if "converra: handle_sigterm has no effect" in line]) == 1
    assert any(named in line and "call converra.shutdown() there" in line for line in lines)


def test_a_handler_that_was_set_later_is_warned_of(start: Callable[..., Any]) -> None:
    """An app that takes the signal after `instrument()` is told when the first turn is recorded."""
    code = """
    sender = started(handle_sigterm=True)
    def stop(number, frame): sys.exit()
    signal.signal(signal.SIGTERM, stop)
    record(sender, "a", 1)
    """
    assert start(code).ended().err.count("SIGTERM is handled by __main__.stop") == 1


def test_a_setting_that_comes_in_another_thread_is_warned_of(start: Callable[..., Any]) -> None:
    """Python sets signal handlers in the main thread alone."""
    code = """
    thread = threading.Thread(target=lambda: record(started(handle_sigterm=True), "a", 1))
    thread.start()
    thread.join()
    """
    ended = start(code).ended()
    assert ended.err.count("handle_sigterm has no effect: Python sets signal handlers only in the main thread") == 1


@pytest.mark.parametrize("handler", ["signal.SIG_IGN", "signal.SIG_DFL"])
def test_nothing_is_warned_of_where_nothing_is_lost(start: Callable[..., Any], handler: str) -> None:
    """A process that ignores SIGTERM does not end by it; the default handler is replaced."""
    code = f"signal.signal(signal.SIGTERM, {handler})\nrecord(started(handle_sigterm=True), 'a', 1)"
    assert start(code).ended().err == ""


def test_a_signal_during_the_exit_shares_its_budget(
    server: LocalServer, start: Callable[..., Any], stopwatch: Callable[[], float]
) -> None:
    """SIGTERM while the process delivers at its end: both together take no longer than one may, and log it once."""
    server.faults.add("any", "hang", times=None)
    code = """
    sender = started(handle_sigterm=True)
    record(sender, "a", 1)
    atexit.register(print, "ready", flush=True)
    """
    child = start(code, measured=False, SHUTDOWN_TIMEOUT=2).ready()
    began = stopwatch()
    child.signal(signal.SIGTERM)
    ended = child.ended()
    assert ended.status == -signal.SIGTERM
    assert stopwatch() - began < 2 + 1.5
    assert ended.err.count("not delivered at exit") == 1
