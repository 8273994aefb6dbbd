"""Servers known by name: how their worker processes end, and the hook that delivers before that.

=========  ===================================================  ==================================================
server     how a worker process ends                            hook
=========  ===================================================  ==================================================
uvicorn    restores the default handler, raises SIGTERM again   `uvicorn.Server.shutdown`, wrapped
hypercorn  normally, but the first worker that ends has the     our SIGTERM handler, in its workers
           others terminated
gunicorn   `sys.exit`; its uvicorn worker as uvicorn            none: `atexit` (uvicorn's worker: as uvicorn)
uWSGI      runs Python's exit functions                         none: `atexit`
celery     `os._exit` in children of the prefork pool           the signal `worker_process_shutdown`
RQ         `os._exit` after each job                            the worker's methods that end a job, wrapped
Lambda     is frozen after each invocation, then killed         the runtime client's wait for the next invocation
=========  ===================================================  ==================================================

A hook is set when the process records something, when `instrument()` finds the server imported, or when the server is
imported later. A server that is not imported costs nothing. Each server looks up the hooked method when it calls it. So
an app that is imported by an RQ job, or by uvicorn after it has set its signal handlers, is not too late. The last
`uninstrument()` removes the hooks.
"""

from __future__ import annotations

import asyncio
import functools
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

from converra.process import lifecycle
from converra.process.guard import guard

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    Undo = Callable[[], object]

DELIVERING = "delivering before a server's process ends"

JOB_ENDS = ("handle_job_success", "handle_job_failure", "handle_job_retry")
"""Methods of RQ's worker that end a job, each after its callbacks. Which of them exist depends on the version."""


class Server(NamedTuple):
    """A row of the table that has a hook."""

    name: str
    module: str
    """Name of a module that is imported wherever the server runs."""
    hook: Callable[[ModuleType], Undo | None]
    """Sets the hook and returns a function that removes it; None if the module lacks the hooked method."""


