"""The ends of a process, and the hooks that deliver before each; the phases of an exit are in `lifecycle.py`.

=====================================  ============================================================================
how a process ends                     who delivers
=====================================  ============================================================================
normally, sys.exit, exception, Ctrl-C  `atexit`: registered with the first delivery, so handlers of the app run first
multiprocessing child (os._exit)       `multiprocessing.util.Finalize`, as `atexit` does not run there
SIGTERM                                our handler, where asked for and where none was set; a durable outbox otherwise
a server's worker stops                see `servers.py`, where the servers are known by name
os._exit, SIGKILL                      the next process, with a durable outbox
fork                                   the child starts clean; the parent delivers what was recorded before
uWSGI stops or recycles a worker       `uwsgi.atexit`, and `atexit` where that runs
=====================================  ============================================================================
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

from converra.process import lifecycle, servers, uwsgi
from converra.process.guard import guard, log_limited

if TYPE_CHECKING:
    from types import FrameType

    from converra.process.lifecycle import Delivering

SERVER_MODULES = tuple(server.module for server in servers.SERVERS)
"""Modules of the known servers; `on_server_import` is to be called when one is imported."""

_hooked: list[bool] = []
_armed_in: list[int] = []
"""Ids of the processes that have set the finalizer of multiprocessing: this one, and its ancestors."""


def watch(delivery: Delivering) -> None:
    """Deliver what a delivery holds before the process ends, and have it start clean in forked children."""
    if threading.current_thread() is threading.main_thread():
        _prepare_sigterm(delivery)
    if not _hooked:
        _hooked.append(True)
        atexit.register(_at_exit)
    uwsgi.hook(_after_fork_in_c, _before_uwsgi_exits)
    lifecycle.add_delivery(delivery)


def arm(delivery: Delivering) -> None:
    """Prepare for the ends that run no `atexit`; called once there is something to deliver."""
    servers.hook()
    _prepare_sigterm(delivery)
    for name in ("multiprocessing", "billiard"):
        util, process = sys.modules.get(f"{name}.util"), sys.modules.get(f"{name}.process")
        if util is not None and process is not None and _is_child(process) and os.getpid() not in _armed_in:
            _armed_in.append(os.getpid())
            util.Finalize(None, lifecycle.deliver_all, exitpriority=-100)


def on_server_import() -> None:
    """Set the hook of a server that was just imported, if any recorder captures calls."""
    if lifecycle.is_capturing():
        servers.hook()


def _is_child(process: object) -> bool:
    current = getattr(process, "current_process", None)
    return current is not None and getattr(current(), "_parent_pid", None) is not None


def _at_exit() -> None:
    with uwsgi.signals_blocked():
        lifecycle.deliver_all(finalising=True)


def _before_uwsgi_exits() -> None:
    with uwsgi.signals_blocked():
        lifecycle.deliver_all()


def _after_fork_in_c() -> None:
    lifecycle.check()
    for delivery in lifecycle.deliveries.alive():
        with guard("looking for what an earlier process has left"):
            delivery.resume()


def _prepare_sigterm(delivery: Delivering) -> None:
    """Handle SIGTERM if that is asked for or needed and nothing handles it yet; if asked for in vain, warn."""
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
    """Return the name of a signal handler, for the log."""
    if handler is None:
        return "a handler that was not set from Python"
    name = getattr(handler, "__qualname__", None) or type(handler).__qualname__
    return f"{getattr(handler, '__module__', None) or 'an unknown module'}.{name}"


def _on_sigterm(number: int, _frame: FrameType | None) -> None:
    """Deliver, then die of the signal. A job that the signal has interrupted on this thread is finished first."""
    if any(each.jobs.postpone(lambda: _on_sigterm(number, None)) for each in lifecycle.deliveries.alive()):
        return
    lifecycle.deliver_all()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
