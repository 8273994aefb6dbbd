"""The page of one conversation: a chat that grows while it is looked at, and what there is to know about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from converra.server import insights
from converra.server.api.answers import iso
from converra.server.viewer import chat_view, figures
from converra.server.viewer.charts import charts
from converra.server.viewer.export import EXPORTS, exported
from converra.server.viewer.pages import missing, number, page, render, store_of, wants_part
from converra.server.viewer.resending import resendings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.requests import Request

    from converra.server.store.conversations import Store
    from converra.server.store.records import Conversation
    from converra.server.viewer.drafts import Drafts


def routes() -> list[BaseRoute]:
    """A conversation, and its exports."""
    return [
        Route("/conversations/{id}", page(conversation)),
        Route("/conversations/{id}/draft", page(draft)),
        Route("/conversations/{id}/export/{kind}", page(export)),
    ]


def conversation(request: Request) -> Response:
    """One conversation as a chat; for htmx only the messages `after` a number of them."""
    store = store_of(request)
    found = store.find(None, request.path_params["id"])
    if found is None:
        return missing(request, "conversation")
    messages = store.messages(found)
    values = _about(store, found, messages) | {"draft": _draft(request, found, messages)}
    if not wants_part(request):
        return render(request, "conversation.html", **values)
    after = number(request.query_params.get("after"), least=0)
    late = [
        call
        for bubble in values["bubbles"]
        for call in bubble.calls
        if bubble.at < after <= (-1 if call.answered_at is None else call.answered_at)
    ]
    values["bubbles"] = [bubble for bubble in values["bubbles"] if bubble.at >= after]
    return render(request, "news.html", late=late, **values)


def draft(request: Request) -> Response:
    """Render the answer in progress, for htmx."""
    store = store_of(request)
    found = store.find(None, request.path_params["id"])
    if found is None:
        return missing(request, "conversation")
    return render(request, "draft.html", draft=_draft(request, found, store.messages(found)))


def export(request: Request) -> Response:
    """The conversation as a file, in one of several formats."""
    store, kind = store_of(request), EXPORTS.get(request.path_params["kind"])
    found = store.find(None, request.path_params["id"])
    if found is None or kind is None:
        return missing(request, "export")
    headers = {
        "Content-Disposition": f'attachment; filename="{found.id}.{kind.suffix}"',
        "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }
    return Response(exported(kind, found, store.messages(found)), 200, headers, kind.media_type)


def _about(store: Store, found: Conversation, messages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All that the page shows."""
    return {
        "conversation": found,
        "totals": found.totals,
        "latency": figures.duration(found.totals.latency_ms),
        "created": iso(found.created_at),
        "bubbles": chat_view.bubbles(messages),
        "resendings": resendings(store, found, messages),
        "count": len(messages),
        "open": _is_open(found),
        "charts": charts(messages),
        "continues": _text(found.metadata.get("continues")),
        "continued_in": store.catalogue.continuations(found.id),
        "session_size": store.catalogue.of_session(found.session_id) if found.session_id else 0,
        "metadata": chat_view.pretty(found.metadata) if found.metadata else None,
        "insights": insights.simulate(messages) if found.completed_at is not None else None,
        "exports": EXPORTS,
    }


def _draft(request: Request, found: Conversation, messages: Sequence[Mapping[str, Any]]) -> tuple[str, str] | None:
    drafts: Drafts = request.app.state.drafts
    return drafts.of(messages) if _is_open(found) else None


def _is_open(found: Conversation) -> bool:
    return found.status in ("active", "in_progress")


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
