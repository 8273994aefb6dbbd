"""uWSGI: it loads the app in a process that then forks in C, without Python's fork hooks.

A thread that runs during such a fork may hold the GIL, and the child would wait for it forever. So no worker runs in
the process that loads the app, and what is recorded there is sent at once: it never runs Python again. The child is
detected by `uwsgi.post_fork_hook`, or by `lifecycle.check` if the app replaces that hook.

The signal handlers of uWSGI are C functions that end the process, on any thread that the system interrupts. They crash
in a thread that runs Python, so workers block all signals. A second signal would end a process that is still
delivering: the master sends one to a worker that is being recycled. So delivering at the exit blocks signals too, no
longer than `shutdown_timeout`.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from converra.process.guard import guard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NO_THREADS = "converra: uWSGI runs without enable-threads, so each conversation is sent as it ends."

NOT_SENT = (
    "converra: what was recorded while uWSGI loaded the app could not be sent, and waits only if there is an outbox "
    "file. Last error: %s"
)

_hooked: list[object] = []
"""The module `uwsgi` once its hooks are set."""


def _module() -> Any:
    """Return the module that uWSGI puts into its processes; None in all others."""
    return sys.modules.get("uwsgi")


def runs_threads() -> bool:
    """Return True if background threads are scheduled: in uWSGI only with `enable-threads` or `threads`."""
    uwsgi = _module()
    options = getattr(uwsgi, "opt", {})
    return uwsgi is None or any(name in options or name.encode() in options for name in ("enable-threads", "threads"))


def is_loading() -> bool:
    """Return True if uWSGI loads the app in this process and will fork it: it is no worker, mule or spooler yet."""
    uwsgi = _module()
    if uwsgi is None or not hasattr(uwsgi, "worker_id") or uwsgi.worker_id() or uwsgi.mule_id():
        return False
    return uwsgi.masterpid() in (0, os.getpid())


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Block all signals under uWSGI, also in threads that are started in the block; do nothing in other processes."""
    if _module() is None:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def hook(on_fork: Callable[[], None], on_exit: Callable[[], None]) -> None:
    """Set the hooks of uWSGI, each after the app's own.

    Args:
        on_fork: Called in each process that uWSGI has forked.
        on_exit: Called before such a process ends.

    """
    uwsgi = _module()
    if uwsgi is None or uwsgi in _hooked:
        return
    _hooked.append(uwsgi)
    with guard("preparing for uWSGI's forks"):
        uwsgi.post_fork_hook = _chained(getattr(uwsgi, "post_fork_hook", None), on_fork)
        uwsgi.atexit = _chained(getattr(uwsgi, "atexit", None), on_exit)


def _chained(first: Callable[[], Any] | None, then: Callable[[], None]) -> Callable[[], None]:
    def call() -> None:
        try:
            if first is not None:
                first()
        finally:
            then()

    return call
