"""Failures of commands: one line on standard error, and an exit status per kind of error. Needs no extra."""

from __future__ import annotations

import re
from typing import NamedTuple

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


_NUMBER = re.compile(r"\[(?:Errno|WinError) -?\d+\] ")


def explained(error: ConverraError) -> str:
    """An error in one line, with what can be done about it."""
    return visible("; ".join(filter(None, (readable(str(error)), _row(error).hint))))


def readable(message: str) -> str:
    """A message on one line, without the system's error numbers."""
    return _NUMBER.sub("", " ".join(message.split()))


def exit_status(error: ConverraError) -> int:
    """Return the exit status for an error."""
    return _row(error).status


def no_api(error: NotFoundError, base_url: str) -> InvalidArgumentError:
    """Explain that an address without a list of conversations is no API's: every account has one."""
    return InvalidArgumentError(f"no Conversations API is at {base_url}: {error}; is CONVERRA_BASE_URL right?")


def _row(error: ConverraError) -> _Row:
    return next(row for row in _ROWS if isinstance(error, row.kind))
