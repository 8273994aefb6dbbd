"""The endpoints of the API document.

Where the document is silent: a `create` without a status is `in_progress`; a list is newest first, of at most 100;
"send completed exactly once", "on the final call", means that a completed conversation takes no further append.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Route

from converra.server.api import answers, openapi, schemas, storing, validation
from converra.server.api.answers import JSON
from converra.server.api.refusal import Refusal
from converra.server.journal import REPLAYED_FOR
from converra.server.store.records import fingerprint

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from converra.server.faults.switches import Faults
    from converra.server.store.conversations import Store
    from converra.server.store.records import Conversation

    Endpoint = Callable[[Request], Awaitable[Response]]


def routes() -> list[BaseRoute]:
    """One row per path of the document."""
    return [
        _route("/openapi.json", GET=get_document),
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


async def get_document(_request: Request) -> Response:
    """GET /openapi.json. Needs no key."""
    return JSON(openapi.document())


async def create_conversation(request: Request) -> Response:
    """POST /conversations."""
    account = _account(request)
    body = await _body(request, schemas.CREATE)
    _refuse_status(_faults(request), body.get("status"))
    return JSON(answers.created(storing.create(_store(request), account, body)))


async def append_messages(request: Request) -> Response:
    """POST /conversations/{id}/messages."""
    account = _account(request)
    store = _store(request)
    _find(store, account, request)
    body = await _body(request, schemas.APPEND)
    _refuse_status(_faults(request), body.get("status"))
    appended = storing.append(store, account, request.path_params["id"], body)
    request.app.state.webhooks.updated(appended.before, appended.after)
    answer = answers.as_sent(appended.after, appended.messages, show_messages=not _faults(request).hide_messages)
    return JSON(answer)


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
    return JSON({"data": [answers.summary(conversation) for conversation in page], "pagination": pagination})


async def get_conversation(request: Request) -> Response:
    """GET /conversations/{id}. Shows more than the document promises: messages, metadata and what an append shows."""
    account = _account(request)
    query = validation.query(request.query_params, schemas.GET_QUERY)
    store = _store(request)
    conversation = _find(store, account, request)
    messages = store.sent(conversation)
    answer = answers.as_sent(conversation, messages, show_messages=not _faults(request).hide_messages)
    if query["includeInsights"] and answers.has_insights(conversation):
        answer["insights"] = answers.short_insights(messages)
    return JSON(answer)


async def get_insights(request: Request) -> Response:
    """GET /conversations/{id}/insights. 404 until the conversation is completed."""
    store = _store(request)
    conversation = _find(store, _account(request), request)
    if not answers.has_insights(conversation):
        raise Refusal(404, "NOT_FOUND", "Insights not found: the conversation is not completed")
    return JSON(answers.full_insights(conversation, store.messages(conversation)))


# what a request brings


def _account(request: Request) -> str:
    if (replayed := request.scope.get(REPLAYED_FOR)) is not None:
        return str(replayed)
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


def _find(store: Store, account: str, request: Request) -> Conversation:
    return storing.find(store, account, request.path_params["id"])


def _refuse_status(faults: Faults, status: str | None) -> None:
    """The fault of a server that does not know a status, as older ones may not know `active`."""
    if status in faults.refused_statuses:
        known = schemas.CREATE["properties"]["status"]["enum"]
        others = ", ".join(name for name in known if name not in faults.refused_statuses)
        details = {"status": f"Must be one of: {others}"}
        raise Refusal(400, "VALIDATION_ERROR", "Invalid request body", details)


def _store(request: Request) -> Store:
    return request.app.state.store  # type: ignore[no-any-return]


def _faults(request: Request) -> Faults:
    return request.app.state.faults  # type: ignore[no-any-return]
