"""What must be still while the process forks: SQLite, and the first import of httpx.

A child inherits memory but no thread. A module that another thread was importing stays half imported in it for ever,
and SQLite keeps in memory which locks the process holds on a file: a child that inherits this believes that it holds
them too, or waits for a write that nobody will finish. So whoever forks waits until such things can be put away, and
takes them up again afterwards.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from typing import Protocol

from converra.process import identity
from converra.process.guard import guard

LONGEST = 2.0
"""Longest wait of a fork for what is under way, in seconds; the import of httpx has a bound of its own."""


class Forkable(Protocol):
    """Something that other threads may be at when the process forks."""

    def pause(self, seconds: float) -> bool:
        """Put it away until `resume`; False where that takes longer than so many seconds."""

    def resume(self) -> None:
        """Take it up again, in the parent."""

    def inherited(self, *, paused: bool) -> None:
        """Begin anew in the child."""


class _Forks:
    """All that is to be paused, for all threads that fork. Python cannot take a fork hook back, so there is one."""

    def __init__(self) -> None:
        self._things: weakref.WeakSet[Forkable] = weakref.WeakSet()
        self._met: dict[int, dict[Forkable, bool]] = {}
        """For each thread that forks: what there was, and whether it is paused."""
        self._one = threading.RLock()
        """One at a time forks, and nothing new appears meanwhile."""
        self._hooked = False

    def watch(self, thing: Forkable) -> None:
        with self._one:
            if not self._hooked and hasattr(os, "register_at_fork"):
                self._hooked = True
                os.register_at_fork(before=self.before, after_in_parent=self.in_parent)
                identity.in_child(self.in_child)
            self._things.add(thing)

    def before(self) -> None:
        if not self._one.acquire(timeout=LONGEST):
            return
        until = time.monotonic() + LONGEST
        met = self._met[threading.get_ident()] = {}
        for thing in tuple(self._things):
            met[thing] = False
            with guard("preparing a fork"):
                met[thing] = thing.pause(max(0.0, until - time.monotonic()))

    def in_parent(self) -> None:
        met = self._met.pop(threading.get_ident(), None)
        if met is None:
            return
        for thing, paused in met.items():
            if paused:
                with guard("going on after a fork"):
                    thing.resume()
        self._one.release()

    def in_child(self) -> None:
        met = self._met.pop(threading.get_ident(), {})
        self._met.clear()
        self._one = threading.RLock()
        for thing in {*self._things, *met}:
            with guard("starting clean in a child process"):
                thing.inherited(paused=met.get(thing, False))


_forks = _Forks()


def watch(thing: Forkable) -> None:
    """Pause it whenever the process forks."""
    _forks.watch(thing)
