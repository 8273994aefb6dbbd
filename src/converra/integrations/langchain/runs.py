"""State of LangChain's runs while they are under way.

Not every run reports its end: one whose task is cancelled just disappears. But a run's id lives exactly as long as the
run's manager. So the state of a run is dropped with its id, and a call that was under way then is recorded as
cancelled.
"""

from __future__ import annotations

import asyncio
import functools
import threading
import time
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from converra.history.turn import Answer, SourceMessage, Trace
from converra.process.guard import guarded
from converra.wire.json_safe import joined

if TYPE_CHECKING:
    from uuid import UUID

    from converra.history.turn import Scope
    from converra.integrations import RejectableCall

MAX_RUNS = 10_000
"""Runs under way at a time; past it, the oldest is given up. Ids that the app itself keeps alive end here."""


class RunClaim:
    """A run's claim on the request that its model makes, kept in the context in which the run began.

    A model may send its request from a thread or a task of its own, where the stack does not reach the run. Contexts
    are copied to such threads and tasks, so the claim is found there.
    """

    __slots__ = ("_model", "_started_in", "pending")

    current: ContextVar[RunClaim | None] = ContextVar("converra_langchain_run", default=None)
    """The claim of the latest run that began in this context."""

    def __init__(self, model: str | None) -> None:
        self.pending: bool = True
        """No token has arrived, and the run has not ended."""
        self._model = model
        self._started_in = _thread_and_task()
        RunClaim.current.set(self)

    def reaches(self, model: str | None) -> bool:
        """Return True if a call made here may be the run's: in another thread or task, for the same `model`."""
        same_model = model is None or self._model is None or model == self._model
        return self.pending and same_model and self._started_in != _thread_and_task()


def _thread_and_task() -> tuple[int, int]:
    """Identify the current thread and the current task; 0 where no task runs."""
    loop = asyncio._get_running_loop()  # noqa: SLF001 - without it, `current_task` raises, which costs four times as much
    task = None if loop is None else asyncio.current_task(loop)
    return threading.get_ident(), id(task) if task is not None else 0


class Run:
    """One run of a model. Without a call it is not recorded: it has no conversation, or an outer run records it."""

    __slots__ = ("_last", "_texts", "call", "claim", "documents", "id")

    def __init__(self, call: RejectableCall | None, claim: RunClaim) -> None:
        self.call: RejectableCall | None = call
        self.claim: RunClaim = claim
        self.documents: list[Any] = []
        self.id: weakref.ref[UUID] | None = None
        self._texts: list[str] = []
        self._last: Any = None

    def arrived(self, text: str, chunk: Any, *, empty: bool) -> None:
        """Note a piece of the answer. The first may be empty: providers open a stream with the role alone.

        The same chunk comes twice where a handler was given twice.
        """
        if self.call is None or (chunk is not None and chunk is self._last):
            return
        self._last = chunk
        if not self._texts:
            self.call.streaming(self.so_far)
            self.claim.pending = False
        self._texts.append(text)
        if not empty:
            self.call.first_token()

    @property
    def begun(self) -> bool:
        """True once anything of the answer has arrived."""
        return bool(self._texts)

    def so_far(self) -> Answer:
        """Return the text that has arrived, as a partial answer."""
        return Answer(messages=(SourceMessage("assistant", joined(self._texts)),), partial=True)


class Runs:
    """The model runs under way in this process, from all handlers."""

    def __init__(self) -> None:
        self._open: dict[int, Run] = {}

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, run_id: UUID | None) -> bool:
        return run_id is not None and run_id.int in self._open

    def add(self, run_id: UUID, run: Run) -> None:
        """Keep a run until its end, or the end of its id."""
        run.id = weakref.ref(run_id, functools.partial(self._vanished, run_id.int))
        self._open[run_id.int] = run
        while len(self._open) > MAX_RUNS:
            self._vanished(next(iter(self._open)))

    def get(self, run_id: UUID) -> Run | None:
        """Look up a run."""
        return self._open.get(run_id.int)

    def take(self, run_id: UUID) -> Run | None:
        """Let go of a run that is over."""
        return self._take(run_id.int)

    def _take(self, key: int) -> Run | None:
        run = self._open.pop(key, None)
        if run is not None:
            run.claim.pending = False
            run.id = None
        return run

    @guarded("ending a run of LangChain's that has disappeared")
    def _vanished(self, key: int, _id: Any = None) -> None:
        run = self._take(key)
        if run is not None and run.call is not None:
            if run.begun:
                run.call.end(run.so_far())
            else:
                run.call.fail(asyncio.CancelledError())


class ToolRun(NamedTuple):
    """One run of a tool."""

    name: str | None
    call_id: str | None
    scope: Scope
    ticks: float
    """`time.perf_counter()` of its start."""

    def milliseconds(self) -> float:
        """Return the time since its start."""
        return (time.perf_counter() - self.ticks) * 1000


class Traces:
    """The runs under way, by the outermost run that they are part of."""

    def __init__(self) -> None:
        self._of: weakref.WeakKeyDictionary[UUID, Trace] = weakref.WeakKeyDictionary()

    def __len__(self) -> int:
        return len(self._of)

    def begin(self, run_id: UUID, parent_run_id: UUID | None) -> Trace:
        """Note a run; without a parent that is under way, it begins a trace."""
        trace = self._of[run_id] = self.get(parent_run_id) or self._of.get(run_id) or Trace()
        if len(self._of) > MAX_RUNS:
            self.end(next(iter(self._of)))
        return trace

    def end(self, run_id: UUID) -> None:
        """Let go of a run that is over."""
        self._of.pop(run_id, None)

    def get(self, run_id: UUID | None) -> Trace | None:
        """Return the trace that a run is part of."""
        return None if run_id is None else self._of.get(run_id)


RUNS = Runs()
TRACES = Traces()
PARSERS: weakref.WeakKeyDictionary[UUID, Any] = weakref.WeakKeyDictionary()
"""The input of each parser under way: a message."""
TOOLS: weakref.WeakKeyDictionary[UUID, ToolRun] = weakref.WeakKeyDictionary()
FAILED: weakref.WeakKeyDictionary[UUID, list[tuple[SourceMessage, ToolRun]]] = weakref.WeakKeyDictionary()
"""Tools that raised, by the run that called them: it may yet answer in their place."""
