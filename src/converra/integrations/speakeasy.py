"""The request seam of clients that Speakeasy generated: `do_request(hook_ctx, request, is_error_status_code, …)`.

Its result is an HTTP response, also for an error, which the caller raises. It is read as the raw response of a
Stainless client is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from converra.history.turn import Answer
from converra.integrations import CapturedCall
from converra.integrations.stainless.request import Endpoint, ObservedRequest

FIRST_ERROR = 400
"""Lowest HTTP status that is an error."""


def request_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the HTTP request among the arguments of `do_request`."""
    return args[1] if len(args) > 1 else kwargs["request"]


class ObservedResponse(msgspec.Struct, frozen=True, eq=False):
    """A request under way, and the call that it ends."""

    _call: CapturedCall
    _endpoint: Endpoint
    _error_type: Callable[[int], str]
    """Names the exception that the SDK raises for an HTTP status."""

    def returned(self, result: Any) -> None:
        """Read an answer, or watch it arrive; of an error, note what the SDK raises."""
        status = result.status_code
        if status >= FIRST_ERROR:
            self._call.end(Answer(metadata={"error": {"type": self._error_type(status), "status": status}}))
        else:
            ObservedRequest(self._call, self._endpoint).returned(result)

    def raised(self, error: BaseException) -> None:
        """Record the failure: no response has come."""
        self._call.fail(error)
