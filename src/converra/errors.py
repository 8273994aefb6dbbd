"""Every exception of the package.

::

    ConverraError
    ├── InvalidArgumentError (also ValueError)   the call itself is wrong; nothing was sent
    ├── MissingAPIKeyError                       a client was built without a key
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

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class ConverraError(Exception):
    """The root of the tree: catches everything that this package raises on purpose."""


class InvalidArgumentError(ConverraError, ValueError):
    """An argument that can never work, such as an empty prompt id."""


class MissingAPIKeyError(ConverraError):
    """A client was built without an API key."""


class APIConnectionError(ConverraError):
    """No answer came: the connection was refused, reset or never made.

    `sent` is False where no connection was made, so the request cannot have taken effect; else that is unknown.
    """

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent: bool = sent


class APITimeoutError(APIConnectionError):
    """No answer came in time."""


class APIStatusError(ConverraError):
    """The API answered with an error (API document, "Error Responses").

    `code` and `details` are those of the error body, None where it had none; `headers` are the
    answer's, with lower-case names.
    """

    status_code: int
    code: str | None
    message: str
    details: Any
    headers: Mapping[str, str]

    def __init__(
        self,
        message: str,
        *,
        status_code: int,
        code: str | None = None,
        details: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status_code = status_code
        self.code = code
        self.details = details
        self.headers = headers or {}

    def __str__(self) -> str:
        """The status, the API's own code and words, and which fields it names."""
        known = " ".join(filter(None, (str(self.status_code), self.code)))
        return f"{known}: {self.message}" + (f" {self.details!r}" if self.details else "")

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from all fields: by default, a pickled exception keeps only its positional arguments."""
        return _rebuild, (type(self), self.message, self.status_code, self.code, self.details, dict(self.headers))


def _rebuild(
    cls: type[APIStatusError], message: str, status_code: int, code: str | None, details: Any, headers: dict[str, str]
) -> APIStatusError:
    return cls(message, status_code=status_code, code=code, details=details, headers=headers)


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
