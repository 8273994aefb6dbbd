"""The life of a process: one registry of what takes part in its forks and in its exit, by phase.

===========  ========  ==================================================================  ===================
moment       phase     step                                                                members
===========  ========  ==================================================================  ===================
before fork  locks     `pause`: other threads leave the member, and stay out of it         outbox files, import
in parent    locks     `resume`: they may use it again                                     the same
in child     locks     `inherited`: its locks are free; other threads' blocks are closed   the same, `context`
in child     delivery  `after_fork`: sockets are the parent's, queues start empty          connections, queues
in child     capture   `after_fork`: open conversations continue as the child's own        recorders
exit         capture   `close`: open streams and conversations are completed               recorders
exit         delivery  `begin_exit` for all, then `finish_exit`, within `shutdown_timeout` deliveries
===========  ========  ==================================================================  ===================

The steps of one moment run from top to bottom. In a child, capture comes last because it opens queues in a delivery
that must have started clean. At the exit it comes first because it hands over the last messages. Within a phase the
members run in the order in which they were registered, each under a guard: one that fails stops no other.

Why pause at all: a child inherits memory but no threads. A module that another thread was importing stays half
imported in the child, and SQLite keeps in memory which locks the process holds on a file. The child would believe that
it holds them too, or wait for a write that no thread will finish.

`os.fork` runs Python's fork hooks. A server that forks in C (uWSGI) runs none, so `check` compares the process id
whenever work is handed over: once per turn, never per chunk. Then only the three steps "in child" run.
"""

from __future__ import annotations

import enum
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from converra.process import context, waits
from converra.process.guard import guard

if TYPE_CHECKING:
    from converra.config import Config
    from converra.process.jobs import JobQueue

T = TypeVar("T")

PAUSE_SECONDS = 2.0
"""Longest wait of a fork for all locks together, in seconds; the import of httpx has a longer bound of its own."""

SHARE = 0.95
"""Part of `shutdown_timeout` that delivering may use at the exit; Python needs the rest to finalise."""

STARTING_CLEAN = "starting clean in a child process"


class Pausable(Protocol):
    """A resource that other threads may be using when the process forks."""

    def pause(self, seconds: float) -> bool:
        """Keep every thread out of it until `resume`; return False if that takes longer than `seconds`."""

    def resume(self) -> None:
        """Let threads use it again, in the parent."""

    def inherited(self, *, paused: bool) -> None:
        """Make it usable, or leave it to the parent, in the child; `paused` is the result of `pause`."""


class Inherited(Protocol):
    """An object whose state a child process must not share with its parent."""

    def after_fork(self) -> None:
        """Start clean in the child."""


class Capturing(Inherited, Protocol):
    """The caller's side of one configuration: a recorder."""

    @property
    def active(self) -> bool:
        """True while calls are captured."""

    def release(self) -> None:
        """Record what is held back."""

    def close(self) -> None:
        """Complete everything that is open: the process ends."""

    def complete_implicit(self) -> None:
        """Complete the implicit conversations."""


class Delivering(Inherited, Protocol):
    """The worker's side of one configuration: a delivery."""

    config: Config
    jobs: JobQueue

    def begin_exit(self, *, finalising: bool) -> Any:
        """Ask for everything to be sent; return the request, or None if there is nothing to wait for."""

    def finish_exit(self, flush_request: Any, until: float) -> None:
        """Wait for that request until a time of the monotonic clock, and log what could not be delivered."""

    def flush(self, timeout: float | None = None) -> bool:
        """Send everything that is pending; return True if all of it was delivered within `timeout` seconds."""

    def resume(self) -> None:
        """Start now if that was put off while a server loaded the app."""


class Phase(enum.Enum):
    """The phases of a child process that take any object; `pause_at_fork` adds to the phase before them."""

    DELIVERY = "delivery"
    CAPTURE = "capture"


class Members(Generic[T]):
    """Objects in the order in which they were added, each once, referenced weakly.

    Why not a WeakSet: it has no order, and iterating it fails while another thread adds. Here each step is a single
    operation on a dict, so no lock is needed.
    """

    def __init__(self) -> None:
        self._references: dict[int, weakref.ref[Any]] = {}

    def add(self, member: T) -> None:
        """Add an object until it is garbage-collected."""
        key, references = id(member), self._references
        references.setdefault(key, weakref.ref(member, lambda _: references.pop(key, None)))

    def alive(self) -> list[T]:
        """Return the objects that still exist."""
        found = (reference() for reference in list(self._references.values()))
        return [member for member in found if member is not None]


recorders: Members[Capturing] = Members()
deliveries: Members[Delivering] = Members()
_pausable: Members[Pausable] = Members()
_in_child: dict[Phase, Members[Inherited]] = {Phase.DELIVERY: Members(), Phase.CAPTURE: Members()}

_pid = os.getpid()
_is_hooked = False
_forking = threading.RLock()
"""Held from `_before_fork` to `_in_parent`: one thread forks at a time, and no Pausable is added meanwhile."""
_paused: dict[int, dict[Pausable, bool]] = {}
"""For each thread that forks, by its id: the members found, and the result of `pause`."""
_cleaning = threading.RLock()
_is_cleaning = False
_exit_began: list[float] = []
"""Start times of the exits under way, by the monotonic clock; several if a signal handler interrupts `atexit`."""


