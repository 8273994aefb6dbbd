"""Readers of the sessions and agents that frameworks keep in the context of a call, whichever client makes the call.

A reader is a function `() -> Scope | None`. It looks at modules that the app has imported, patches nothing and imports
nothing. It is registered when its framework is imported, so that apps without the framework do not pay for it.

====================  ======================================  ====================================================
framework             session                                 agent and run
====================  ======================================  ====================================================
OpenAI Agents SDK     `group_id` of the current trace         name of the innermost agent span; id of the trace
pydantic-ai           `conversation_id` of the current run    name of its agent; `run_id`
LlamaIndex            the app's tag `session_id`, else the    name of the agent; id of the workflow's run
                      `session_id` of a workflow's memory
OpenTelemetry         `gen_ai.conversation.id`, then          `gen_ai.agent.name` of the current span
                      `session.id`: of the current span, of
                      the context, of the baggage
====================  ======================================  ====================================================

Google ADK, crewai, dspy and instructor have no reader of their own: their sessions are read where they, or
an instrumentation of them, put one on an OpenTelemetry span or context, as ADK does around each call of a model.

A session that belongs to one client or one call needs no reader: the integration of that client passes it to
`Capture.begin`, as `Request.scope`.
"""

from __future__ import annotations

import sys
from contextvars import Token
from typing import TYPE_CHECKING, Any

from converra.history.turn import Run, Scope
from converra.integrations import Integration
from converra.integrations.payload.fields import string
from converra.process import context

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

    from converra.integrations import Capture, Patched

OPENAI_AGENTS = "agents.tracing.scope"
PYDANTIC_AI = "pydantic_ai._run_context"
LLAMA_INDEX, LLAMA_WORKFLOWS = "llama_index_instrumentation.dispatcher", "workflows.runtime.types.results"
OPENTELEMETRY = "opentelemetry.trace"
"""Modules that hold the current trace, run, tags, step of a workflow, and span."""

CONVERSATION, SESSION, AGENT = "gen_ai.conversation.id", "session.id", "gen_ai.agent.name"
"""Names of OpenTelemetry's semantic conventions."""

TAGS = (CONVERSATION, SESSION, "session_id")
"""Tags by which an app may name the session, in LlamaIndex's `instrument_tags`."""
SHARED_KEY = "chat_history"
"""The key under which a memory of LlamaIndex keeps its messages if the app gives none: no session."""

LENGTH_OF_UUID, VERSION_OF_UUID = 36, 14
"""The length of a UUID as text, and the index of the digit that names its version."""


NONE: Mapping[str, Any] = {}


def of_openai_agents() -> Scope | None:
    """Read the trace and the innermost agent of a run of the OpenAI Agents SDK."""
    module = sys.modules.get(OPENAI_AGENTS)
    trace = None if module is None else module.Scope.get_current_trace()
    if module is None or trace is None:
        return None
    run_id = trace.trace_id
    run = Run(_agent_of(module.Scope.get_current_span()), None if run_id == "no-op" else run_id)
    return Scope(string(getattr(trace, "group_id", None)), run=run)


def _agent_of(span: Any) -> str | None:
    """Find the innermost span of an agent. A span knows the one around it only by the token that restores it."""
    while span is not None:
        data = span.span_data
        if data.type == "agent":
            return string(data.name)
        token = getattr(span, "_prev_span_token", None)
        span = None if token is None or token.old_value is Token.MISSING else token.old_value
    return None


def of_pydantic_ai() -> Scope | None:
    """Read the conversation, agent and run of a run of pydantic-ai."""
    module = sys.modules.get(PYDANTIC_AI)
    current = None if module is None else module.get_current_run_context()
    if current is None:
        return None
    run = vars(current)  # the context of a durable run raises for attributes that it lacks
    session = string(run.get("conversation_id"))
    agent = string(getattr(run.get("agent"), "name", None))
    return Scope(session, run=Run(agent, string(run.get("run_id"))), invented=_is_invented(session, run))


def _is_invented(session: str | None, run: Mapping[str, Any]) -> bool:
    """Report whether pydantic-ai has perhaps made up the conversation's id, for a run without one.

    It makes a UUID of version 7 if neither the app nor the history gives an id. An app that rebuilds the history from
    its own storage gives none, so that each run of one conversation has another id.
    """
    if session is None or len(session) != LENGTH_OF_UUID or session[VERSION_OF_UUID] != "7":
        return False
    first = next(iter(run.get("messages") or ()), None)
    return first is None or first.conversation_id is None or first.run_id == run.get("run_id")


