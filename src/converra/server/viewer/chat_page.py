"""The page of one conversation: a chat that grows while it is looked at, and what there is to know about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from converra.server import insights
from converra.server.api.answers import iso
from converra.server.viewer import chat_view, costs, emitters, figures, pictures, texts
from converra.server.viewer import timeline as timelines
from converra.server.viewer.charts import charts
from converra.server.viewer.export import EXPORTS, exported
from converra.server.viewer.pages import FILE_HEADERS, address_of, missing, number, page, render, store_of, wants_part
from converra.server.viewer.resending import resendings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from starlette.requests import Request

    from converra.server.store.conversations import Store
    from converra.server.store.records import Conversation
    from converra.server.viewer.drafts import Drafts

    Messages = Sequence[Mapping[str, Any]]

WINDOW = 500
"""Messages of one page: as many as the API takes for a conversation. Files of other programs may hold more."""


def routes() -> list[BaseRoute]:
    """A conversation, its messages, and its exports."""
    return [
        Route("/conversations/{id}", _of_one(conversation)),
        Route("/conversations/{id}/draft", _of_one(draft)),
        Route("/conversations/{id}/timeline", _of_one(timeline)),
        Route("/conversations/{id}/messages/{at}", _of_one(message)),
        Route("/conversations/{id}/export/{kind}", _of_one(export)),
    ]


def _of_one(
    handler: Callable[[Request, Conversation, Messages], Response],
) -> Callable[[Request], Awaitable[Response]]:
    """Make the page of the conversation that the address names, and of its messages."""

    def found_by_id(request: Request) -> Response:
        store = store_of(request)
        found = store.find(None, request.path_params["id"])
        return missing(request, "conversation") if found is None else handler(request, found, store.messages(found))

    return page(found_by_id)


class _Window(NamedTuple):
    """The messages of a conversation that one page shows."""

    first: int
    end: int
    """The place behind the last one."""
    current: bool = True


def conversation(request: Request, found: Conversation, messages: Messages) -> Response:
    """One conversation as a chat; for htmx only the messages `after` a number of them."""
    if wants_part(request):
        return _news(request, found, messages)
    window = _window(len(messages), number(request.query_params.get("at"), least=0))
    values = _about(store_of(request), found, messages, window) | {
        "bubbles": chat_view.bubbles(messages, only=range(window.first, window.end)),
        "windows": _windows(len(messages), window),
        "draft": _draft(request, found, messages),
    }
    return render(request, "conversation.html", **values)


def _news(request: Request, found: Conversation, messages: Messages) -> Response:
    """Render the messages that have come, and the calls that they answer."""
    after = number(request.query_params.get("after"), least=0)
    window = _Window(after, min(len(messages), after + WINDOW))
    bubbles = chat_view.bubbles(
        messages, only={*range(window.first, window.end), *chat_view.callers(messages[: window.end], after)}
    )
    late = [
        call
        for bubble in bubbles
        for call in bubble.calls
        if bubble.at < after <= (-1 if call.answered_at is None else call.answered_at)
    ]
    values = _about(store_of(request), found, messages, window) | {
        "bubbles": [bubble for bubble in bubbles if bubble.at >= after],
        "late": late,
        "draft": _draft(request, found, messages),
    }
    return render(request, "news.html", **values)


def _window(count: int, at: int) -> _Window:
    first = min(at, max(0, count - 1)) // WINDOW * WINDOW
    return _Window(first, min(count, first + WINDOW))


def _windows(count: int, shown: _Window) -> list[_Window]:
    return [
        _Window(first, min(count, first + WINDOW), current=first == shown.first) for first in range(0, count, WINDOW)
    ]


def timeline(request: Request, found: Conversation, messages: Messages) -> Response:
    """Show the messages of one conversation on one scale of time."""
    window = _window(len(messages), number(request.query_params.get("at"), least=0))
    return render(
        request,
        "timeline.html",
        conversation=found,
        address=address_of(found.id),
        title=texts.title(found.title),
        totals=found.totals,
        rows=timelines.timeline(messages, range(window.first, window.end)),
        sums=timelines.sums(messages),
        cost=costs.total(messages),
        cost_source=costs.source(),
        windows=_windows(len(messages), window),
        window=WINDOW,
    )


def draft(request: Request, found: Conversation, messages: Messages) -> Response:
    """Render the answer in progress, for htmx."""
    return render(request, "draft.html", draft=_draft(request, found, messages))


def message(request: Request, _found: Conversation, messages: Messages) -> Response:
    """Return one message as plain text: its content as it was sent, or the calls of one that has only those."""
    at = number(request.path_params["at"], least=0)
    if at >= len(messages):
        return missing(request, "message")
    said = messages[at]
    text = said["content"] or msgspec.json.format(msgspec.json.encode(said.get("toolCalls", [])), indent=2)
    body = text if isinstance(text, bytes) else text.encode("utf-8", "replace")
    return Response(body, 200, FILE_HEADERS, "text/plain; charset=utf-8")


def export(request: Request, found: Conversation, messages: Messages) -> Response:
    """The conversation as a file, in one of several formats."""
    kind = EXPORTS.get(request.path_params["kind"])
    if kind is None:
        return missing(request, "export")
    headers = FILE_HEADERS | {"Content-Disposition": f'attachment; filename="{found.id}.{kind.suffix}"'}
    return Response(exported(kind, found, messages), 200, headers, kind.media_type)


def _about(store: Store, found: Conversation, messages: Messages, window: _Window) -> dict[str, Any]:
    """All that the page shows beside the messages."""
    newer, older = store.catalogue.neighbours(found.number)
    shown = range(window.first, window.end)
    resent = resendings(store, found, messages, shown)
    return {
        "conversation": found,
        "address": address_of(found.id),
        "title": texts.title(found.title),
        "newer": newer,
        "older": older,
        "totals": found.totals,
        "emitter": emitters.of_conversation(found.sent_metadata),
        "latency": figures.duration(found.totals.latency_ms),
        "cost": costs.total(messages),
        "cost_source": costs.source(),
        "created": iso(found.created_at),
        "resendings": resent,
        "pictures": pictures.addresses(store, messages, resent, shown),
        "count": window.end,
        "at_end": window.end == len(messages),
        "open": _is_open(found),
        "charts": charts(messages),
        "continues": _text(found.metadata.get("continues")),
        "continued_in": store.catalogue.continuations(found.id),
        "session_size": store.catalogue.of_session(found.session_id) if found.session_id else 0,
        "metadata": texts.pretty(found.metadata) if found.metadata else None,
        "insights": _insights(messages) if found.completed_at is not None else None,
        "exports": EXPORTS,
    }


def _insights(messages: Messages) -> dict[str, Any]:
    """Return the insights, with the words that the summary quotes on their own: they may run from right to left."""
    found = insights.simulate(messages)
    before, _, rest = found["summary"].partition('"')
    quoted, _, after = rest.rpartition('"')
    return found | {"summary": (before, texts.title(quoted), after)}


def _draft(request: Request, found: Conversation, messages: Messages) -> tuple[texts.Text | None, texts.Text] | None:
    drafts: Drafts = request.app.state.drafts
    written = drafts.of(messages) if _is_open(found) else None
    if written is None:
        return None
    question, answer = written
    return texts.Texts().markdown(question) if question else None, texts.Texts().markdown(answer)


def _is_open(found: Conversation) -> bool:
    return found.status in ("active", "in_progress")


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
