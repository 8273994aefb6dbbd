"""Common parts of the viewer's pages: template, frame, and security headers."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.requests import Request
    from starlette.responses import Response

    from converra.server.faults.switches import Faults
    from converra.server.store.conversations import Store

AT_A_TIME = 2
"""Pages that are made at the same time."""

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",  # without any, browsers hide the origin of our own forms from the gate
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}

FILE_HEADERS = {
    "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
"""Of what is no page: text and files, in which nothing runs, whatever they hold."""


def page(handler: Callable[[Request], Response]) -> Callable[[Request], Awaitable[Response]]:
    """Have a page made in a thread, from the store's own connections for reading: no API request waits for it.

    Few at a time, since threads that compute take turns with the event loop.
    """

    async def endpoint(request: Request) -> Response:
        under_way: asyncio.Semaphore = request.app.state.pages
        async with under_way:
            return await run_in_threadpool(_made, handler, request)

    return endpoint


def _made(handler: Callable[[Request], Response], request: Request) -> Response:
    store = store_of(request)
    request.state.version = store.changes.version  # before anything is read: a change in between is sent again
    with store.reading():
        return handler(request)


def render(
    request: Request, template: str, *, status: int = 200, headers: Mapping[str, str] | None = None, **values: Any
) -> Response:
    """A page, or the part of one that a template is."""
    frame = {
        "path": request.url.path,
        "version": getattr(request.state, "version", store_of(request).changes.version),
        "armed": len(faults_of(request).armed()),
    }
    text = templates().get_template(template).render(**frame, **values)
    return HTMLResponse(text.encode("utf-8", "replace"), status, {**SECURITY_HEADERS, **(headers or {})})


def missing(request: Request, what: str) -> Response:
    """The page that says that something is not there."""
    return render(request, "missing.html", status=404, what=what)


def address_of(conversation_id: str) -> str:
    """Return the address of a conversation's page."""
    return f"/conversations/{quote(conversation_id, safe='')}"


def wants_part(request: Request) -> bool:
    """Return True if htmx asks for a part of the page; a history restore wants the whole page."""
    headers = request.headers
    return "hx-request" in headers and "hx-history-restore-request" not in headers


@cache
def templates() -> Environment:
    """Everything is escaped; a misspelt name is an error, not an empty string."""
    return Environment(
        loader=PackageLoader("converra.server"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def number(text: str | None, *, least: int = 1) -> int:
    """A number of a query; the least for any nonsense."""
    text = text or ""
    return max(least, int(text)) if text.isascii() and text.isdecimal() and len(text) < 10 else least  # noqa: PLR2004 - fits SQLite


def store_of(request: Request) -> Store:
    """The store of the server."""
    return request.app.state.store  # type: ignore[no-any-return]


def faults_of(request: Request) -> Faults:
    """The fault switches of the server."""
    return request.app.state.faults  # type: ignore[no-any-return]