# -- registration ------------------------------------------------------------------------------------------------------


def pause_at_fork(member: Pausable) -> None:
    """Pause an object whenever the process forks."""
    with _forking:
        _hook()
        _pausable.add(member)


def in_child(phase: Phase, member: Inherited) -> None:
    """Have an object start clean in every forked child, before anything is recorded there."""
    _hook()
    _in_child[phase].add(member)


def add_recorder(recorder: Capturing) -> None:
    """Add a recorder to the capture phases of forks and of the exit."""
    in_child(Phase.CAPTURE, recorder)
    recorders.add(recorder)


def add_delivery(delivery: Delivering) -> None:
    """Add a delivery to the delivery phases of forks and of the exit."""
    in_child(Phase.DELIVERY, delivery)
    deliveries.add(delivery)


def is_capturing() -> bool:
    """Report whether any recorder captures calls."""
    return any(recorder.active for recorder in recorders.alive())


def _hook() -> None:
    global _is_hooked  # noqa: PLW0603 - Python cannot remove a fork hook, so there is one for all members
    if _is_hooked:
        return
    check()  # no hook has run in a child whose parent had imported this module, and no member
    with _forking:
        if hasattr(os, "register_at_fork") and not _is_hooked:  # else another thread was faster
            os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_after_fork)
        _is_hooked = True


# -- forks -------------------------------------------------------------------------------------------------------------


def _before_fork() -> None:
    if not waits.lock(_forking, PAUSE_SECONDS):
        return
    until = time.monotonic() + PAUSE_SECONDS
    paused = _paused[threading.get_ident()] = {}
    for member in _pausable.alive():
        paused[member] = False
        with guard("preparing a fork"):
            paused[member] = member.pause(max(0.0, until - time.monotonic()))


def _in_parent() -> None:
    paused = _paused.pop(threading.get_ident(), None)
    if paused is None:  # `_before_fork` did not get the lock
        return
    for member, is_paused in paused.items():
        if is_paused:
            with guard("resuming after a fork"):
                member.resume()
    _forking.release()


def _after_fork() -> None:
    global _cleaning, _is_cleaning  # noqa: PLW0603 - describes the process
    _cleaning = threading.RLock()  # another thread of the parent may have held it
    _is_cleaning = False
    _start_clean()


def check() -> None:
    """Start clean in a child that was forked without Python's hooks. Costs as much as `os.getpid`."""
    if os.getpid() != _pid:
        _start_clean()


def _start_clean() -> None:
    """Run the steps "in child", once in each process. Other threads wait: they must not use inherited state."""
    global _pid, _is_cleaning  # noqa: PLW0603 - describes the process
    with _cleaning:
        if _is_cleaning or os.getpid() == _pid:
            return
        _is_cleaning = True
        _inherit_locks()
        for members in (_in_child[Phase.DELIVERY], _in_child[Phase.CAPTURE]):
            for member in members.alive():
                with guard(STARTING_CLEAN):
                    member.after_fork()
        _pid, _is_cleaning = os.getpid(), False


def _inherit_locks() -> None:
    global _forking  # noqa: PLW0603 - describes the process
    paused = _paused.pop(threading.get_ident(), {})
    _paused.clear()
    _exit_began.clear()
    _forking = threading.RLock()
    for member in _pausable.alive():
        with guard(STARTING_CLEAN):
            member.inherited(paused=paused.get(member, False))
    context.after_fork()


# -- exit --------------------------------------------------------------------------------------------------------------


def deliver_all(*, finalising: bool = False) -> None:
    """Run the phases of the exit: complete what is open, and send everything within `shutdown_timeout`.

    All deliveries send at the same time. A signal handler may interrupt this and call it again: both share one budget.

    Args:
        finalising: True if Python is finalising, so that no thread can be started any more.

    """
    requests: list[tuple[Delivering, Any]] = []
    began = _exit_began[0] if _exit_began else time.monotonic()
    _exit_began.append(began)
    try:
        with guard("delivering at exit"):
            for recorder in recorders.alive():
                recorder.close()
            requests.extend((each, each.begin_exit(finalising=finalising)) for each in deliveries.alive())
            for delivery, flush_request in requests:
                delivery.finish_exit(flush_request, began + SHARE * delivery.config.shutdown_timeout)
    finally:
        _exit_began.pop()


def flush_all() -> None:
    """Send everything that is pending, within `shutdown_timeout`; open conversations stay open."""
    began = time.monotonic()
    for recorder in recorders.alive():
        recorder.release()
    for delivery in deliveries.alive():
        delivery.flush(max(0.0, began + SHARE * delivery.config.shutdown_timeout - time.monotonic()))


def complete_implicit() -> None:
    """Complete the implicit conversations: this process never runs Python again, and its children start clean."""
    for recorder in recorders.alive():
        recorder.complete_implicit()
