"""The viewer's paths, and its first page: the conversations, live, filtered and searched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from converra.server.api.answers import iso
from converra.server.faults import chaos
from converra.server.store.catalogue import Filters
from converra.server.store.excerpt import excerpt
from converra.server.viewer import chat_page, figures, request_pages, webhook_page
from converra.server.viewer.health import LATELY, health
from converra.server.viewer.live import live
from converra.server.viewer.pages import number, page, render, store_of, wants_part

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from converra.server.store.conversations import Store
    from converra.server.store.records import Conversation

PAGE = 50

_FRESH_MS = 1500
"""A conversation that changed so lately lights up."""


def routes() -> list[BaseRoute]:
    """The viewer's own paths."""
    return [
        Route("/", page(conversations)),
        Route("/live", live),
        *chat_page.routes(),
        *request_pages.routes(),
        *chaos.routes(),
        *webhook_page.routes(),
        Mount("/static", StaticFiles(packages=[("converra.server", "static")])),
    ]


def conversations(request: Request) -> Response:
    """The conversations of every account, newest first; for htmx the list alone."""
    store, query = store_of(request), request.query_params
    filters = Filters(**{name: query.get(name, "").strip() for name in Filters._fields})
    at = number(query.get("page"))
    found = store.catalogue.page(filters, limit=PAGE, offset=(at - 1) * PAGE)
    values: dict[str, Any] = {
        "rows": [_row(store, each, found.places.get(each.number), filters.q) for each in found.conversations],
        "filters": filters,
        "prompts": store.catalogue.prompts(),
        "models": store.catalogue.models(),
        "total": found.total,
        "page": at,
        "pages": max(1, -(-found.total // PAGE)),
        "more": found.more,
        "link": lambda number: _link(filters, number),
        "health": health(store.log.lines(LATELY)),
        "base_url": f"{request.url.scheme}://{request.url.netloc}",
    }
    if wants_part(request):
        return render(request, "list.html", headers={"HX-Replace-Url": _link(filters, at)}, **values)
    return render(request, "conversations.html", **values)


def _link(filters: Filters, page: int) -> str:
    """The address of a page of the list."""
    query = urlencode(filters.given() | ({"page": str(page)} if page > 1 else {}))
    return f"/?{query}" if query else "/"


def _row(store: Store, found: Conversation, place: int | None, q: str) -> dict[str, Any]:
    now = store.now()
    return {
        "conversation": found,
        "totals": found.totals,
        "tokens": (figures.count(found.totals.tokens_in), figures.count(found.totals.tokens_out)),
        "latency": figures.duration(found.totals.latency_ms),
        "updated": iso(found.updated_at),
        "ago": figures.ago(found.updated_at, now),
        "fresh": now - found.updated_at < _FRESH_MS,
        "excerpt": excerpt(store.catalogue.said(place), q) if place else [],
    }
