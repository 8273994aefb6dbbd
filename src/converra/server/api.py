"""The endpoints of the API document.

Where the document is silent: a `create` without a status is `in_progress`; a list is newest first, of at most 100;
"send completed exactly once", "on the final call", means that a completed conversation takes no further append.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from converra.conversation.limits import MAX_CONTENT_BYTES, MAX_MESSAGE_BYTES, MAX_MESSAGES
from converra.conversation.transcript import parse
from converra.errors import InvalidArgumentError
from converra.server import insights, schemas, validation
from converra.server.refusal import Refusal
from converra.server.store import NewConversation, fingerprint

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from starlette.requests import Request

    from converra.server.faults import Faults
    from converra.server.store import Conversation, Store

    Endpoint = Callable[[Request], Awaitable[Response]]

_TITLE_LENGTH = 60


class JSON(Response):
    """A JSON answer, encoded by msgspec."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Strict UTF-8 JSON."""
        return msgspec.json.encode(content)


def routes() -> list[BaseRoute]:
    """One row per path of the document."""
    return [
        _route("/conversations", GET=list_conversations, POST=create_conversation),
        _route("/conversations/{id}", GET=get_conversation),
        _route("/conversations/{id}/messages", POST=append_messages),
        _route("/conversations/{id}/insights", GET=get_insights),
    ]


def _route(path: str, **endpoints: Endpoint) -> Route:
    """One route for all methods of a path, so that a 405 can name them all."""

    async def dispatch(request: Request) -> Response:
        endpoint = endpoints.get(request.method)
        if endpoint is None:
            raise HTTPException(405, headers={"Allow": ", ".join(endpoints)})
        return await endpoint(request)

    return Route(path, dispatch, methods=["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"])


async def create_conversation(request: Request) -> Response:
    """POST /conversations."""
    account = _account(request)
    body = await _body(request, schemas.CREATE)
    _refuse_status(_faults(request), body.get("status"))
    messages, metadata = _read_content(body["content"])
    store = _store(request)
    with store.transaction():
        conversation = _existing(store, account, body) or _create(store, account, body, messages, metadata)
    return JSON(_created(conversation))


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
        title=_title(messages),
    )
    conversation = store.create(new)
    if "idempotencyKey" in body:
        store.remember_key(account, body["idempotencyKey"], conversation)
    return conversation


async def append_messages(request: Request) -> Response:
    """POST /conversations/{id}/messages."""
    account = _account(request)
    store = _store(request)
    _find(store, account, request)
    body = await _body(request, schemas.APPEND)
    _refuse_status(_faults(request), body.get("status"))
    for index, message in enumerate(body["messages"]):
        _check_size(message["content"], MAX_MESSAGE_BYTES, f"messages[{index}].content")
    with store.transaction():
        conversation = _find(store, account, request)
        _refuse_if_completed(conversation)
        conversation = store.append(
            conversation,
            body["messages"],
            metadata=body.get("metadata", {}),
            end=body.get("status") == "completed",
        )
        messages = store.messages(conversation)
        content = _content(conversation, messages)
        _check_count(len(messages))
        _check_size(content, MAX_CONTENT_BYTES, "content")
    return JSON(_whole(request, conversation, messages, content))


def _refuse_if_completed(conversation: Conversation) -> None:
    if conversation.status == "completed":
        raise Refusal(
            400,
            "VALIDATION_ERROR",
            "Conversation is already completed",
            {"status": '"completed" is sent exactly once, on the final call; nothing can be appended after it'},
        )


async def list_conversations(request: Request) -> Response:
    """GET /conversations."""
    account = _account(request)
    query = validation.query(request.query_params, schemas.LIST_QUERY)
    page, total = _store(request).conversations(
        account=account,
        prompt_id=query["promptId"],
        status=query["status"],
        completed=query["hasInsights"],
        limit=query["limit"],
        offset=query["offset"],
    )
    pagination = {"total": total, "limit": query["limit"], "offset": query["offset"]}
    return JSON({"data": [_summary(conversation) for conversation in page], "pagination": pagination})


async def get_conversation(request: Request) -> Response:
    """GET /conversations/{id}. Shows more than the document promises: messages, metadata and what an append shows."""
    account = _account(request)
    query = validation.query(request.query_params, schemas.GET_QUERY)
    store = _store(request)
    conversation = _find(store, account, request)
    messages = store.messages(conversation)
    answer = _whole(request, conversation, messages, _content(conversation, messages))
    if query["includeInsights"] and _has_insights(conversation):
        answer["insights"] = _short(insights.simulate(messages))
    return JSON(answer)


async def get_insights(request: Request) -> Response:
    """GET /conversations/{id}/insights. 404 until the conversation is completed."""
    store = _store(request)
    conversation = _find(store, _account(request), request)
    if not _has_insights(conversation):
        raise Refusal(404, "NOT_FOUND", "Insights not found: the conversation is not completed")
    found = insights.simulate(store.messages(conversation))
    return JSON({"conversationId": conversation.id, **found, "createdAt": _iso(conversation.completed_at)})


# what a request brings


