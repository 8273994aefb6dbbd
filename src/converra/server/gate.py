"""Who may talk to the local server: only this machine, by a loopback name, and never another site's page."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from converra.server.answers import JSON
from converra.server.refusal import Refusal

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_LOOPBACK_HOST = re.compile(r"(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?", re.IGNORECASE)
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


class GateMiddleware:
    """Refuses a name that only a rebound DNS entry would bring here, and forms that another site sends.

    A page of any site can make the browser send requests to 127.0.0.1; it cannot choose the Host and Origin headers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 - ASGI's signature
        refusal = _refusal(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self.app(scope, receive, send)
        else:
            await JSON(refusal.body(), refusal.status)(scope, receive, send)


def _refusal(scope: Scope) -> Refusal | None:
    headers = Headers(scope=scope)
    host = headers.get("host", "")
    if not _LOOPBACK_HOST.fullmatch(host):
        return Refusal(403, "FORBIDDEN", "The local server answers to localhost and 127.0.0.1 only")
    origin = headers.get("origin")
    if scope["method"] not in _SAFE_METHODS and origin is not None and urlsplit(origin).netloc != host:
        return Refusal(403, "FORBIDDEN", "Requests from pages of other sites are refused")
    return None
