"""The viewer's paths, and its first page: the conversations, live, filtered and searched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from starlette.responses import RedirectResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from converra.server.api.answers import iso
from converra.server.faults import chaos
from converra.server.store.excerpt import excerpt
from converra.server.store.search import PLACE_BITS
from converra.server.viewer import (
    chat_page,
    compare_page,
    emitters,
    figures,
    forget_page,
    pictures,
    request_pages,
    texts,
    webhook_page,
)
from converra.server.viewer.filters import filters_of, link, title
from converra.server.viewer.health import LATELY, health
from converra.server.viewer.live import live
from converra.server.viewer.pages import address_of, number, page, render, store_of, wants_part

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from converra.server.store.conversations import Store
    from converra.server.store.records import Conversation

PAGE = 50

_SORTS = {"": "newest", "updated": "last turn", "turns": "turns", "tokens": "tokens", "latency": "latency"}

_FRESH_MS = 1500
"""A conversation that changed so lately lights up."""


def routes() -> list[BaseRoute]:
    """The viewer's own paths."""
    return [
        Route("/", page(conversations)),
        Route("/live", live),
        Route("/favicon.ico", favicon),
        *chat_page.routes(),
        *compare_page.routes(),
        *forget_page.routes(),
        *pictures.routes(),
        *request_pages.routes(),
        *chaos.routes(),
        *webhook_page.routes(),
        Mount("/static", StaticFiles(packages=[("converra.server", "static")])),
    ]


async def favicon(_request: Request) -> Response:
    """Send browsers that ask for an icon by its old name, such as on a page of JSON, to the icon."""
    return RedirectResponse("/static/icon.svg", 308)


def conversations(request: Request) -> Response:
    """The conversations of every account, newest first; for htmx the list alone."""
    store, query = store_of(request), request.query_params
    filters = filters_of(query)
    at = number(query.get("page"))
    found = store.catalogue.page(filters, limit=PAGE, offset=(at - 1) * PAGE)
    values: dict[str, Any] = {
        "rows": [_row(store, each, found.places.get(each.number), filters.q) for each in found.conversations],
        "filters": filters,
        "title": title(filters),
        "sorts": _SORTS,
        "prompts": store.catalogue.prompts(),
        "models": store.catalogue.models(),
        "total": found.total,
        "page": at,
        "pages": max(1, -(-found.total // PAGE)),
        "more": found.more,
        "link": lambda number: link(filters, number),
        "deletion": forget_page.address(filters),
        "deleted": number(query.get("deleted"), least=0),
        "health": health(store.log.lines(LATELY)),
        "base_url": f"{request.url.scheme}://{request.url.netloc}",
    }
    if wants_part(request):
        return render(request, "list.html", headers={"HX-Replace-Url": link(filters, at)}, part=True, **values)
    return render(request, "conversations.html", part=False, **values)


def _address(conversation_id: str, place: int | None, q: str) -> str:
    """Return the address of a conversation; of one that was found by its words, that of the message with them."""
    path = address_of(conversation_id)
    if place is None:
        return path
    at = place & ((1 << PLACE_BITS) - 1)
    window = {"at": str(at)} if at >= chat_page.WINDOW else {}
    return f"{path}?{urlencode({'q': q} | window)}#m{at}"


def _row(store: Store, found: Conversation, place: int | None, q: str) -> dict[str, Any]:
    now = store.now()
    return {
        "conversation": found,
        "address": _address(found.id, place, q),
        "title": texts.title(found.title),
        "totals": found.totals,
        "emitter": emitters.of_conversation(found.sent_metadata),
        "tokens": (figures.count(found.totals.tokens_in), figures.count(found.totals.tokens_out)),
        "latency": figures.duration(found.totals.latency_ms),
        "updated": iso(found.updated_at),
        "ago": figures.ago(found.updated_at, now),
        "fresh": now - found.updated_at < _FRESH_MS,
        "excerpt": excerpt(store.catalogue.said(place), q) if place else [],
    }
