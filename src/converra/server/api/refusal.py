"""A request that is refused, and the error shape of the API document ("Error Responses")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


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
