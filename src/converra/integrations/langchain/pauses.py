"""The end of a LangGraph run: paused, to be resumed later, or ended.

LangGraph swallows what pauses a run (`interrupt()`, `interrupt_before`, `interrupt_after`) when it leaves its loop, and
then reports the run to callbacks as ended. Why not its own `GraphCallbackHandler`? It is only called if the app passes
it with each call. So the exit of the loop is observed, which all pauses pass, and the run's `RunHandler`s are notified.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from converra.integrations import Integration
from converra.integrations.patching import Patches, PatchPoint, switch_on

if TYPE_CHECKING:
    from types import ModuleType

    from converra.integrations import Capture, Patched

MODULE = "langgraph.pregel"

CONTROL_FLOW = "GraphBubbleUp"
"""Base class of what LangGraph raises to interrupt a graph or to hand over to another: no failure."""

PAUSING = frozenset({"GraphInterrupt", "GraphDrained"})
"""Those of them after which the graph is resumed: an interrupt, and a stop before a shutdown."""

DRAINING = "draining"
"""Status of a loop that was asked to stop (`RunControl.request_drain`): it has not raised `GraphDrained` yet."""

AFTER = "interrupt_after"
"""Status of a loop that has stopped at a breakpoint after a step; its tasks are those of the next step."""


def is_control_flow(error: BaseException) -> bool:
    """Return True if an exception only steers the graph."""
    return any(cls.__name__ == CONTROL_FLOW for cls in type(error).__mro__)


def is_pause(error: BaseException) -> bool:
    """Return True if an exception stops the graph until it is resumed."""
    return any(cls.__name__ in PAUSING for cls in type(error).__mro__)


class LeftLoop:
    """One exit of the loop of an outermost run that has a checkpointer; other runs cannot be resumed."""

    def __init__(self, loop: Any, error: BaseException | None) -> None:
        self._loop = loop
        self._error = error

    def returned(self, _result: Any) -> None:
        """Notify the run's handlers, now that all its tasks are over."""
        loop, error = self._loop, self._error
        paused = loop.status == DRAINING if error is None else is_pause(error)
        if error is not None and not paused:
            return  # it failed, or the app did not want more of its stream
        if loop.status == AFTER and not loop.tasks:
            paused = False  # a breakpoint after the last step: nothing is left to be resumed
        manager = loop.manager
        for handler in manager.handlers:
            left = getattr(type(handler), "left_graph", None)
            if left is not None:
                left(handler, manager.run_id, self._loop.config, paused=paused)

    def raised(self, _error: BaseException) -> None:
        """Notify the run's handlers as well; the exception itself goes to the app."""
        self.returned(None)


def observe(_capture: Capture, args: tuple[Any, ...], _kwargs: dict[str, Any]) -> LeftLoop | None:
    """Begin to observe `loop.__exit__(type, error, traceback)`."""
    loop, _, error, *_ = args
    return None if loop.is_nested or loop.checkpointer is None or loop.manager is None else LeftLoop(loop, error)


class _Always:
    """The capture of the patches, always active: the handlers of a run know themselves whether they record it."""

    active: bool = True


ALWAYS: Any = _Always()


class Pauses:
    """The patches of LangGraph, whose loops were in a module of another name before version 0.6."""

    def __init__(self) -> None:
        self.on: bool = False
        self._patches: Patches | None = None

    def install(self, module: ModuleType, _capture: Capture) -> list[Patched]:
        """Observe the loops. May be called again."""
        if self._patches is None:
            name = "_loop" if hasattr(module, "_loop") else "loop"
            points = (
                PatchPoint(f"{name}.SyncPregelLoop", "__exit__", bound=True),
                PatchPoint(f"{name}.AsyncPregelLoop", "__aexit__", coroutine=True, bound=True),
            )
            self._patches = Patches(points, observe)
        self.on = True
        return self._patches.install(module, ALWAYS)

    def uninstall(self) -> None:
        """Put the originals back."""
        self.on = False
        if self._patches is not None:
            self._patches.uninstall()


_pauses = Pauses()

PAUSES = Integration("langgraph", MODULE, _pauses.install, _pauses.uninstall)
"""Part of the langchain integration: switched on and off with it."""


def watch() -> None:
    """Observe the loops without the langchain integration, for a handler that is given to runs by hand."""
    if not _pauses.on and MODULE in sys.modules:
        switch_on(PAUSES, ALWAYS)
