"""Refusals in the form that exporters of OpenTelemetry read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import Headers

from converra.otlp import routes
from converra.otlp.body import MEDIA_TYPES

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import Scope

    from converra.server.api.refusal import Refusal


def refused_exporter(scope: Scope, refusal: Refusal) -> Response | None:
    """Answer an exporter of OpenTelemetry in the form that it reads; None for any other request."""
    if not scope["path"].startswith(routes.PREFIX):
        return None
    media_type = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower()
    reasons = [f"{name}: {what}" for name, what in (refusal.details or {}).items()]
    message = "; ".join([refusal.message, *reasons])
    answer = routes.refusal(scope, MEDIA_TYPES.get(media_type, "json"), refusal.status, message)
    answer.headers.update(refusal.headers or {})
    return answer
