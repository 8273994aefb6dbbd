"""A request that is refused, and the error shape of the API document ("Error Responses")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers

from converra.otlp import routes
from converra.otlp.body import MEDIA_TYPES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.responses import Response
    from starlette.types import Scope


class Refusal(Exception):  # noqa: N818 - not a failure of the server: an answer
    """Answered with `status` and `{"error": {"code", "message", "details"}}`."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status: int = status
        self.code: str = code
        self.message: str = message
        self.details: Mapping[str, Any] | None = details
        self.headers: Mapping[str, str] | None = headers

    def body(self) -> dict[str, Any]:
        """The answer's JSON; `details` only where there are some."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.details:
            error["details"] = dict(self.details)
        return {"error": error}


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