def _hook_uvicorn(module: ModuleType) -> Undo | None:
    """Deliver between the shutdown of the app and the signal that uvicorn raises again."""
    owner, original = _defined(getattr(module, "Server", None), "shutdown")
    if owner is None:
        return None

    @functools.wraps(original)
    async def shutdown(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return await original(self, *args, **kwargs)
        finally:
            with guard(DELIVERING):
                if _raises_again(self):
                    await run_off_loop(lifecycle.deliver_all)

    return _replace(owner, "shutdown", original, shutdown)


def _raises_again(server: Any) -> bool:
    """Return True if uvicorn will raise a signal that ends Python without `atexit`. SIGINT is a KeyboardInterrupt."""
    return any(number != signal.SIGINT for number in getattr(server, "_captured_signals", ()))


def _hook_celery(module: ModuleType) -> Undo | None:
    """Deliver when a child of the prefork pool stops or is recycled."""
    shutdown = getattr(module, "worker_process_shutdown", None)
    if shutdown is None:
        return None

    def deliver_last(**_: Any) -> None:
        lifecycle.deliver_all()

    shutdown.connect(deliver_last, weak=False, dispatch_uid="converra")
    return functools.partial(shutdown.disconnect, dispatch_uid="converra")


def _hook_rq(module: ModuleType) -> Undo | None:
    """Deliver when a job has ended, in the process that was forked for it.

    Why not wrap `perform_job`: the app may be imported by the job itself, when that method is running already.
    """
    undo = [_hook_job_end(getattr(module, "Worker", None), name) for name in JOB_ENDS]
    found = [each for each in undo if each is not None]
    return functools.partial(_call_all, found) if found else None


def _hook_job_end(worker: Any, name: str) -> Undo | None:
    owner, original = _defined(worker, name)
    if owner is None:
        return None

    @functools.wraps(original)
    def end(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(self, *args, **kwargs)
        finally:
            if getattr(self, "_is_horse", False):  # else a SimpleWorker, or the parent of a job that was killed
                with guard(DELIVERING):
                    lifecycle.deliver_all()

    return _replace(owner, name, original, end)


def _hook_lambda(module: ModuleType) -> Undo | None:
    """Send everything after an invocation was answered and before the process is frozen."""
    owner, original = _defined(getattr(module, "LambdaRuntimeClient", None), "wait_next_invocation")
    if owner is None:
        return None

    @functools.wraps(original)
    def wait_next_invocation(self: Any, *args: Any, **kwargs: Any) -> Any:
        with guard(DELIVERING):
            lifecycle.flush_all()
        return original(self, *args, **kwargs)

    return _replace(owner, "wait_next_invocation", original, wait_next_invocation)


SERVERS = (
    Server("uvicorn", "uvicorn.server", _hook_uvicorn),
    Server("celery", "celery.signals", _hook_celery),
    Server("RQ", "rq.worker", _hook_rq),
    Server("Lambda", "awslambdaric.lambda_runtime_client", _hook_lambda),
)

ENDING_WELL = frozenset({"uvicorn", "gunicorn", "celery", "billiard", "rq"})
"""Packages whose own SIGTERM handlers end the process so that everything is delivered, by `atexit` or a hook."""

ASYNCIO_SERVERS = ("hypercorn", "gunicorn.workers.gasgi")
"""Modules of servers that end normally and take SIGTERM by `loop.add_signal_handler`."""

_hooked: dict[str, Undo] = {}


def hook() -> None:
    """Set the hooks of all servers that are imported in this process. May be called again at any time."""
    for server in SERVERS:
        module = sys.modules.get(server.module)
        if module is None or server.name in _hooked:
            continue

        def claim() -> None:
            """Reserve a server in one step: several threads may come here at the same time."""

        if _hooked.setdefault(server.name, claim) is claim:
            undo = None
            with guard(f"preparing for the end of {server.name}"):
                undo = server.hook(module)
            if undo is None:
                del _hooked[server.name]
            else:
                _hooked[server.name] = undo


def unhook() -> None:
    """Remove all hooks and restore the original methods."""
    while _hooked:
        name, undo = _hooked.popitem()
        with guard(f"leaving {name} as it was"):
            undo()


def terminates_workers() -> bool:
    """Return True in a worker of hypercorn.

    When one of its workers has stopped, hypercorn sends SIGTERM to those that are still stopping, which do not handle
    it.
    """
    process = sys.modules.get("multiprocessing.process")
    target = getattr(process and process.current_process(), "_target", None)
    return (getattr(target, "__module__", None) or "").startswith("hypercorn.")


def ends_well(handler: Any) -> bool:
    """Return True if a handler of SIGTERM belongs to a server whose processes can deliver before they end."""
    if "uwsgi" in sys.modules:
        return True
    package = (getattr(handler, "__module__", None) or "").partition(".")[0]
    if package in ("asyncio", "uvloop"):
        return any(name in sys.modules for name in ASYNCIO_SERVERS)
    return package in ENDING_WELL


async def run_off_loop(work: Callable[[], object]) -> None:
    """Run `work` in a thread of its own, under asyncio or trio, and wait for it without blocking the event loop.

    Why not the loop's default executor: it belongs to the app, and its threads may all be busy when the server stops.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # not under asyncio
        await sys.modules["trio"].to_thread.run_sync(work)
        return
    pool = ThreadPoolExecutor(1, thread_name_prefix="converra")
    try:
        await loop.run_in_executor(pool, work)
    finally:
        pool.shutdown(wait=False)


def _defined(cls: Any, name: str) -> tuple[Any, Any]:
    """Return the class that defines a method, and the method; (None, None) if there is none."""
    for owner in getattr(cls, "__mro__", ()):
        if name in vars(owner):
            return owner, vars(owner)[name]
    return None, None


def _replace(owner: Any, name: str, original: Any, wrapper: Any) -> Undo:
    setattr(owner, name, wrapper)

    def undo() -> None:
        if (
            vars(owner).get(name) is wrapper
        ):  # else the wrapper was wrapped in turn; it stays, and finds nothing to deliver
            setattr(owner, name, original)

    return undo


def _call_all(calls: list[Undo]) -> None:
    for call in calls:
        call()