def _account(request: Request) -> str:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Refusal(
            401,
            "UNAUTHORIZED",
            "Missing API key: send the header Authorization: Bearer <key>",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return fingerprint(key.strip())


async def _body(request: Request, schema: schemas.Schema) -> dict[str, Any]:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Refusal(415, "UNSUPPORTED_MEDIA_TYPE", "Send the body as application/json")
    body = validation.decode(await request.body())
    validation.check(body, schema)
    return body  # type: ignore[no-any-return] # the schema says that it is an object


def _read_content(content: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The messages and metadata of a content field (API document, "Content Format")."""
    _check_size(content, MAX_CONTENT_BYTES, "content")
    structured = _decoded_object(content)
    if structured is None:
        messages, metadata = _read_text(content), dict[str, Any]()
    else:
        messages, metadata = _read_structured(structured)
    for index, message in enumerate(messages):
        _check_size(message["content"], MAX_MESSAGE_BYTES, f"content.messages[{index}].content")
    return messages, metadata


def _decoded_object(content: str) -> dict[str, Any] | None:
    """The JSON object of structured content; None for text, which broken JSON counts as."""
    try:
        decoded = validation.decode(content.encode())
    except Refusal:
        return None
    return decoded if isinstance(decoded, dict) else None


def _read_structured(structured: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Field for field as sent: the models of the client would leave out what they do not know."""
    validation.check(structured, schemas.STRUCTURED_CONTENT, at="content")
    _check_count(len(structured["messages"]))
    return structured["messages"], structured.get("metadata", {})


def _read_text(content: str) -> list[dict[str, Any]]:
    try:
        return [{"role": message.role, "content": message.content} for message in parse(content).messages]
    except InvalidArgumentError as error:
        details = {"content": f"Neither JSON with a messages array nor text with role labels: {error}"}
        raise Refusal(400, "VALIDATION_ERROR", "Invalid request body", details) from error


def _find(store: Store, account: str, request: Request) -> Conversation:
    conversation = store.find(account, request.path_params["id"])
    if conversation is None:
        raise Refusal(404, "NOT_FOUND", "Conversation not found")
    return conversation


def _refuse_status(faults: Faults, status: str | None) -> None:
    """The fault of a server that does not know a status, as older ones may not know `active`."""
    if status in faults.refused_statuses:
        others = [
            name for name in schemas.CREATE["properties"]["status"]["enum"] if name not in faults.refused_statuses
        ]
        details = {"status": f"Must be one of: {', '.join(others)}"}
        raise Refusal(400, "VALIDATION_ERROR", "Invalid request body", details)


def _check_size(text: str, maximum: int, where: str) -> None:
    size = len(text.encode())
    if size > maximum:
        raise Refusal(413, "PAYLOAD_TOO_LARGE", "Payload Too Large", {where: f"{size:,} bytes; at most {maximum:,}"})


def _check_count(count: int) -> None:
    if count > MAX_MESSAGES:
        details = {"messages": f"{count:,} messages; at most {MAX_MESSAGES:,}"}
        raise Refusal(413, "PAYLOAD_TOO_LARGE", "Payload Too Large", details)


# what an answer shows


def _created(conversation: Conversation) -> dict[str, Any]:
    append = {
        "href": f"/api/v1/conversations/{conversation.id}/messages",
        "method": "POST",
        "hint": "Append turns to this conversation. Send status: 'completed' on the final call to trigger analysis.",
    }
    return {
        "id": conversation.id,
        "promptId": conversation.prompt_id,
        "status": conversation.status,
        "createdAt": _iso(conversation.created_at),
        "_links": {"appendMessages": append},
    }


def _summary(conversation: Conversation) -> dict[str, Any]:
    return {
        "id": conversation.id,
        "promptId": conversation.prompt_id,
        "status": conversation.status,
        "hasInsights": _has_insights(conversation),
        "createdAt": _iso(conversation.created_at),
    }


def _whole(
    request: Request, conversation: Conversation, messages: Sequence[Mapping[str, Any]], content: str
) -> dict[str, Any]:
    answer = {
        "id": conversation.id,
        "userId": f"user_{conversation.account}",
        "promptId": conversation.prompt_id,
        "title": conversation.title,
        "content": content,
        "messages": None if _faults(request).hide_messages else messages,
        "status": conversation.status,
        "llmModel": conversation.llm_model,
        "companyName": conversation.company_name,
        "createdAt": _iso(conversation.created_at),
        "updatedAt": _iso(conversation.updated_at),
        "metadata": conversation.metadata,
    }
    return {name: value for name, value in answer.items() if value is not None}


def _content(conversation: Conversation, messages: Sequence[Mapping[str, Any]]) -> str:
    """As it was sent, until an append makes it a transcript: for reading, so every role has its label."""
    if conversation.content is not None:
        return conversation.content
    return "\n".join(f"{message['role'].capitalize()}: {message['content']}" for message in messages)


def _has_insights(conversation: Conversation) -> bool:
    """Every conversation here is linked to a prompt, so a completed one has insights."""
    return conversation.completed_at is not None


def _short(found: dict[str, Any]) -> dict[str, Any]:
    """The insights as a conversation carries them: without score and issues, as in the document."""
    return {name: value for name, value in found.items() if name not in ("sentimentScore", "issues")}


def _title(messages: Sequence[Mapping[str, Any]]) -> str:
    said = next((message for message in messages if message["role"] == "user"), messages[0])
    words = " ".join(said["content"].split())
    return words if len(words) <= _TITLE_LENGTH else words[: _TITLE_LENGTH - 1] + "…"


def _iso(milliseconds: int | None) -> str | None:
    if milliseconds is None:
        return None
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _store(request: Request) -> Store:
    return request.app.state.store  # type: ignore[no-any-return]


def _faults(request: Request) -> Faults:
    return request.app.state.faults  # type: ignore[no-any-return]
