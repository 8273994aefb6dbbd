"""Client calls that a recorded LangChain run makes: they are skipped, so that one provider call is one turn.

A LangChain chat model may use a patched client. LangChain passes a run's manager through its own frames to every
model's `_generate`, `_stream` and `_call`, always as `run_manager`. So the stack of a request shows which run makes it,
in threads and in tasks. Why not a flag around the model's call? LangChain offers no place to reset it, and it would
also claim calls that the app makes itself between two chunks of a stream.

If a model sends its request from a thread or a task of its own, the stack does not reach the manager. The context,
which is copied there, then decides: until the first token has arrived, the request is the run's (`runs.RunClaim`).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from converra.integrations.langchain.runs import RunClaim

if TYPE_CHECKING:
    from types import FrameType
    from uuid import UUID

    from converra.integrations.langchain.runs import Runs

CALLBACKS = "langchain_core.callbacks.manager"
"""Module of the frames between a handler's callback and the run that it reports."""

OWN = "converra."
"""Beginning of the names of our own modules."""

MANAGER = "run_manager"


class RunsLayer:
    """LangChain, as the layer above clients."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    def covers(self, model: str | None) -> bool:
        """Return True if a recorded run makes the call that begins here."""
        if not self._runs:
            return False
        found, run_id = manager_above(sys._getframe(1))  # noqa: SLF001 - as `inspect.currentframe`, without importing it
        if found:
            return run_id in self._runs
        claim = RunClaim.current.get()
        return claim is not None and claim.reaches(model)


def manager_above(frame: FrameType | None) -> tuple[bool, UUID | None]:
    """Find the nearest run manager on the stack: (True, run id); (True, None) in a callback; else (False, None)."""
    frame = _caller(frame)
    while frame is not None:
        if frame.f_globals.get("__name__") == CALLBACKS:
            return True, None
        if MANAGER in frame.f_code.co_varnames:
            manager = frame.f_locals.get(MANAGER)
            if manager is not None:
                return True, getattr(manager, "run_id", None)
        frame = frame.f_back
    return False, None


def _caller(frame: FrameType | None) -> FrameType | None:
    """Go up past our own frames and, inside a callback, past those of LangChain's callback managers."""
    while frame is not None and str(frame.f_globals.get("__name__")).startswith(OWN):
        frame = frame.f_back
    while frame is not None and frame.f_globals.get("__name__") == CALLBACKS:
        frame = frame.f_back
    return frame
