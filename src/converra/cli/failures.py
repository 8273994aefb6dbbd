"""Failures of commands: one line on standard error, and an exit status per kind of error."""

from __future__ import annotations

from typing import NamedTuple

import click

from converra.capture.console import visible
from converra.errors import (
    APIConnectionError,
    AuthenticationError,
    ConverraError,
    InvalidArgumentError,
    MissingAPIKeyError,
    NotFoundError,
    PermissionDeniedError,
    UnreadableResponseError,
)

FAILED = 1
USAGE = 2
NOT_FOUND = 3
NO_KEY = 4
UNREACHABLE = 5
INTERRUPTED = 130
"""The shell's status for Ctrl-C."""


class _Row(NamedTuple):
    """Meaning of an error for a command: exit status, and what the user can do."""

    kind: type[ConverraError]
    status: int
    hint: str = ""


_ROWS = (
    _Row(InvalidArgumentError, USAGE),
    _Row(NotFoundError, NOT_FOUND),
    _Row(MissingAPIKeyError, NO_KEY),
    _Row(AuthenticationError, NO_KEY, "is CONVERRA_API_KEY right?"),
    _Row(PermissionDeniedError, NO_KEY, "may the key of CONVERRA_API_KEY do this?"),
    _Row(APIConnectionError, UNREACHABLE, "is CONVERRA_BASE_URL right, and is its server running?"),
    _Row(UnreadableResponseError, UNREACHABLE, "is CONVERRA_BASE_URL that of a Conversations API?"),
    _Row(ConverraError, FAILED),
)


def explained(error: ConverraError) -> str:
    """An error in one line, with what can be done about it."""
    return visible("; ".join(filter(None, (" ".join(str(error).split()), _row(error).hint))))


def _row(error: ConverraError) -> _Row:
    return next(row for row in _ROWS if isinstance(error, row.kind))


class Failure(click.ClickException):
    """An error of the package as a command tells it."""

    def __init__(self, error: ConverraError) -> None:
        super().__init__(explained(error))
        self.exit_code = _row(error).status  # type: ignore[misc]  # click declares it for the class; here each instance has its own
