"""Names on spans: the session, agent, user and prompt of everything inside of a span. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from converra.integrations.payload.fields import string
from converra.wire import json_safe

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from converra.spans.span import Span

SESSIONS = (
    "gen_ai.conversation.id",
    "session.id",  # OpenInference, Langfuse
    "langfuse.session.id",
    "traceloop.association.properties.session_id",
    "traceloop.association.properties.thread_id",
    "ai.telemetry.metadata.sessionId",  # Vercel AI SDK up to version 6
    "ai.settings.context.sessionId",  # version 7
    "gcp.vertex.agent.session_id",  # ADK before the conventions
)
"""Attributes that name the session, the most certain first."""

AGENTS = ("gen_ai.agent.name", "agent.name", "agent_name")
RUNS = ("gen_ai.agent.call.id",)
USERS = (
    "user.id",
    "enduser.id",
    "langfuse.user.id",
    "traceloop.association.properties.user_id",
    "ai.telemetry.metadata.userId",
    "ai.settings.context.userId",
)
PROMPTS = ("converra.prompt.id", "gen_ai.prompt.name")

LENGTH_OF_UUID, VERSION_OF_UUID = 36, 14
PYDANTIC_AI = "pydantic-ai"


class Names(NamedTuple):
    """Names that a span gives to itself and to all spans inside of it; None for those that it does not give."""

    session: str | None = None
    agent: str | None = None
    run: str | None = None
    """The id of the agent's run."""
    user: str | None = None
    prompt: str | None = None
    invented: bool = False
    """The framework may have made up the session's id, so a resent history may name the conversation better."""

    def within(self, outer: Names) -> Names:
        """Complete the names by those of the span around it."""
        if not self.session:
            session, invented = outer.session, outer.invented
        else:
            session, invented = self.session, self.invented
        return Names(
            session,
            self.agent or outer.agent,
            self.run or outer.run,
            self.user or outer.user,
            self.prompt or outer.prompt,
            invented,
        )


NAMELESS = Names()


def names(span: Span) -> Names:
    """Read the names on a span; the prompt also on its resource (`converra.prompt.id`)."""
    found = of_attributes(span.attributes)
    prompt = found.prompt or json_safe.name(string(span.resource.get(PROMPTS[0])))
    invented = span.scope == PYDANTIC_AI and is_made_up(found.session)
    return found._replace(prompt=prompt, invented=invented) if prompt or invented else found


def of_attributes(attributes: Mapping[str, Any]) -> Names:
    """Read the names among attributes."""
    found = Names(
        _first(attributes, SESSIONS),
        _first(attributes, AGENTS),
        _first(attributes, RUNS),
        _first(attributes, USERS),
        _first(attributes, PROMPTS),
    )
    return NAMELESS if found == NAMELESS else found


def is_made_up(session: str | None) -> bool:
    """Report whether pydantic-ai has perhaps made up a session's id: it is a UUID of version 7."""
    return session is not None and len(session) == LENGTH_OF_UUID and session[VERSION_OF_UUID] == "7"


def _first(attributes: Mapping[str, Any], keys: Iterable[str]) -> str | None:
    for key in keys:
        if key in attributes and (value := json_safe.name(string(attributes[key]))):
            return value
    return None
