"""The context of a call: the active conversation, the framework's run around it, and layers that claim to record it.

The active conversation is a context variable, so threads, tasks and generators follow Python's rules. Frameworks find
their runs themselves, through the functions that they register here.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from converra.process.guard import report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from converra.history.turn import Scope

_active: ContextVar[Entered | None] = ContextVar("converra_conversation", default=None)


def active() -> Any:
    """Return the scope that was entered last in this context and not left yet, or None."""
    entered = _active.get()
    if entered is not None and entered.is_left:
        entered = _innermost()
    return None if entered is None else entered.scope


def _innermost() -> Entered | None:
    entered = _active.get()
    while entered is not None and entered.is_left:
        entered = entered.before
    return entered


class Entered:
    """An entry into a scope, to be left once.

    Leaving never fails. Why not `ContextVar.reset`: it raises if a block is left in another context than it was entered
    in, as web frameworks do with streamed responses. An entry that cannot be removed there is marked as left instead.
    """

    __slots__ = ("before", "is_left", "scope", "thread")

    def __init__(self, scope: object) -> None:
        self.scope: object = scope
        before = _active.get()
        self.before: Entered | None = before if before is None or not before.is_left else _innermost()
        self.is_left: bool = False
        self.thread: int = threading.get_ident()
        _active.set(self)
        _here.knows_scopes = True
        _open_in.setdefault(self.thread, set()).add(id(self))

    @property
    def is_innermost(self) -> bool:
        """True if it was not left, and nothing was entered after it in this context."""
        return _innermost() is self

    def leave(self, *, for_good: bool = False) -> None:
        """Make the scope active again that was active before.

        Args:
            for_good: True if tasks and threads that were started inside leave the scope as well.

        """
        if (_active.get() is self and not self.is_left) or self.is_innermost:
            _active.set(self.before)
            self.is_left = for_good
        else:
            self.is_left = True
        entered = _open_in.get(self.thread, set())
        entered.discard(id(self))
        if not entered:
            _open_in.pop(self.thread, None)


_here = threading.local()
_open_in: dict[int, set[int]] = {}
"""Ids of the open entries, by thread. Without a lock: a race can only lose a hint that leads to a warning."""


def open_elsewhere() -> bool:
    """Report whether another thread has a scope open that was perhaps meant for this one, which never entered any."""
    return bool(_open_in) and not hasattr(_here, "knows_scopes")


@contextmanager
def handed_over() -> Iterator[None]:
    """Take the context of this thread for the caller's: a library has moved the call here, and copied it.

    Without this, a call outside of any scope would look as one that has lost its scope; see `open_elsewhere`.
    """
    known = hasattr(_here, "knows_scopes")
    _here.knows_scopes = True
    try:
        yield
    finally:
        if not known:
            del _here.knows_scopes


def after_fork() -> None:
    """Forget the open scopes of threads that do not exist in the child."""
    here = threading.get_ident()
    for thread in list(_open_in):
        if thread != here:
            _open_in.pop(thread, None)


class Layer(Protocol):
    """A framework above the clients that records its runs itself, although patches of clients see the same calls."""

    def covers(self, model: str | None) -> bool:
        """Return True if a call of `model` that begins here and now is part of a run that the layer records."""


layers: tuple[Layer, ...] = ()


def join(layer: Layer) -> None:
    """Ask a layer about every call from now on; it stays for the life of the process.

    Process-wide, because some frameworks report a run in another context than the one in which it makes its call.
    """
    global layers  # noqa: PLW0603 - replaced as a whole: a race can at worst ask a layer twice
    if layer not in layers:
        layers = (*layers, layer)


def claimed(model: str | None) -> bool:
    """Return True if an outer layer records the call of `model` that begins here."""
    for layer in layers:  # noqa: SIM110 - `any` over nothing costs four times as much, for every call
        if layer.covers(model):
            return True
    return False


READING = "reading the session of a framework's run"

readers: tuple[Callable[[], Scope | None], ...] = ()


def read_runs(reader: Callable[[], Scope | None], *, first: bool = False) -> None:
    """Register a function that finds a framework's run around a call.

    Args:
        reader: Returns the scope of the run in whose context it is called: session, handler, trace and agent; None
            outside of any run. It is called for each call, so returning None must cost almost nothing.
        first: True: ask it before those that are registered already; by default, after them.

    """
    global readers  # noqa: PLW0603 - replaced as a whole, as in `join`
    if reader not in readers:
        readers = (reader, *readers) if first else (*readers, reader)


def forget_runs(reader: Callable[[], Scope | None]) -> None:
    """Undo `read_runs`."""
    global readers  # noqa: PLW0603 - replaced as a whole, as in `join`
    readers = tuple(registered for registered in readers if registered is not reader)


def surrounding() -> Scope | None:
    """Return the scope of the framework's run around this call, or None.

    Several frameworks may be nested. A session that the app chose takes precedence over one that a framework made up,
    and any session over none; between equals, the reader that is asked first decides.
    """
    only: Scope | None = None
    found: list[Scope] | None = None
    for reader in readers:
        try:
            scope = reader()
        except Exception as error:  # noqa: BLE001 - a guard without a frame of its own
            report(READING, error)
            continue
        if only is None:
            only = scope
        elif scope is not None:
            found = [*(found or (only,)), scope]
    return only if found is None else _nearest(found)


def _nearest(found: list[Scope]) -> Scope:
    """Choose between several scopes, in the order in which their readers were asked."""
    best = min(found, key=_rank)
    if best.session is not None:  # a span around a framework's run may repeat the session that the framework knows
        best = next(scope for scope in found if scope.session == best.session)
    run = best.run or next((scope.run for scope in found if scope.run), None)
    return best if run is best.run else best._replace(run=run)


def _rank(scope: Scope) -> int:
    return 2 if scope.session is None else int(scope.invented)
