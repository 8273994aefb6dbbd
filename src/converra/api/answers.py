"""From an answer to a result or an error, whatever shape its body has (API document, "Error Responses")."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from converra.api.body import too_many_values
from converra.errors import UnreadableResponseError, error_class

if TYPE_CHECKING:
    from collections.abc import Mapping

    from converra.api.operations import Operation
    from converra.errors import APIStatusError

T = TypeVar("T")

_SHOWN = 200
"""Characters of a body that is no JSON which an error repeats."""


def answer_from(
    operation: Operation[T],
    status_code: int,
    headers: Mapping[str, str],
    body: bytes | bytearray,
    *,
    problem: str | None = None,
) -> T:
    """The result of an answer; raises the APIStatusError that it stands for.

    `problem` says why `body` is not the whole body; it matters only where the status says success.
    """
    headers = {name.lower(): value for name, value in headers.items()}
    if not HTTPStatus.OK <= status_code < HTTPStatus.MULTIPLE_CHOICES:
        raise error_from(status_code, headers, body)
    try:
        return operation.read(_readable(body, problem))
    except ValueError as error:
        message = f"the answer to {operation.method} {operation.path} cannot be read: {error}"
        raise UnreadableResponseError(message, status_code=status_code, headers=headers) from error


def _readable(body: bytes | bytearray, problem: str | None) -> bytes | bytearray:
    if problem or too_many_values(body):
        raise ValueError(problem or "it holds too many values")
    return body


def error_from(status_code: int, headers: Mapping[str, str], body: bytes | bytearray) -> APIStatusError:
    """The exception of an answer: with the API's own words where it has any, else with the beginning of the body."""
    said = _said(body)
    code, message = said.get("code"), said.get("message")
    return error_class(status_code)(
        message if isinstance(message, str) and message else _described(status_code, headers, body),
        status_code=status_code,
        code=code if isinstance(code, str) else None,
        details=said.get("details"),
        headers=headers,
    )


def _said(body: bytes | bytearray) -> dict[str, Any]:
    """The error object, from the documented shape and its common relatives: a bare one, or `error` as a string."""
    try:
        decoded = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(decoded, dict):
        return {}
    error = decoded.get("error", decoded)
    return error if isinstance(error, dict) else {"message": error} | decoded


def _described(status_code: int, headers: Mapping[str, str], body: bytes | bytearray) -> str:
    answered = f"the API answered {status_code} {_phrase(status_code)}".rstrip()
    if "location" in headers:
        return f"{answered} to {headers['location']}; redirects are not followed, is base_url right?"
    shown = " ".join(body[: 4 * _SHOWN].decode(errors="replace").split())[:_SHOWN]
    return f"{answered}: {shown}" if shown else answered


def _phrase(status_code: int) -> str:
    try:
        return HTTPStatus(status_code).phrase
    except ValueError:
        return ""
