"""Which conversation is active here, which framework's run surrounds it, and what an outer layer has claimed to record.

The first is a context variable, so threads, tasks and generators follow Python's rules; a layer finds its runs itself.
"""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from converra.process.guard import guarded

if TYPE_CHECKING:
    from collections.abc import Callable

    from converra.history.turn import Scope

_active: ContextVar[Entered | None] = ContextVar("converra_conversation", default=None)


def active() -> Any:
    """Look up what was entered last in this context and not left yet."""
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
    """One entry into a scope, to be left once.

    Leaving never fails: `ContextVar.reset` raises where a block is left in another context than it was entered in, as
    web frameworks do with streamed responses. What cannot be restored there is marked as left, and passed over.
    """

    __slots__ = ("before", "is_left", "scope", "thread")

    def __init__(self, scope: object) -> None:
        self.scope = scope
        before = _active.get()
        self.before = before if before is None or not before.is_left else _innermost()
        self.is_left: bool = False
        self.thread = threading.get_ident()
        _active.set(self)
        _here.knows_scopes = True
        _open_in.setdefault(self.thread, set()).add(id(self))

    @property
    def is_innermost(self) -> bool:
        """Whether nothing was entered after it in this context, and it was not left."""
        return _innermost() is self

    def leave(self, *, for_good: bool = False) -> None:
        """Make what was active before active again.

        Tasks and threads that were started inside stay inside, unless the scope is left `for_good`.
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
"""What is entered, by thread. No lock: two threads that meet here may lose a hint to a warning, and nothing else."""


def open_elsewhere() -> bool:
    """Whether a scope is open in another thread that this one may have been started in: it has never entered any."""
    return bool(_open_in) and not hasattr(_here, "knows_scopes")


def after_fork() -> None:
    """Forget the threads that did not come along."""
    here = threading.get_ident()
    for thread in list(_open_in):
        if thread != here:
            _open_in.pop(thread, None)


class Layer(Protocol):
    """A framework above clients. It records its runs itself, though layers below (a client's patch) see them too."""

    def covers(self, model: str | None) -> bool:
        """Say whether a call that begins here, now, of this model, is part of a run."""


layers: tuple[Layer, ...] = ()


def join(layer: Layer) -> None:
    """Have a layer asked about every call from now on, once; it stays for the life of the process.

    Process-wide, since a layer is told of a run in another context than the run's call is made in, now and then.
    """
    global layers  # noqa: PLW0603 - replaced as a whole: two threads that meet here may at worst ask a layer twice
    if layer not in layers:
        layers = (*layers, layer)


def claimed(model: str | None) -> bool:
    """Say whether the call that begins here is recorded by an outer layer."""
    for layer in layers:  # noqa: SIM110 - `any` over nothing costs four times as much, for every call
        if layer.covers(model):
            return True
    return False


readers: tuple[Callable[[], Scope | None], ...] = ()


def read_runs(reader: Callable[[], Scope | None]) -> None:
    """Have a framework's reader asked which of its runs surrounds a call, once; it stays for the life of the process.

    A reader returns the scope of the run in whose context it is called: its session, its handler, its trace; and None
    outside of any run. It is called for every call outside of a `conversation()`, so None must cost next to nothing.
    """
    global readers  # noqa: PLW0603 - replaced as a whole, as in `join`
    if all(getattr(known, "__wrapped__", None) is not reader for known in readers):
        readers = (*readers, guarded("reading the session of a framework's run")(reader))


def surrounding() -> Scope | None:
    """Look up the run of a framework that surrounds this call; one with a session comes before one without."""
    without: Scope | None = None
    for reader in readers:
        scope = reader()
        if scope is not None:
            if scope.session is not None:
                return scope
            without = without or scope
    return without
