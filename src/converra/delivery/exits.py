"""The ends and the forks of a process, for every delivery in it.

=====================================  ============================================================================
how a process ends                     who delivers
=====================================  ============================================================================
normally, sys.exit, exception, Ctrl-C  `atexit`: registered with the first delivery, so handlers of the app run first
multiprocessing child (os._exit)       `multiprocessing.util.Finalize`, as `atexit` does not run there
SIGTERM                                our handler, where asked for and where none was set; a durable outbox otherwise
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

from converra import process
from converra.delivery import uwsgi
from converra.guard import guard, tell

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from converra.delivery.delivery import Delivery
    from converra.delivery.tickets import Ticket

SHARE = 0.95
"""What of `shutdown_timeout` goes to delivering; the rest is for Python to take itself down."""

_deliveries: weakref.WeakSet[Delivery] = weakref.WeakSet()
_hooked: list[bool] = []
_armed_in: list[int] = []
"""The process whose multiprocessing finalizer is set."""


def watch(delivery: Delivery) -> None:
    """See to it that a delivery is asked before the process ends, and told when it is forked."""
    if delivery.config.handle_sigterm and threading.current_thread() is threading.main_thread():
        _handle_sigterm()
    if not _hooked:
        _hooked.append(True)
        atexit.register(_at_exit)
        process.in_child(_after_fork)
    uwsgi.hook(_after_fork_in_c, _before_uwsgi_exits)
    _deliveries.add(delivery)


def arm(delivery: Delivery) -> None:
    """Prepare for the ends that have no `atexit`, once there is something to deliver."""
    if delivery.config.handle_sigterm:
        _handle_sigterm()
    for name in ("multiprocessing", "billiard"):
        util, process = sys.modules.get(f"{name}.util"), sys.modules.get(f"{name}.process")
        if util is not None and process is not None and _is_child(process) and os.getpid() not in _armed_in:
            _armed_in.append(os.getpid())
            util.Finalize(None, _before_end, exitpriority=-100)


def _is_child(process: object) -> bool:
    current = getattr(process, "current_process", None)
    return current is not None and getattr(current(), "_parent_pid", None) is not None


def before_end(close: Callable[[], None]) -> None:
    """Have something done while there is still time to deliver what it records."""
    _closing.append(close)


_closing: list[Callable[[], None]] = []


def _at_exit() -> None:
    with uwsgi.signals_blocked():
        _before_end(finalising=True)


def _before_uwsgi_exits() -> None:
    with uwsgi.signals_blocked():
        _before_end()


def _before_end(*, finalising: bool = False) -> None:
    """All at the same time, so that together they take no longer than one may."""
    asked: list[tuple[Delivery, Ticket | None]] = []
    with guard("delivering at exit"):
        for close in _closing:
            close()
        began = time.monotonic()
        asked.extend((delivery, delivery.begin_exit(finalising=finalising)) for delivery in tuple(_deliveries))
        for delivery, ticket in asked:
            delivery.finish_exit(ticket, began + SHARE * delivery.config.shutdown_timeout)


def _handle_sigterm() -> None:
    """Take the signal where nobody else has; Python lets only the main thread do so."""
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _on_sigterm)
    else:
        tell("sigterm", "converra: handle_sigterm works only where instrument() is called in the main thread.")


def _on_sigterm(number: int, _frame: FrameType | None) -> None:
    """Deliver, and die of the signal. What it has interrupted in the middle of assembling is finished first."""
    if any(delivery.backlog.postpone(lambda: _on_sigterm(number, None)) for delivery in tuple(_deliveries)):
        return
    _before_end()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _after_fork() -> None:
    for delivery in tuple(_deliveries):
        with guard("starting clean in a child process"):
            delivery.after_fork()


def _after_fork_in_c() -> None:
    process.check()
    for delivery in tuple(_deliveries):
        with guard("looking for what an earlier process has left"):
            delivery.resume()
