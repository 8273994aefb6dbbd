"""The page of the webhook simulator: where to deliver to, and what was delivered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import RedirectResponse
from starlette.routing import BaseRoute, Route

from converra.server.api.answers import iso
from converra.server.viewer.figures import duration
from converra.server.viewer.pages import render

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from converra.server.webhooks import Webhooks


def routes() -> list[BaseRoute]:
    """The page and its form; the gate lets no other site's page send it."""
    return [Route("/webhooks", page), Route("/webhooks", point, methods=["POST"])]


async def page(request: Request) -> Response:
    """The address and the log."""
    return _rendered(request, _webhooks(request).url)


async def point(request: Request) -> Response:
    """Set the address, or switch off with `off` or an empty one; an address that is refused stays to be corrected."""
    async with request.form(max_files=0, max_fields=5) as form:
        url = "" if "off" in form else str(form.get("url", "")).strip()
    try:
        _webhooks(request).point_to(url)
    except ValueError as error:
        return _rendered(request, url, problem=str(error), status=400)
    return RedirectResponse("/webhooks", 303)


def _rendered(request: Request, url: str, *, problem: str | None = None, status: int = 200) -> Response:
    deliveries = [(each, iso(each.sent_at), duration(each.ms)) for each in _webhooks(request).deliveries()]
    on = bool(_webhooks(request).url)
    return render(request, "webhooks.html", status=status, url=url, on=on, problem=problem, deliveries=deliveries)


def _webhooks(request: Request) -> Webhooks:
    return request.app.state.webhooks  # type: ignore[no-any-return]
