"""The pages: a list of conversations, and one conversation as a chat."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from converra.server import chat_view, insights
from converra.server.answers import iso

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from converra.server.records import Conversation
    from converra.server.store import Store

PAGE = 50

_SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def routes() -> list[BaseRoute]:
    """The viewer's own paths."""
    return [
        Route("/", conversations),
        Route("/conversations/{id}", conversation),
        Mount("/static", StaticFiles(packages=[("converra.server", "static")])),
    ]


async def conversations(request: Request) -> Response:
    """The newest conversations of every account."""
    store = _store(request)
    page = _page_number(request)
    found, total = store.conversations(limit=PAGE, offset=(page - 1) * PAGE)
    return _render(
        request,
        "conversations.html",
        rows=[_row(store, each) for each in found],
        total=total,
        page=page,
        pages=max(1, -(-total // PAGE)),
        base_url=f"{request.url.scheme}://{request.url.netloc}",
    )


async def conversation(request: Request) -> Response:
    """One conversation as a chat."""
    store = _store(request)
    found = store.find(None, request.path_params["id"])
    if found is None:
        return _render(request, "missing.html", status=404)
    messages = store.messages(found)
    return _render(
        request,
        "conversation.html",
        row=_row(store, found),
        bubbles=chat_view.bubbles(messages),
        metadata=chat_view.pretty(found.metadata) if found.metadata else None,
        insights=insights.simulate(messages) if found.completed_at is not None else None,
    )


def _row(store: Store, found: Conversation) -> dict[str, Any]:
    return {
        "conversation": found,
        "totals": chat_view.totals(store.messages(found)),
        "created": iso(found.created_at),
        "ago": chat_view.ago(found.updated_at, store.now()),
        "session": found.metadata.get("sessionId"),
    }


def _page_number(request: Request) -> int:
    asked = request.query_params.get("page", "")
    return max(1, int(asked)) if asked.isascii() and asked.isdecimal() and len(asked) < 7 else 1  # noqa: PLR2004 - fits SQLite


def _render(request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
    page = _templates().get_template(template).render(path=request.url.path, **values)
    return HTMLResponse(page, status, headers=_SECURITY_HEADERS)


@cache
def _templates() -> Environment:
    """Everything is escaped; a misspelt name is an error, not an empty string."""
    return Environment(
        loader=PackageLoader("converra.server"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _store(request: Request) -> Store:
    return request.app.state.store  # type: ignore[no-any-return]
