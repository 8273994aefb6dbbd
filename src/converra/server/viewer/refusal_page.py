"""The page that a browser gets where a program gets an error as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.responses import HTMLResponse

from converra.server.api.answers import JSON
from converra.server.api.exporter import refused_exporter
from converra.server.journal import APIS
from converra.server.viewer.pages import SECURITY_HEADERS, templates

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import Scope

    from converra.server.api.refusal import Refusal

_TITLES = {
    401: "This server asks for its token",
    403: "This page is refused",
    404: "There is no such page",
    405: "This page is not asked for like that",
    500: "The local server failed",
}
_OTHER = "This did not work"
_HEADERS = SECURITY_HEADERS | {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; base-uri 'none';"
        " frame-ancestors 'none'"
    )
}
"""The page brings its style along: what is refused to it, the style sheet would be, too."""


def refused(scope: Scope, refusal: Refusal) -> Response:
    """Answer with a refusal: a page for a browser on its way to a page, else JSON."""
    if not _wants_page(scope):
        return refused_exporter(scope, refusal) or JSON(refusal.body(), refusal.status, headers=refusal.headers)
    text = (
        templates()
        .get_template("refusal.html")
        .render(
            status=refusal.status,
            title=_TITLES.get(refusal.status, _OTHER),
            message=refusal.message,
            asks_for_token=refusal.status == 401,  # noqa: PLR2004 - HTTP
            known_here=refusal.status not in (401, 403),
        )
    )
    return HTMLResponse(text.encode("utf-8", "replace"), refusal.status, {**_HEADERS, **(refusal.headers or {})})


def _wants_page(scope: Scope) -> bool:
    return not scope["path"].startswith(APIS) and "text/html" in Headers(scope=scope).get("accept", "")
