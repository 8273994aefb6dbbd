"""The pages of the request log: what reached the two APIs, and each request with its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from converra.server.api.answers import iso
from converra.server.api.refusal import Refusal
from converra.server.journal import API_BY_PATH
from converra.server.viewer import figures, replay, texts
from converra.server.viewer.health import LATELY, health, outcome
from converra.server.viewer.pages import FILE_HEADERS, missing, number, page, render, store_of, wants_part

if TYPE_CHECKING:
    from starlette.requests import Request

    from converra.server.store.records import LoggedRequest, RequestLine

PAGE = 100

_SHOWN_CHARACTERS = 200_000


_APIS = {"": "any", **{path: api.name for path, api in API_BY_PATH.items()}}
"""The filter by API: a prefix of the path, and its name."""


def routes() -> list[BaseRoute]:
    """The log, one request, and the health strip."""
    return [
        Route("/requests", page(requests)),
        Route("/requests/{number}", page(one_request)),
        Route("/requests/{number}/curl", page(as_curl)),
        Route("/requests/{number}/again", again, methods=["POST"]),
        Route("/health", page(health_strip)),
    ]


class _Filters(NamedTuple):
    """Filters of the log; an empty text does not filter."""

    failed: str = ""
    api: str = ""
    q: str = ""

    def link(self, **changed: str) -> str:
        """Return the address of the log with these filters, some of them `changed`."""
        query = {name: value for name, value in (self._asdict() | changed).items() if value}
        return f"/requests?{urlencode(query)}" if query else "/requests"


def requests(request: Request) -> Response:
    """The log, newest first; for htmx the table alone."""
    store, query = store_of(request), request.query_params
    before = number(query.get("before"), least=0)
    filters = _Filters(**{name: query.get(name, "").strip() for name in _Filters._fields})
    api = filters.api if filters.api in _APIS else ""
    lines = store.log.lines(PAGE + 1, before=before or None, refused=filters.failed == "yes", api=api, words=filters.q)
    values: dict[str, Any] = {
        "lines": [_line(each) for each in lines[:PAGE]],
        "older": lines[PAGE - 1].number if len(lines) > PAGE else None,
        "before": before,
        "filters": filters,
        "apis": _APIS,
        "health": health(store.log.lines(LATELY)),
        "base_url": _base_url(request),
    }
    if wants_part(request):
        shown = {"before": str(before)} if before else {}
        return render(request, "request_list.html", headers={"HX-Replace-Url": filters.link(**shown)}, **values)
    return render(request, "requests.html", **values)


def one_request(request: Request) -> Response:
    """One request and its answer."""
    found = _found(request)
    if found is None:
        return missing(request, "request")
    return render(
        request,
        "request.html",
        line=_line(found),
        brought=found.headers,
        brought_body=_body(found.body, found.body_bytes),
        content=_content(found),
        answer=_body(found.answer, found.answer_bytes or 0),
        can_be_sent=replay.can_be_sent(found),
    )


def as_curl(request: Request) -> Response:
    """The request as a command line."""
    found = _found(request)
    command = replay.curl(found, _base_url(request)) if found else None
    if command is None:
        return missing(request, "request")
    return Response(command + "\n", 200, FILE_HEADERS, "text/plain; charset=utf-8")


async def again(request: Request) -> Response:
    """Send the request again, and show it; the gate lets no other site's page ask for that."""
    found = await run_in_threadpool(_found, request)
    if found is None or not replay.can_be_sent(found):
        raise Refusal(404, "NOT_FOUND", "The log does not have all of this request")
    return RedirectResponse(f"/requests/{await replay.send_again(request.app, found)}", 303)


def _found(request: Request) -> LoggedRequest | None:
    return store_of(request).log.find(number(request.path_params["number"], least=0))


def _base_url(request: Request) -> str:
    return f"{request.url.scheme}://{request.url.netloc}"


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


def _body(kept: bytes, size: int) -> texts.Text:
    """A body, indented if it is JSON; of a huge one the beginning."""
    try:
        shown = msgspec.json.format(kept, indent=2) if kept else b""
    except (msgspec.DecodeError, RecursionError):
        shown = kept
    text = shown.decode("utf-8", "replace")
    more = len(text) > _SHOWN_CHARACTERS or size > len(kept)
    return texts.Text(text[:_SHOWN_CHARACTERS], "More of it is not shown." if more else "")


def _content(found: LoggedRequest) -> str | None:
    """The structured content of a create, which is JSON inside of JSON and hard to read there."""
    try:
        content = msgspec.json.decode(found.body, type=_Create).content
        return msgspec.json.format(content, indent=2)[:_SHOWN_CHARACTERS] if content.startswith("{") else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


class _Create(msgspec.Struct):
    content: str
