"""The callback handler: LangChain's events, made into turns.

Callbacks run on the app's time, so each does one small thing; the worker does the heavy reading. All state belongs to
the runs under way (`runs.py`): any number of chains may share a handler, and one chain may have it twice.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import msgspec
from langchain_core.callbacks.base import BaseCallbackHandler

from converra.history.draft import failure_record
from converra.history.turn import Answer, Failure, Request, Scope, SourceMessage
from converra.integrations.langchain.claims import RunsLayer
from converra.integrations.langchain.messages import KEPT_MESSAGES, MESSAGES
from converra.integrations.langchain.pauses import is_control_flow, is_pause
from converra.integrations.langchain.refused import note_refusal, refused_answer, remember
from converra.integrations.langchain.result import (
    answer,
    documents_metadata,
    partial,
    piece,
    tool_messages,
    tool_results,
)
from converra.integrations.langchain.runs import FAILED, PARSERS, RUNS, TOOLS, TRACES, Run, RunClaim, ToolRun
from converra.integrations.langchain.session import is_kept, model_of, session_in, session_of, surrounding, tools_of
from converra.integrations.openai import chat
from converra.process import context
from converra.process.guard import guarded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType
    from uuid import UUID

    from langchain_core.messages import BaseMessage
    from langchain_core.outputs import LLMResult

    from converra.history.turn import Origin
    from converra.integrations import Capture

STRING_MODEL_START = "AsyncCallbackManager.on_llm_start"

_layer = RunsLayer(RUNS)


class RunHandler(BaseCallbackHandler):
    """Hands LangChain's runs to a capture. `capture` gives None while nothing is to be captured."""

    def __init__(
        self, capture: Callable[[], Capture | None], origin: Origin | None = None, *, retrieved: bool = False
    ) -> None:
        self._capture = capture
        self._origin = origin
        self._retrieved = retrieved
        context.join(_layer)
        context.read_runs(surrounding, first=True)

    def __copy__(self) -> RunHandler:
        return self

    def __deepcopy__(self, _memo: dict[int, Any]) -> RunHandler:
        return self

    @property
    def run_inline(self) -> bool:  # type: ignore[override]  # a plain attribute there
        """Ask to be called in the run's own task instead of in a pool of threads; see `_run_inline`."""
        return _run_inline(sys._getframe(1))  # noqa: SLF001 - as `inspect.currentframe`, without importing it

    @property
    def ignore_retriever(self) -> bool:
        """True unless retrieved documents are recorded."""
        return not self._retrieved

    ignore_retry: bool = True
    ignore_custom_event: bool = True

    def __getattr__(self, name: str) -> Any:
        """Take every callback of a later LangChain or LangGraph, and do nothing."""
        if name.startswith("on_"):
            return _nothing
        raise AttributeError(name)

    # -- models ------------------------------------------------------------------------------------------------------

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Begin a turn of a chat model."""
        self._begin(messages[0], run_id, parent_run_id, metadata, kwargs)

    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Begin a turn of a completion model."""
        self._begin(prompts, run_id, parent_run_id, metadata, kwargs)

    @guarded("beginning a run of LangChain's")
    def _begin(
        self,
        messages: Sequence[Any],
        run_id: UUID,
        parent_run_id: UUID | None,
        metadata: dict[str, Any] | None,
        more: dict[str, Any],
    ) -> None:
        capture = self._capture()
        if capture is None or run_id in RUNS:
            return
        parameters = more.get("invocation_params") or {}
        model = model_of(parameters, metadata)
        scope = self._scope(parent_run_id, metadata)
        dialect = KEPT_MESSAGES if scope.thread is not None and is_kept() else MESSAGES
        request = Request(dialect=dialect, messages=messages, model=model, tools=tools_of(parameters), scope=scope)
        run = Run(capture.begin(request), RunClaim(model))
        if scope.trace is not None and scope.trace.documents:
            run.documents, scope.trace.documents = scope.trace.documents, []
        RUNS.add(run_id, run)

    def _scope(self, parent_run_id: UUID | None, metadata: dict[str, Any] | None) -> Scope:
        return Scope(session_of(metadata), self._origin, TRACES.get(parent_run_id))

    @guarded("reading a token of LangChain's")
    def on_llm_new_token(self, token: Any, *, run_id: UUID, chunk: Any = None, **kwargs: Any) -> None:
        """Note a piece of a streamed answer."""
        run = RUNS.get(run_id)
        if run is not None:
            text, empty = piece(token, chunk)
            run.arrived(text, chunk, empty=empty)

    @guarded("ending a run of LangChain's")
    def on_llm_end(
        self, response: LLMResult, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        """Record the turn."""
        run = RUNS.take(run_id)
        if run is None or run.call is None:
            return
        found, trace = _completed(answer(response), run), TRACES.get(parent_run_id)
        run.call.end(found)
        if trace is not None:
            remember(trace, response, run.call.rejecter(found))

    @guarded("ending a failed run of LangChain's")
    def on_llm_error(
        self, error: BaseException, *, run_id: UUID, response: LLMResult | None = None, **kwargs: Any
    ) -> None:
        """Record the turn as failed, or as far as it came where the app did not want more."""
        run = RUNS.take(run_id)
        if run is None or run.call is None:
            return
        arrived = partial(response) or (run.so_far() if run.begun else None)
        completion = vars(error).get("completion")
        if completion is not None:  # truncated or filtered: reported by an exception, but a whole turn
            run.call.end(_completed(chat.answer(completion), run))
        elif isinstance(error, GeneratorExit):
            run.call.end(_completed(arrived or run.so_far(), run))
        else:
            whole = refused_answer(error, run_id) or arrived
            run.call.fail(error, whole and _completed(whole, run))

    # -- tools -------------------------------------------------------------------------------------------------------

    @guarded("beginning a tool of LangChain's")
    def on_tool_start(
        self,
        serialized: dict[str, Any],
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Start the clock."""
        if run_id in TOOLS:
            return
        trace = TRACES.begin(run_id, parent_run_id)
        scope = Scope(session_of(metadata), self._origin, trace)
        name = (serialized or {}).get("name") or kwargs.get("name")
        TOOLS[run_id] = ToolRun(name, kwargs.get("tool_call_id"), scope, time.perf_counter())

    @guarded("recording a tool's result")
    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Record what the tool answered."""
        TRACES.end(run_id)
        capture, tool = self._capture(), TOOLS.pop(run_id, None)
        if capture is not None and tool is not None:
            for source in tool_results(output, tool):
                capture.record_tool_result(source, tool.scope, time.time())

    @guarded("recording a tool's failure")
    def on_tool_error(
        self, error: BaseException, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        """Keep a failure until it is clear whether the run that called the tool gives an answer in its place."""
        TRACES.end(run_id)
        capture, tool = self._capture(), TOOLS.pop(run_id, None)
        if capture is None or tool is None or tool.call_id is None:
            return
        if is_control_flow(error):
            return
        failure = {"error": failure_record(Failure(type(error).__name__))}
        source = SourceMessage("tool", "", (), tool.call_id, tool.name, (), failure, tool.milliseconds())
        if parent_run_id is None:
            capture.record_tool_result(source, tool.scope, time.time())
        else:
            FAILED.setdefault(parent_run_id, []).append((source, tool))

    # -- chains and retrievers ---------------------------------------------------------------------------------------

    @guarded("beginning a chain of LangChain's")
    def on_chain_start(
        self,
        serialized: Any,
        inputs: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        run_type: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Note which runs belong together, and to which session."""
        trace = TRACES.begin(run_id, parent_run_id)
        if run_type == "parser":
            PARSERS[run_id] = inputs
        if parent_run_id is None:
            trace.thread = session_of(metadata)
            self._outermost()

    def _outermost(self) -> None:
        """Prepare for an outermost run."""

    @guarded("ending a chain of LangChain's")
    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Record what a run gave as the answer of a tool that had raised."""
        TRACES.end(run_id)
        PARSERS.pop(run_id, None)
        failed, capture = FAILED.pop(run_id, None) if FAILED else None, self._capture()
        if failed is None or capture is None:
            return
        answers = list(tool_messages(outputs))
        for failure, tool in failed:
            for source in tool_results(answers, tool):
                metadata = {**(failure.metadata or {}), **(source.metadata or {})}
                whole = msgspec.structs.replace(source, latency_ms=failure.latency_ms, metadata=metadata)
                capture.record_tool_result(whole, tool.scope, time.time())

    @guarded("ending a failed chain of LangChain's")
    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Record the tools that raised and brought the run down with them; or note that it waits to be resumed.

        A run that is resumed calls all its tools again.
        """
        trace = TRACES.get(run_id)
        TRACES.end(run_id)
        parsed = PARSERS.pop(run_id, None)
        failed, capture = FAILED.pop(run_id, ()) if FAILED else (), self._capture()
        if capture is None:
            return
        if trace is not None and trace.answers:
            note_refusal(trace, parsed, error)
        if is_pause(error):
            capture.pause(Scope(trace.thread if trace else None, self._origin, trace))
        elif not is_control_flow(error):
            for source, tool in failed:
                capture.record_tool_result(source, tool.scope, time.time())

    @guarded("noting how a run of LangGraph's was left")
    def left_graph(self, run_id: UUID, config: dict[str, Any], *, paused: bool) -> None:
        """Note that an outermost run of a graph has paused, or ended; see `pauses.py`."""
        capture = self._capture()
        if capture is not None:
            capture.pause(Scope(session_in(config), self._origin, TRACES.get(run_id)), paused=paused)

    @property
    def origin(self) -> Origin | None:
        """Prompt, session and metadata that the user gave to this handler."""
        return self._origin

    @guarded("reading retrieved documents")
    def on_retriever_end(
        self, documents: Sequence[Any], *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        """Keep the documents for the next call of the same chain."""
        trace = TRACES.get(parent_run_id)
        if trace is not None:
            trace.documents.extend(documents_metadata(documents))


def _completed(found: Answer, run: Run) -> Answer:
    """Add what was retrieved for the run."""
    if run.documents:
        found.metadata = {**(found.metadata or {}), "documents": run.documents}
    return found


def _nothing(*_args: Any, **_kwargs: Any) -> None:
    """Do nothing, for any callback."""


def _run_inline(asking: FrameType) -> bool:
    """Decide `run_inline` for the frame that asks: True, except for one LangChain function that gets it wrong.

    Not inline, LangChain calls a handler in a pool of threads for every token. That costs tens of microseconds and a
    switch of threads each, delays the ends, and keeps other tasks of the app's pool waiting.

    `AsyncCallbackManager.on_llm_start`, which announces a completion model, calls the inline handlers, or if there are
    none the others, never both. Inline there, this handler would hide the start from the user's handlers. Not inline
    beside an inline one of the user's (LangSmith's tracer, LangGraph's stream of messages), it would miss the start. So
    there it answers what the other handlers answer.

    Only the stack shows who asks: LangChain chooses the handlers before it calls any of them, so neither an override
    nor a second handler could answer differently. The function is compared by name and not by code, because a
    comprehension of Python 3.11 has a code object of its own. If LangChain renames it, the usual answer applies.
    """
    if not asking.f_code.co_qualname.startswith(STRING_MODEL_START):
        return True
    frame: FrameType | None = asking
    while frame is not None and "self" not in frame.f_locals:  # in a comprehension
        frame = frame.f_back
    handlers = getattr(frame.f_locals["self"], "handlers", ()) if frame is not None else ()
    return any(handler.run_inline for handler in handlers if not isinstance(handler, RunHandler))
