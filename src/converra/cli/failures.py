"""How commands fail: one line on standard error, and an exit status that says of what kind it was."""

from __future__ import annotations

import click

from converra.errors import (
    APIConnectionError,
    AuthenticationError,
    ConverraError,
    InvalidArgumentError,
    MissingAPIKeyError,
    NotFoundError,
    PermissionDeniedError,
)

FAILED = 1
USAGE = 2
NOT_FOUND = 3
NO_KEY = 4
UNREACHABLE = 5

_STATUSES: tuple[tuple[type[ConverraError], int], ...] = (
    (InvalidArgumentError, USAGE),
    (NotFoundError, NOT_FOUND),
    (MissingAPIKeyError, NO_KEY),
    (AuthenticationError, NO_KEY),
    (PermissionDeniedError, NO_KEY),
    (APIConnectionError, UNREACHABLE),
)


class Failure(click.ClickException):
    """An error of the package as a command tells it."""

    def __init__(self, error: ConverraError) -> None:
        super().__init__(" ".join(str(error).split()))
        status = next((status for kind, status in _STATUSES if isinstance(error, kind)), FAILED)
        self.exit_code = status  # type: ignore[misc]  # click declares it for the class, each of ours has its own
