"""Who may talk to the local server: only this machine, by a loopback name, and never another site's page.

With a token, other machines too: those that bring it. An app brings it as its API key; a browser is sent to an address
with `?token=`, and has it as a cookie from then on.
"""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import RedirectResponse

from converra.server.api.refusal import Refusal
from converra.server.journal import APIS, REPLAYED_FOR
from converra.server.viewer.refusal_page import refused

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

COOKIE = "converra_token"

_LOOPBACK_HOST = re.compile(r"(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?", re.IGNORECASE)
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


class GateMiddleware:
    """Refuses a name that only a rebound DNS entry would bring here, and forms that another site sends.

    A page of any site can make the browser send requests to 127.0.0.1; it cannot choose the Host and Origin headers.
    Where a token is asked for, the name does not matter: no page of another site has it.
    """

    def __init__(self, app: ASGIApp, token: str | None = None) -> None:
        self.app: ASGIApp = app
        self.token: str | None = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 - ASGI's signature
        answer = self._answer(scope) if scope["type"] == "http" and REPLAYED_FOR not in scope else None
        await (answer or self.app)(scope, receive, send)

    def _answer(self, scope: Scope) -> Response | None:
        """Return the refusal to send instead of the app's answer; None lets the request through."""
        refusal = _foreign_page(scope) or (_foreign_name(scope) if self.token is None else None)
        if refusal is None and self.token is not None and not _brings(self.token, scope):
            entering = _entering(self.token, scope)
            if entering is not None:
                return entering
            refusal = Refusal(401, "UNAUTHORIZED", _HOW, headers={"WWW-Authenticate": "Bearer"})
        return refused(scope, refusal) if refusal else None


_HOW = "This server asks for its token: as the API key of an app, or once as ?token= in the address of a page"


def _foreign_name(scope: Scope) -> Refusal | None:
    if _LOOPBACK_HOST.fullmatch(Headers(scope=scope).get("host", "")):
        return None
    return Refusal(403, "FORBIDDEN", "The local server answers to localhost and 127.0.0.1 only")


def _foreign_page(scope: Scope) -> Refusal | None:
    """Of another site's page only a link to ours is followed: nothing of it sends, fetches or embeds.

    Browsers say so themselves in Sec-Fetch-Site; Origin is there for those that do not.
    """
    headers = Headers(scope=scope)
    site, mode, origin = (headers.get(name) for name in ("sec-fetch-site", "sec-fetch-mode", "origin"))
    links = scope["method"] in _SAFE_METHODS and mode in (None, "navigate")
    from_us = site in (None, "same-origin", "none") or links
    if from_us and (scope["method"] in _SAFE_METHODS or origin is None or _netloc(origin) == headers.get("host", "")):
        return None
    return Refusal(403, "FORBIDDEN", "Requests from pages of other sites are refused")


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _brings(token: str, scope: Scope) -> bool:
    """An app has the token where its key stands, a page in a cookie."""
    request = Request(scope)
    if scope["path"].startswith(APIS):
        bearer = request.headers.get("authorization", "").partition(" ")[2].strip()
        keys = (request.headers.get(name, "") for name in ("api-key", "x-goog-api-key", "x-api-key"))
        return any(_same(given, token) for given in (bearer, *keys))
    return _same(request.cookies.get(COOKIE, ""), token)


def _entering(token: str, scope: Scope) -> Response | None:
    """A browser at the door with the token in the address: it gets the cookie, and an address that can be shown."""
    query = Request(scope).query_params
    if scope["path"].startswith(APIS) or scope["method"] != "GET" or not _same(query.get("token", ""), token):
        return None
    rest = urlencode([(name, value) for name, value in query.multi_items() if name != "token"])
    path = f"/{scope['path'].lstrip('/')}"  # two slashes would name another host
    answer = RedirectResponse(f"{path}?{rest}" if rest else path, 303, {"Referrer-Policy": "no-referrer"})
    answer.set_cookie(COOKIE, token, httponly=True, samesite="strict")
    return answer


def _same(given: str, token: str) -> bool:
    return secrets.compare_digest(given.encode("utf-8", "surrogatepass"), token.encode())
