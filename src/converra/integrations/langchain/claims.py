"""Which calls of a client belong to a run of LangChain's that is recorded already: one provider call is one turn.

A chat model of LangChain's may sit on a patched client. LangChain hands a run's manager down through its own frames,
to every model's `_generate`, `_stream` and `_call`, always by the name of `run_manager`: so the stack of a request says
exactly which run makes it, in threads and in tasks. No flag has to be set and taken back around a call that nobody can
wrap, and an app that calls the client itself, between two chunks of LangChain's stream say, is not mistaken.

Where a model makes its request from a thread or a task of its own, the stack does not reach the manager. Then the
context, which goes along, tells: until the first token has arrived, the request is the run's.
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
"""Between a handler's callback and the run that it is told of stand frames of this module."""

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
    """Find the nearest run manager on the stack: (True, its run id), or (True, None) inside a callback, else False."""
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
    """Go up past our own frames and, where we are told of a run that begins, past those that tell us."""
    while frame is not None and _ours(frame):
        frame = frame.f_back
    while frame is not None and frame.f_globals.get("__name__") == CALLBACKS:
        frame = frame.f_back
    return frame


def _ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).partition(".")[0] == "converra"
