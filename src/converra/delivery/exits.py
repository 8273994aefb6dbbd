"""The ends and the forks of a process, for every delivery in it.

=====================================  ============================================================================
how a process ends                     who delivers
=====================================  ============================================================================
normally, sys.exit, exception, Ctrl-C  `atexit`: registered with the first delivery, so handlers of the app run first
multiprocessing child (os._exit)       `multiprocessing.util.Finalize`, as `atexit` does not run there
SIGTERM                                our handler, where asked for and where none was set; a durable outbox otherwise
a server's worker stops                see `servers.py`, where the servers are known by name
os._exit, SIGKILL                      the next process, with a durable outbox
fork                                   the child starts clean; what was recorded before is the parent's
uWSGI stops or recycles a worker       `uwsgi.atexit`, and `atexit` where that runs
=====================================  ============================================================================
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING

from converra.process import identity, servers, uwsgi
from converra.process.guard import guard, log_limited

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from converra.delivery.delivery import Delivery
    from converra.delivery.worker.commands import FlushRequest

SHARE = 0.95
"""What of `shutdown_timeout` goes to delivering; the rest is for Python to take itself down."""

SERVER_MODULES = tuple(server.module for server in servers.SERVERS)
"""Modules whose import calls for `prepare`."""

_deliveries: weakref.WeakSet[Delivery] = weakref.WeakSet()
_hooked: list[bool] = []
_armed_in: list[int] = []
"""The process whose multiprocessing finalizer is set."""


def watch(delivery: Delivery) -> None:
    """See to it that a delivery is asked before the process ends, and told when it is forked."""
    if threading.current_thread() is threading.main_thread():
        _prepare_sigterm(delivery)
    if not _hooked:
        _hooked.append(True)
        atexit.register(_at_exit)
        identity.in_child(_after_fork)
    uwsgi.hook(_after_fork_in_c, _before_uwsgi_exits)
    _deliveries.add(delivery)


def arm(delivery: Delivery) -> None:
    """Prepare for the ends that have no `atexit`, once there is something to deliver."""
    prepare()
    _prepare_sigterm(delivery)
    for name in ("multiprocessing", "billiard"):
        util, process = sys.modules.get(f"{name}.util"), sys.modules.get(f"{name}.process")
        if util is not None and process is not None and _is_child(process) and os.getpid() not in _armed_in:
            _armed_in.append(os.getpid())
            util.Finalize(None, _before_end, exitpriority=-100)


def prepare() -> None:
    """Set the hooks of the servers that this process has imported; see `servers.py`."""
    servers.hook(_DELIVER)


def release() -> None:
    """Remove the hooks of the servers."""
    servers.unhook()


def _is_child(process: object) -> bool:
    current = getattr(process, "current_process", None)
    return current is not None and getattr(current(), "_parent_pid", None) is not None


def before_end(close: Callable[[], None], complete_implicit: Callable[[], None]) -> None:
    """Register what closes everything before the end, and what completes implicit conversations before a fork in C."""
    _closing.append(close)
    _completing.append(complete_implicit)


_closing: list[Callable[[], None]] = []
_completing: list[Callable[[], None]] = []


def complete_implicit() -> None:
    """Complete what nobody could continue: the process never runs Python again, and its children start clean."""
    for complete in _completing:
        complete()


def _at_exit() -> None:
    with uwsgi.signals_blocked():
        _before_end(finalising=True)


def _before_uwsgi_exits() -> None:
    with uwsgi.signals_blocked():
        _before_end()


def _before_end(*, finalising: bool = False) -> None:
    """Complete what is open and send everything, all deliveries at the same time, within their budget.

    A signal handler may interrupt this and do it again: both share one budget.
    """
    asked: list[tuple[Delivery, FlushRequest | None]] = []
    began = _began[0] if _began else time.monotonic()
    _began.append(began)
    try:
        with guard("delivering at exit"):
            for close in _closing:
                close()
            asked.extend((delivery, delivery.begin_exit(finalising=finalising)) for delivery in tuple(_deliveries))
            for delivery, flush_request in asked:
                delivery.finish_exit(flush_request, began + SHARE * delivery.config.shutdown_timeout)
    finally:
        _began.pop()


_began: list[float] = []
"""When the deliveries began that are under way, by the monotonic clock."""


def _send_all() -> None:
    """Send what waits, of all deliveries at the same time; what is open stays open."""
    began = time.monotonic()
    for delivery in tuple(_deliveries):
        delivery.flush(max(0.0, began + SHARE * delivery.config.shutdown_timeout - time.monotonic()))


_DELIVER = servers.Deliver(_before_end, _send_all)


def _prepare_sigterm(delivery: Delivery) -> None:
    """Take SIGTERM where that is asked for, or needed, and where it has no handler; else warn that it has."""
    asked, handler = delivery.config.handle_sigterm, signal.getsignal(signal.SIGTERM)
    if handler is signal.SIG_DFL:
        if threading.current_thread() is not threading.main_thread():
            if asked:
                log_limited("sigterm", NOT_THE_MAIN_THREAD)
        elif asked or servers.terminates_workers():
            signal.signal(signal.SIGTERM, _on_sigterm)
    elif asked and handler not in (_on_sigterm, signal.SIG_IGN) and not servers.ends_well(handler):
        log_limited("sigterm", HANDLED_ALREADY, _described(handler))


NOT_THE_MAIN_THREAD = (
    "converra: handle_sigterm has no effect: Python sets signal handlers only in the main thread. Call "
    "converra.instrument(handle_sigterm=True) there, or converra.shutdown() where your app stops."
)

HANDLED_ALREADY = (
    "converra: handle_sigterm has no effect: SIGTERM is handled by %s. Unless that ends the process with sys.exit(), "
    "call converra.shutdown() there; in an ASGI app, pass converra.asgi.lifespan to it."
)


def _described(handler: object) -> str:
    """The name of a signal handler."""
    if handler is None:
        return "a handler that was not set from Python"
    name = getattr(handler, "__qualname__", None) or type(handler).__qualname__
    return f"{getattr(handler, '__module__', None) or 'an unknown module'}.{name}"


def _on_sigterm(number: int, _frame: FrameType | None) -> None:
    """Deliver, and die of the signal. What it has interrupted in the middle of assembling is finished first."""
    if any(delivery.jobs.postpone(lambda: _on_sigterm(number, None)) for delivery in tuple(_deliveries)):
        return
    _before_end()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _after_fork() -> None:
    _began.clear()
    for delivery in tuple(_deliveries):
        with guard("starting clean in a child process"):
            delivery.after_fork()


def _after_fork_in_c() -> None:
    identity.check()
    for delivery in tuple(_deliveries):
        with guard("looking for what an earlier process has left"):
            delivery.resume()
