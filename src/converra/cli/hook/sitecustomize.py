# ruff: noqa: INP001 - no package: Python finds it by its folder
"""Loaded first by every Python that `converra dev` or `converra run` starts; instruments once a library is imported.

Python itself imports the first `sitecustomize` on its path, before any code of the app. This one costs the app nothing
until then, goes off the path again, and hands on to the `sitecustomize` that would have been first without it.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys

TYPE_CHECKING = False  # to import `typing` for this would slow every Python down
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

MODULES = "CONVERRA_HOOK_MODULES"
SIGHTINGS = "CONVERRA_HOOK_SIGHTINGS"
"""The file to which `converra dev` has every Python append what it sees: a line of tab-separated words each."""


class Watch:
    """A finder that finds nothing: the first import of one of the modules switches capture on, then it is gone."""

    def __init__(self, modules: frozenset[str]) -> None:
        self.modules: frozenset[str] = modules

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - the signature of a finder
        target: ModuleType | None = None,  # noqa: ARG002 - the signature of a finder
    ) -> ModuleSpec | None:
        """Let the usual finders find it, and those that capture has put before them by now."""
        if name not in self.modules or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        sighted("imported", name)
        switch_on()
        return importlib.util.find_spec(name)


def switch_on() -> None:
    """Capture from now on, with the settings that the app has given so far, or those of the environment."""
    try:
        from converra._default import recorder  # noqa: PLC0415 - only where something can be captured
        from converra.process.guard import guard  # noqa: PLC0415 - as above
    except Exception as error:  # noqa: BLE001 - a package for another Python fails in any way; the app is to run
        report(error)
        return
    with guard("switching capture on"):
        recorder().instrument()


def report(error: Exception) -> None:
    """Say that this Python records nothing, and why."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    sighted("failed", sys.executable, reason)
    if sys.stderr is not None:
        sys.stderr.write(f"converra: {sys.executable} cannot import converra, nothing is recorded: {reason}\n")


def sighted(*words: str) -> None:
    """Append to the file of sightings, if there is one; a daemon may outlive it."""
    file = os.environ.get(SIGHTINGS)
    if file:
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_APPEND)
            try:
                os.write(descriptor, ("\t".join(words) + "\n").encode("utf-8", "replace"))
            finally:
                os.close(descriptor)
        except OSError:
            pass


def hand_on(here: str) -> None:
    """Run the `sitecustomize` that stands behind this one; Python reports what it raises."""
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != here]  # noqa: PTH100 - loaded by every Python
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", sys.path)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


sighted("started", sys.executable)
sys.meta_path.insert(0, Watch(frozenset(os.environ.get(MODULES, "").split(","))))
hand_on(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - as above
