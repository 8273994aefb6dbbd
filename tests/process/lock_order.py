"""Records in which order the threads of a process take the locks of `converra`."""

from __future__ import annotations

import _thread
import linecache
import os
import re
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import converra

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCES = Path(converra.__file__).parent
CREATION = re.compile(r"((?:[\w.]+, )*[\w.]+)(?:: [\w.\[\]]+)? = (?:threading\.)?R?Lock\(")


FLAGS = {"process.workers._flag"}
"""Locks that one thread takes and another one releases: waiting for one excludes nothing."""

FORK = "process.lifecycle._forking"
"""While a thread holds this, it takes the locks of all pausable members one after the other, each with a timeout."""


class Order:
    """Pairs of locks, by name: the first was held when the second was taken."""

    def __init__(self) -> None:
        self.taken: Counter[str] = Counter()
        self.pairs: Counter[tuple[str, str]] = Counter()
        self._held: dict[int, list[str]] = {}

    def enter(self, name: str) -> None:
        if name in FLAGS or name.startswith("server."):
            return
        held = self._held.setdefault(_thread.get_ident(), [])
        self.taken[name] += 1
        if name not in held:
            outer = held[: held.index(FORK) + 1] if FORK in held else held
            self.pairs.update((each, name) for each in dict.fromkeys(outer))
        held.append(name)

    def forget_held(self) -> None:
        """Start clean in a forked child, which holds none of its parent's locks."""
        self._held.clear()

    def leave(self, name: str) -> None:
        """Forget the innermost one; a lock that serves as a flag may be released by another thread."""
        held = self._held.get(_thread.get_ident(), [])
        if name in held:
            del held[len(held) - 1 - held[::-1].index(name)]


class RecordedLock:
    """A real lock that reports when it is taken and released."""

    def __init__(self, lock: Any, name: str, order: Order) -> None:
        self._lock, self._name, self._order = lock, name, order

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        taken = bool(self._lock.acquire(blocking, timeout))
        if taken:
            self._order.enter(self._name)
        return taken

    def release(self) -> None:
        self._lock.release()
        self._order.leave(self._name)

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def names_in(line: str) -> list[str]:
    """The attributes or variables that a line assigns new locks to, without `self`."""
    found = CREATION.search(line)
    return [] if found is None else [name.rpartition(".")[2] for name in found[1].split(", ")]


def creations() -> set[str]:
    """Every lock that the package makes: its module and the name of its attribute or variable."""
    return {
        f"{path.relative_to(SOURCES).with_suffix('').as_posix().replace('/', '.')}.{name}"
        for path in SOURCES.rglob("*.py")
        if path.relative_to(SOURCES).parts[0] not in {"server", "cli"}
        for line in path.read_text().splitlines()
        for name in names_in(line)
    }


def record() -> Order:
    """Record the order of all locks that `converra` makes from now on, and of those that its modules hold already."""
    order, seen = Order(), Counter[tuple[str, int]]()
    lock, rlock = threading.Lock, threading.RLock

    def recorded(make: Any) -> Any:
        def recorded_lock() -> Any:
            frame = sys._getframe(1)
            module, place = frame.f_globals.get("__name__", ""), (frame.f_code.co_filename, frame.f_lineno)
            if not module.startswith("converra."):
                return make()
            names = names_in(linecache.getline(*place))
            seen[place] += 1
            return RecordedLock(make(), _short(module, names[(seen[place] - 1) % len(names)]), order)

        return recorded_lock

    made = {lock: recorded(lock), rlock: recorded(rlock)}
    kinds = type(lock()), type(rlock())
    for owner, module in list(_owners()):
        for attribute, value in list(vars(owner).items()):
            if value is lock or value is rlock:
                setattr(owner, attribute, made[value])
            elif isinstance(value, kinds):
                setattr(owner, attribute, RecordedLock(value, _short(module, attribute), order))
    threading.Lock, threading.RLock = made[lock], made[rlock]
    os.register_at_fork(after_in_child=order.forget_held)
    return order


def _owners() -> Iterator[tuple[Any, str]]:
    """The loaded modules of `converra`, and the objects in them."""
    for name, module in list(sys.modules.items()):
        if name.startswith("converra.") and not name.startswith("converra.server"):
            yield module, name
            for value in list(vars(module).values()):
                if type(value).__module__ == name and hasattr(value, "__dict__"):
                    yield value, name


def _short(module: str, name: str) -> str:
    return f"{module.removeprefix('converra.')}.{name}"
