"""API answers that show a stored conversation."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response

from converra.server import insights

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from converra.server.store.records import Conversation


class JSON(Response):
    """A JSON answer, encoded by msgspec."""

    media_type: str = "application/json"

    def render(self, content: Any) -> bytes:
        """Strict UTF-8 JSON."""
        return msgspec.json.encode(content)


def created(conversation: Conversation) -> dict[str, Any]:
    """Build the answer to a create."""
    append = {
        "href": f"/api/v1/conversations/{conversation.id}/messages",
        "method": "POST",
        "hint": "Append turns to this conversation. Send status: 'completed' on the final call to trigger analysis.",
    }
    return {
        "id": conversation.id,
        "promptId": conversation.prompt_id,
        "status": conversation.status,
        "createdAt": iso(conversation.created_at),
        "_links": {"appendMessages": append},
    }


def summary(conversation: Conversation) -> dict[str, Any]:
    """A line of the list."""
    return {
        "id": conversation.id,
        "promptId": conversation.prompt_id,
        "status": conversation.status,
        "hasInsights": has_insights(conversation),
        "createdAt": iso(conversation.created_at),
    }


def as_sent(
    conversation: Conversation, messages: Sequence[Mapping[str, Any]], *, show_messages: bool = True
) -> dict[str, Any]:
    """Build the answer to an append or a get: the whole conversation, as it was sent."""
    shown = whole(conversation, messages) | {"metadata": conversation.sent_metadata}
    return shown if show_messages else {name: value for name, value in shown.items() if name != "messages"}


def whole(conversation: Conversation, messages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The same with the details of the messages where they belong. Fields without a value are left out."""
    answer = {
        "id": conversation.id,
        "userId": f"user_{conversation.account}",
        "promptId": conversation.prompt_id,
        "title": conversation.title,
        "content": transcript(conversation, messages),
        "messages": messages,
        "status": conversation.status,
        "llmModel": conversation.llm_model,
        "companyName": conversation.company_name,
        "createdAt": iso(conversation.created_at),
        "updatedAt": iso(conversation.updated_at),
        "metadata": conversation.metadata,
    }
    return {name: value for name, value in answer.items() if value is not None}


def transcript(conversation: Conversation, messages: Sequence[Mapping[str, Any]]) -> str:
    """As it was sent, until an append makes it a transcript: for reading, so every role has its label."""
    return spoken(messages) if conversation.content is None else conversation.content


def spoken(messages: Sequence[Mapping[str, Any]]) -> str:
    """One `Role: content` after another."""
    return "\n".join(f"{message['role'].capitalize()}: {message['content']}" for message in messages)


def has_insights(conversation: Conversation) -> bool:
    """Every conversation here is linked to a prompt, so a completed one has insights."""
    return conversation.completed_at is not None


def full_insights(conversation: Conversation, messages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Build the answer of the insights endpoint. Insights are made when the conversation is completed."""
    found = insights.simulate(messages)
    return {"conversationId": conversation.id, **found, "createdAt": iso(conversation.updated_at)}


def short_insights(messages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The insights as a conversation carries them: without score and issues, as in the document."""
    found = insights.simulate(messages)
    return {name: value for name, value in found.items() if name not in ("sentimentScore", "issues")}


def iso(milliseconds: int) -> str:
    """A time as the API writes it, in UTC."""
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