def of_llama_index() -> Scope | None:
    """Read the tags of LlamaIndex, and the memory, agent and run of one of its workflows.

    The chat engines keep their memory to themselves: outside of a workflow, the app's own tags alone name a session.
    """
    module, steps = sys.modules.get(LLAMA_INDEX), sys.modules.get(LLAMA_WORKFLOWS)
    tags = NONE if module is None else module.active_instrument_tags.get()
    weak = None if steps is None else steps.InternalContextVar.get(None)
    held = None if weak is None else weak()
    session = next((found for name in TAGS if (found := string(tags.get(name)))), None)
    if held is None:
        return None if session is None else Scope(session)
    state, workflow = _state_of(held), getattr(getattr(held, "_face", None), "_workflow", None)
    memory = state.get("memory")
    kept = string(getattr(memory, "session_id", None)) or string(getattr(memory, "chat_store_key", None))
    agent = string(state.get("current_agent_name")) or string(getattr(workflow, "name", None))
    run = Run(agent, string(tags.get("llamaindex.run_id")))
    if session or kept in (None, SHARED_KEY):
        return Scope(session, run=run)
    return Scope(kept, run=run, invented=len(kept) == LENGTH_OF_UUID and kept[VERSION_OF_UUID] == "4")


def _state_of(held: Any) -> Any:
    """Return the state of a workflow's run, as a mapping; none of one that is kept outside of this process."""
    storage = getattr(getattr(held, "store", None), "_memory_storage", None)
    state = getattr(getattr(storage, "_record", None), "data", None)
    return state if hasattr(state, "get") else NONE


def of_opentelemetry() -> Scope | None:
    """Read the conversation and the agent that an app or an instrumentation has put into OpenTelemetry's context."""
    trace, otel = sys.modules.get(OPENTELEMETRY), sys.modules.get("opentelemetry.context")
    current = None if otel is None else otel.get_current()
    if trace is None or not current:
        return None
    span = trace.get_current_span(current)
    attributes = _attributes(span) if span.is_recording() else NONE
    baggage = _baggage(current)
    session = (
        string(attributes.get(CONVERSATION))
        or _ambient(current)
        or string(baggage.get(CONVERSATION))
        or string(attributes.get(SESSION))
        or string(current.get(SESSION))  # where OpenInference's `using_session` puts it
        or string(baggage.get(SESSION))
    )
    agent = string(attributes.get(AGENT))
    return Scope(session, run=Run(agent) if agent else None) if session or agent else None


def _attributes(span: Any) -> Mapping[str, Any]:
    """Return the attributes of a span; the SDK's as the dict that it keeps, since its view is slow for absent names."""
    held = getattr(getattr(span, "_attributes", None), "_dict", None)
    if held is None:
        held = getattr(span, "attributes", None)
    return held or NONE


def _ambient(current: Any) -> str | None:
    """Read the conversation's id that OpenTelemetry's own instrumentations hand to the calls inside of a run."""
    module = sys.modules.get("opentelemetry.util.genai._conversation_context")
    return None if module is None else string(module.get_ambient_conversation_id(current))


def _baggage(current: Any) -> Mapping[str, Any]:
    module = sys.modules.get("opentelemetry.baggage")
    return NONE if module is None else module.get_all(current)


def _integration(name: str, module: str, reader: Callable[[], Scope | None], *, first: bool = True) -> Integration:
    """Make the integration that registers a reader once its framework is imported; its report has no row."""

    def install(_module: ModuleType, _capture: Capture) -> list[Patched]:
        context.read_runs(reader, first=first)
        return []

    return Integration(name, module, install, lambda: context.forget_runs(reader), captures=False)


READERS = (
    _integration("openai-agents", OPENAI_AGENTS, of_openai_agents),
    _integration("pydantic-ai", PYDANTIC_AI, of_pydantic_ai),
    _integration("llama-index", LLAMA_INDEX, of_llama_index),
    _integration("opentelemetry", OPENTELEMETRY, of_opentelemetry, first=False),
)
"""OpenTelemetry's is asked last: a framework knows its own session better than a span around it."""
