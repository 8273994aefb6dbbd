"""Every exception of the package.

::

    ConverraError
    ├── InvalidArgumentError (also ValueError)   the call itself is wrong; nothing was sent
    ├── MissingAPIKeyError                       a client was built without a key
    ├── ClientClosedError (also RuntimeError)    the client was closed before the call; nothing was sent
    ├── APIConnectionError                       no answer: refused, reset, unreachable
    │   └── APITimeoutError                      no answer in time
    └── APIStatusError                           the API answered with an error
        ├── ValidationError          400
        ├── AuthenticationError      401
        ├── PermissionDeniedError    403
        ├── NotFoundError            404
        ├── PayloadTooLargeError     413
        │   └── ContentLimitError (also ValueError)   over a documented limit; refused before sending
        ├── RateLimitError           429
        ├── InternalServerError      5xx
        └── UnreadableResponseError  2xx whose body is not what the API document describes

Each says what happened, what was expected and, where something can be done, what to do.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class ConverraError(Exception):
    """The root of the tree: catches everything that this package raises on purpose."""


class InvalidArgumentError(ConverraError, ValueError):
    """An argument or setting that can never work, such as an empty prompt id; nothing was sent."""


class MissingAPIKeyError(ConverraError):
    """A client was built without an API key: neither `api_key=` nor `CONVERRA_API_KEY` is set."""


class ClientClosedError(ConverraError, RuntimeError):
    """A client was used after `close()`, or after its `with` block; nothing was sent."""


@dataclass(frozen=True, slots=True)
class APIRequest:
    """The HTTP request behind a response or an error, without its headers: one of them is the API key.

    Attributes:
        method: The method, such as "GET".
        url: The URL, without the query.

    """

    method: str
    url: str


class APIConnectionError(ConverraError):
    """No answer came: the connection was refused, reset or never made.

    Attributes:
        sent: False if no connection was made, so the request cannot have taken effect; True if that is unknown.
        request: The request that was not answered; None if the error is not about one.

    """

    def __init__(self, message: str, *, sent: bool = True, request: APIRequest | None = None) -> None:
        super().__init__(message)
        self.sent: bool = sent
        self.request: APIRequest | None = request


class APITimeoutError(APIConnectionError):
    """No answer came in time."""


_REQUEST_ID_HEADERS = ("x-request-id", "request-id")
"""Headers that may hold the id of a request, by which a service's operators find it; the API document names none."""


def request_id(headers: Mapping[str, str]) -> str | None:
    """Return the id that the API gave to a request, from headers with lower-case names; None if it gave none."""
    return next((headers[name] for name in _REQUEST_ID_HEADERS if headers.get(name)), None)


@dataclass(frozen=True, slots=True)
class APIResponse:
    """The HTTP response behind a result or an error.

    It has nothing of the request but method and URL, so the API key is not in it.

    Attributes:
        method: The request's method, such as "GET".
        url: The request's URL.
        status_code: The HTTP status.
        headers: The response's headers, with lower-case names.
        content: The body, decompressed: up to 256 KB of an error, up to 4 MB of a success.

    """

    method: str
    url: str
    status_code: int
    headers: Mapping[str, str]
    content: bytes

    def __repr__(self) -> str:
        return f"APIResponse({self.method} {self.url} -> {self.status_code}, {len(self.content):,} bytes)"

    @property
    def request(self) -> APIRequest:
        """The request that was answered."""
        return APIRequest(self.method, self.url.partition("?")[0])

    @property
    def text(self) -> str:
        """The body as UTF-8 text; bytes that are none become U+FFFD."""
        return self.content.decode(errors="replace")

    def json(self) -> Any:
        """Decode the body as JSON; raises ValueError if it is none."""
        return json.loads(self.content)


class APIStatusError(ConverraError):
    """The API answered with an error (API document, "Error Responses").

    Attributes:
        status_code: The HTTP status.
        code: The error's code in the body, such as "NOT_FOUND"; None if there is none.
        message: The error's message in the body; if there is none, a description of the response.
        details: The error's details in the body, often a dict from field to remark; None if there are none.
        headers: The response's headers, with lower-case names.
        response: The whole response; None if the error was found before anything was sent.

    """

    status_code: int
    code: str | None
    message: str
    details: Any
    headers: Mapping[str, str]
    response: APIResponse | None

    def __init__(
        self,
        message: str,
        *,
        status_code: int,
        code: str | None = None,
        details: Any = None,
        headers: Mapping[str, str] | None = None,
        response: APIResponse | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status_code = status_code
        self.code = code
        self.details = details
        self.headers = headers or {}
        self.response = response

    @property
    def request_id(self) -> str | None:
        """The id that the API gave to the request (`x-request-id` or `request-id`), for its support; else None."""
        return request_id(self.headers)

    @property
    def request(self) -> APIRequest | None:
        """The request that was answered; None if the error was found before anything was sent."""
        return self.response.request if self.response else None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __str__(self) -> str:
        """The status, the API's own code and words, and which fields it names."""
        known = " ".join(filter(None, (str(self.status_code), self.code)))
        return f"{known}: {self.message}" + (f" {self.details!r}" if self.details else "")

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from all fields: by default, a pickled exception keeps only its positional arguments."""
        names = ("status_code", "code", "details", "headers", "response")
        return _rebuild, (type(self), self.message, {name: getattr(self, name) for name in names})


def _rebuild(cls: type[APIStatusError], message: str, fields: dict[str, Any]) -> APIStatusError:
    return cls(message, **fields)


class ValidationError(APIStatusError):
    """400: the request was understood and refused; `details` names the fields."""


class AuthenticationError(APIStatusError):
    """401: the API key is missing, wrong or revoked."""


class PermissionDeniedError(APIStatusError):
    """403: the API key may not do this."""


class NotFoundError(APIStatusError):
    """404: no such conversation, or it belongs to another account."""


class PayloadTooLargeError(APIStatusError):
    """413: over a limit of the API (API document, "Content Limits")."""


class ContentLimitError(PayloadTooLargeError, ValueError):
    """Over a documented limit (API document, "Content Limits"), refused before sending; `details` names the limit."""

    def __str__(self) -> str:
        return self.message


class RateLimitError(APIStatusError):
    """429: too many requests for this API key."""


class InternalServerError(APIStatusError):
    """5xx: the API failed; whether the request took effect is unknown."""


class UnreadableResponseError(APIStatusError):
    """A success status whose body cannot be read; whether the request took effect is unknown."""


_BY_STATUS: dict[int, type[APIStatusError]] = {
    400: ValidationError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    413: PayloadTooLargeError,
    429: RateLimitError,
}


def error_class(status_code: int) -> type[APIStatusError]:
    """Return the class for an HTTP status."""
    if status_code >= 500:  # noqa: PLR2004 - the HTTP class of server errors
        return InternalServerError
    return _BY_STATUS.get(status_code, APIStatusError)
