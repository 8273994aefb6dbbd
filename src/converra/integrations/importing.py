"""Modules watched for being imported: the first time, again after they were removed from `sys.modules`, or reloaded.

wrapt's post-import hooks fire once for a name, so that a module that is imported again would go unseen. Here a finder
stands first on `sys.meta_path` while anything is watched. It finds nothing by itself: it asks the finders after it, and
wraps the loader of a watched module, to notice when the module was executed. The module keeps its own loader.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

from converra.process.guard import guard

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    Seen = Callable[[ModuleType], None]


class ImportWatcher:
    """A finder that reports imports of watched modules."""

    def __init__(self) -> None:
        self._watched: dict[str, Seen] = {}
        self._asking = threading.local()

    def watch(self, name: str, seen: Seen) -> None:
        """Call `seen` with the module each time the module of this name was executed."""
        self._watched[name] = seen
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def unwatch(self, name: str) -> None:
        """Forget a module; with the last one, leave `sys.meta_path`."""
        self._watched.pop(name, None)
        if not self._watched and self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a watched module by the other finders; None for all others."""
        if name not in self._watched:
            return None
        names: set[str] = vars(self._asking).setdefault("names", set())
        if name in names:  # another watcher of imports asks all finders, this one among them
            return None
        names.add(name)
        try:
            spec = self._found(name, path, target)
        finally:
            names.discard(name)
        if spec is not None and hasattr(spec.loader, "exec_module"):
            spec.loader = _ReportingLoader(spec.loader, self._executed)  # type: ignore[assignment]  # stands in for it
        return spec

    def _found(self, name: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
        for finder in list(sys.meta_path):
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = None if find is None else find(name, path, target)
            if spec is not None:
                return spec
        return None

    def _executed(self, module: ModuleType) -> None:
        seen = self._watched.get(module.__name__)
        if seen is not None:
            seen(sys.modules.get(module.__name__, module))  # a module may put another in its place


class _ReportingLoader:
    """Stands in for a loader until it executes its module, and passes for it."""

    def __init__(self, loader: Any, executed: Seen) -> None:
        self._loader = loader
        self._executed = executed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    @property
    def __class__(self) -> type[Any]:
        return type(self._loader)

    @__class__.setter
    def __class__(self, _kind: type[Any]) -> None:
        raise TypeError("a loader's class cannot be changed")

    def create_module(self, spec: ModuleSpec) -> Any:
        create = getattr(self._loader, "create_module", None)
        return None if create is None else create(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Give the module its own loader back, execute it, and report it."""
        for holder, name in ((module, "__loader__"), (getattr(module, "__spec__", None), "loader")):
            if getattr(holder, name, None) is self:
                setattr(holder, name, self._loader)
        self._loader.exec_module(module)
        with guard("patching a module that was just imported"):
            self._executed(module)


WATCHER = ImportWatcher()
