"""The pages of the request log: what reached the two APIs, how it went, and each request as it was received."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from starlette.routing import BaseRoute, Route

from converra.server.api.answers import iso
from converra.server.viewer import chat_view, figures
from converra.server.viewer.health import LATELY, health, outcome
from converra.server.viewer.pages import missing, number, page, render, store_of, wants_part

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from converra.server.store.records import LoggedRequest, RequestLine

PAGE = 100

_SHOWN_CHARACTERS = 200_000


def routes() -> list[BaseRoute]:
    """The log, one request, and the health strip."""
    return [
        Route("/requests", page(requests)),
        Route("/requests/{number}", page(one_request)),
        Route("/health", page(health_strip)),
    ]


def requests(request: Request) -> Response:
    """The log, newest first; for htmx the table alone."""
    store, query = store_of(request), request.query_params
    before = number(query.get("before"), least=0)
    refused = query.get("refused") == "yes"
    lines = store.log.lines(PAGE + 1, before=before or None, refused=refused)
    values: dict[str, Any] = {
        "lines": [_line(each) for each in lines[:PAGE]],
        "older": lines[PAGE - 1].number if len(lines) > PAGE else None,
        "before": before,
        "refused": refused,
        "health": health(store.log.lines(LATELY)),
        "base_url": f"{request.url.scheme}://{request.url.netloc}",
    }
    return render(request, "request_list.html" if wants_part(request) else "requests.html", **values)


def one_request(request: Request) -> Response:
    """One request with its headers and body."""
    found = store_of(request).log.find(number(request.path_params["number"], least=0))
    if found is None:
        return missing(request, "request")
    return render(
        request, "request.html", line=_line(found), brought=found.headers, body=_body(found), content=_content(found)
    )


def health_strip(request: Request) -> Response:
    """The strip alone: pages ask for it when something has happened."""
    return render(request, "health.html", health=health(store_of(request).log.lines(LATELY)))


def _line(found: RequestLine | LoggedRequest) -> dict[str, Any]:
    parts = found.path.partition("?")[0].split("/")
    is_conversation = parts[1:4] == ["api", "v1", "conversations"] and len(parts) > 4  # noqa: PLR2004 - the id is the fifth
    received = iso(found.received_at)
    return {
        "number": found.number,
        "request": found,
        "outcome": outcome(found.status),
        "time": received[11:23],
        "received": received,
        "ms": figures.duration(found.ms) if found.status is not None else None,
        "sent": figures.size(found.body_bytes),
        "answered": figures.size(found.answer_bytes or 0),
        "conversation": parts[4] if is_conversation else None,
    }


def _body(found: LoggedRequest) -> chat_view.Text:
    """The body, indented where it is JSON; of a huge one the beginning."""
    try:
        shown = msgspec.json.format(found.body, indent=2) if found.body else b""
    except (msgspec.DecodeError, RecursionError):
        shown = found.body
    text = shown.decode("utf-8", "replace")
    more = len(text) > _SHOWN_CHARACTERS or found.body_bytes > len(found.body)
    return chat_view.Text(text[:_SHOWN_CHARACTERS], "More of it is not shown." if more else "")


def _content(found: LoggedRequest) -> str | None:
    """The structured content of a create, which is JSON inside of JSON and hard to read there."""
    try:
        content = msgspec.json.decode(found.body, type=_Create).content
        return msgspec.json.format(content, indent=2)[:_SHOWN_CHARACTERS] if content.startswith("{") else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


class _Create(msgspec.Struct):
    content: str
