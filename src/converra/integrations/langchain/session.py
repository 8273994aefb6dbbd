"""Session, model and tools of a run, read from the arguments of callbacks and from the configuration of its chain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from langchain_core.runnables.config import var_child_runnable_config

from converra.history.turn import Origin, Scope
from converra.integrations.langchain.runs import TRACES
from converra.integrations.payload.fields import fields, items, string

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SESSION_KEYS = ("thread_id", "session_id", "conversation_id")
"""Where LangGraph, RunnableWithMessageHistory and the conventions of tracing put a session's id."""


CHECKPOINTER = "__pregel_checkpointer"
"""Where LangGraph puts the checkpointer in the configuration of a node."""


def session_of(metadata: Mapping[str, Any] | None) -> str | None:
    """Find the framework's session of a run: in its metadata, or in the configuration of its chain."""
    return _session(metadata) or _session(fields(fields(var_child_runnable_config.get()).get("configurable")))


def session_in(config: Mapping[str, Any]) -> str | None:
    """Find the framework's session that a config names: in its metadata, or in `configurable`."""
    return _session(fields(config.get("metadata"))) or _session(fields(config.get("configurable")))


def surrounding() -> Scope | None:
    """Return the scope of the run in whose context a node, a tool or a step of a chain makes a call."""
    config = var_child_runnable_config.get()
    if config is None:
        return None
    callbacks = config.get("callbacks")
    origins = (getattr(handler, "origin", None) for handler in getattr(callbacks, "handlers", ()))
    origin = next((origin for origin in origins if isinstance(origin, Origin)), None)
    return Scope(session_in(config), origin, TRACES.get(getattr(callbacks, "parent_run_id", None)))


def is_kept() -> bool:
    """Report whether the run is part of a graph that keeps its messages, by a checkpointer."""
    configurable = fields(fields(var_child_runnable_config.get()).get("configurable"))
    return configurable.get(CHECKPOINTER) is not None


def _session(values: Mapping[str, Any] | None) -> str | None:
    if values:
        for key in SESSION_KEYS:
            value = values.get(key)
            if value is not None and isinstance(value, str | int | UUID) and not isinstance(value, bool):
                session = str(value)
                if session:
                    return session
    return None


def model_of(parameters: Mapping[str, Any], metadata: Mapping[str, Any] | None) -> str | None:
    """Return the name of the requested model."""
    names = (parameters.get("model"), parameters.get("model_name"), (metadata or {}).get("ls_model_name"))
    return next(filter(None, map(string, names)), None)


def tools_of(parameters: Mapping[str, Any]) -> Sequence[Any]:
    """Return the tools that a call declares."""
    return items(parameters.get("tools")) or items(parameters.get("functions"))
