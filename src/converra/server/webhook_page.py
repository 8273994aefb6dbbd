"""The page of the webhook simulator: where to deliver to, and what was delivered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import RedirectResponse
from starlette.routing import BaseRoute, Route

from converra.server.answers import iso
from converra.server.chat_view import duration
from converra.server.pages import render
from converra.server.refusal import Refusal

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from converra.server.webhooks import Webhooks


def routes() -> list[BaseRoute]:
    """The page and its form; the gate lets no other site's page send it."""
    return [Route("/webhooks", page), Route("/webhooks", point, methods=["POST"])]


async def page(request: Request) -> Response:
    """The address and the log."""
    webhooks: Webhooks = request.app.state.webhooks
    deliveries = [(each, iso(each.sent_at)[11:23], duration(each.ms)) for each in webhooks.deliveries()]
    return render(request, "webhooks.html", url=webhooks.url, deliveries=deliveries)


async def point(request: Request) -> Response:
    """Set the address, or switch off with an empty one."""
    async with request.form(max_files=0, max_fields=5) as form:
        url = str(form.get("url", "")).strip()
    try:
        request.app.state.webhooks.point_to(url)
    except ValueError as error:
        raise Refusal(400, "VALIDATION_ERROR", str(error)) from error
    return RedirectResponse("/webhooks", 303)
