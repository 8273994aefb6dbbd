"""Creates and appends, carried out on the store, whichever way their bodies came."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, NamedTuple

from converra.server.api import answers, content
from converra.server.api.refusal import Refusal
from converra.server.store.records import NewConversation
from converra.wire.limits import MAX_CONTENT_BYTES, MAX_MESSAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from converra.server.store.conversations import Store
    from converra.server.store.records import Conversation


class Appended(NamedTuple):
    """A conversation before and after an append, and all of its messages as they were sent."""

    before: Conversation
    after: Conversation
    messages: list[dict[str, Any]]


def find(store: Store, account: str, conversation_id: str) -> Conversation:
    """Return an account's conversation; raises the 404 of the API if there is none."""
    conversation = store.find(account, conversation_id)
    if conversation is None:
        raise Refusal(404, "NOT_FOUND", "Conversation not found")
    return conversation


def create(store: Store, account: str, body: Mapping[str, Any]) -> Conversation:
    """Create the conversation of a checked body, or return the one of its idempotency key."""
    messages, metadata = content.read(body["content"])
    with store.transaction():
        return _existing(store, account, body) or _create(store, account, body, messages, metadata)


def _existing(store: Store, account: str, body: Mapping[str, Any]) -> Conversation | None:
    key = body.get("idempotencyKey")
    return store.keyed(account, key) if key else None


def _create(
    store: Store,
    account: str,
    body: Mapping[str, Any],
    messages: Sequence[Mapping[str, Any]],
    metadata: Mapping[str, Any],
) -> Conversation:
    new = NewConversation(
        id=f"conv_{secrets.token_hex(8)}",
        account=account,
        prompt_id=body["promptId"],
        status=body.get("status", "in_progress"),
        content=body["content"],
        messages=messages,
        metadata=metadata,
        llm_model=body.get("llmModel"),
        company_name=body.get("companyName"),
        title=content.title(messages),
    )
    conversation = store.create(new)
    if "idempotencyKey" in body:
        store.remember_key(account, body["idempotencyKey"], conversation)
    return conversation


def append(store: Store, account: str, conversation_id: str, body: Mapping[str, Any]) -> Appended:
    """Append the messages of a checked body; all of it or nothing."""
    for index, message in enumerate(body["messages"]):
        content.check_size(message["content"], MAX_MESSAGE_BYTES, f"messages[{index}].content")
    with store.transaction():
        before = find(store, account, conversation_id)
        _refuse_if_completed(before, body)
        after = store.append(
            before,
            body["messages"],
            metadata=body.get("metadata", {}),
            end=body.get("status") == "completed",
        )
        messages = store.sent(after)
        after = store.entitle(after, content.title(messages))
        content.check_count(len(messages))
        content.check_size(answers.transcript(after, messages), MAX_CONTENT_BYTES, "content")
    return Appended(before, after, messages)


def _refuse_if_completed(conversation: Conversation, body: Mapping[str, Any]) -> None:
    """Take notes such as feedback after the end, but no turn: an app that talks on has ended it too early."""
    note = "status" not in body and all(message["role"] == "system" for message in body["messages"])
    if conversation.status == "completed" and not note:
        raise Refusal(
            400,
            "VALIDATION_ERROR",
            "Conversation is already completed",
            {"status": '"completed" is sent exactly once, on the final call; only system messages may follow it'},
        )
