"""The local server as one Starlette application."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Mount, Router

from converra.otlp.routes import Receiver
from converra.server.api import endpoints
from converra.server.api.answers import JSON
from converra.server.api.refusal import Refusal
from converra.server.faults.connections import Connections
from converra.server.faults.switches import FaultMiddleware, Faults
from converra.server.gate import GateMiddleware
from converra.server.journal import JournalMiddleware
from converra.server.model import anthropic, bedrock, gemini, ollama
from converra.server.model.endpoints import Model
from converra.server.model.wire import ModelError
from converra.server.spans import StoredSpans
from converra.server.store.changes import WEBHOOKS
from converra.server.viewer import routes
from converra.server.viewer.drafts import Drafts
from converra.server.viewer.pages import AT_A_TIME
from converra.server.viewer.refusal_page import refused
from converra.server.webhooks import Webhooks

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from converra.server.store.conversations import Store

_CODES = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}
_MODEL_ERRORS = {
    "/openai/": ModelError.body,
    "/google/": gemini.error_body,
    "/anthropic/": anthropic.error_body,
    "/bedrock/": bedrock.error_body,
    "/mistral/": ModelError.body,
    "/ollama/": ollama.error_body,
}
"""The form of the stand-in model's errors, by the start of the path."""


def create_app(
    store: Store, *, faults: Faults | None = None, connections: Connections | None = None, token: str | None = None
) -> Starlette:
    """API, stand-in model, receiver of spans and viewer over one store.

    Without `connections`, faults that break one raise instead. Without a `token`, answer this machine only; with one,
    answer every request that carries it.
    """
    faults = faults or Faults()
    connections = connections or Connections()
    drafts = Drafts(store.changes)
    model = Model(connections, store.log, drafts)
    webhooks = Webhooks(delivered=lambda: store.changes.publish((WEBHOOKS,)))
    spans = StoredSpans(store, webhooks.updated)
    app = Starlette(
        routes=[
            Mount("/api/v1", Router(endpoints.routes(), redirect_slashes=False)),
            Mount("/openai", Router(model.routes(), redirect_slashes=False)),
            Mount("/google", Router(model.gemini_routes(), redirect_slashes=False)),
            Mount("/anthropic", Router(model.anthropic_routes(), redirect_slashes=False)),
            Mount("/bedrock", Router(model.bedrock_routes(), redirect_slashes=False)),
            Mount("/mistral", Router(model.mistral_routes(), redirect_slashes=False)),
            Mount("/ollama", Router(model.ollama_routes(), redirect_slashes=False)),
            *Receiver(spans).routes(),
            *routes.routes(),
        ],
        middleware=[
            Middleware(GateMiddleware, token=token),
            Middleware(JournalMiddleware, store=store),
            Middleware(FaultMiddleware, faults=faults, connections=connections),
        ],
        exception_handlers={Refusal: _refused, HTTPException: _not_served, 500: _failed},
    )
    app.router.redirect_slashes = False
    app.state.store = store
    app.state.faults = faults
    app.state.drafts = drafts
    app.state.pages = asyncio.Semaphore(AT_A_TIME)
    app.state.webhooks = webhooks
    app.state.spans = spans
    return app


async def _refused(request: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, Refusal)  # noqa: S101 - registered for nothing else
    return refused(request.scope, refusal)


async def _not_served(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for nothing else
    form = next((form for prefix, form in _MODEL_ERRORS.items() if request.url.path.startswith(prefix)), None)
    if form is not None:
        unknown = ModelError(
            error.status_code, f"Invalid URL ({request.method} {request.url.path})", code="unknown_url"
        )
        body = form(unknown)
        return JSON(body, error.status_code, headers=error.headers)
    code = _CODES.get(error.status_code, "ERROR")
    refusal = Refusal(
        error.status_code, code, f"{error.detail}: {request.method} {request.url.path}", None, error.headers
    )
    return refused(request.scope, refusal)


async def _failed(request: Request, _error: Exception) -> Response:
    return refused(request.scope, Refusal(500, "INTERNAL_ERROR", "The local server failed; its log says why"))
