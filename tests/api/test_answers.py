"""Error answers of any shape become errors that help."""

from __future__ import annotations

import pickle
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from converra.api.answers import error_from
from converra.errors import (
    APIConnectionError,
    APIResponse,
    APIStatusError,
    APITimeoutError,
    ClientClosedError,
    ContentLimitError,
    ConverraError,
    InvalidArgumentError,
    NotFoundError,
    UnreadableResponseError,
    ValidationError,
)

JSON = msgspec.json.encode


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(
            JSON({"error": {"code": "NOT_FOUND", "message": "Conversation not found"}}),
            ("NOT_FOUND", "Conversation not found", None),
            id="as documented",
        ),
        pytest.param(
            JSON({"error": {"code": "V", "message": "Invalid", "details": {"promptId": "Required field"}}}),
            ("V", "Invalid", {"promptId": "Required field"}),
            id="with details",
        ),
        pytest.param(JSON({"error": "Too bad", "code": "BAD"}), ("BAD", "Too bad", None), id="error as a string"),
        pytest.param(JSON({"message": "Too bad", "details": [1]}), (None, "Too bad", [1]), id="a bare object"),
        pytest.param(
            JSON({"error": {"code": 7, "message": {"text": "x"}}}),
            (None, 'the API answered 404 Not Found: {"error":{"code":7,"message":{"text":"x"}}}'),
            id="odd types",
        ),
        pytest.param(JSON({"error": None}), (None, 'the API answered 404 Not Found: {"error":null}'), id="null"),
        pytest.param(JSON([1]), (None, "the API answered 404 Not Found: [1]"), id="a list"),
        pytest.param(b"", (None, "the API answered 404 Not Found"), id="empty"),
        pytest.param(
            b"\n<html>\n  <h1>nginx</h1>",
            (None, "the API answered 404 Not Found with an HTML page; is base_url right?"),
            id="HTML",
        ),
        pytest.param(b"x" * 9999, (None, f"the API answered 404 Not Found: {'x' * 200}"), id="long"),
        pytest.param(b"\xff\xfe", (None, "the API answered 404 Not Found: \ufffd\ufffd"), id="not UTF-8"),
        pytest.param(b"[" * 9999, (None, f"the API answered 404 Not Found: {'[' * 200}"), id="nested"),
    ],
)
def test_the_error_says_what_the_api_said(body: bytes, expected: tuple[Any, ...]) -> None:
    """The API's own words where it has any, else the status and the beginning of the body."""
    error = error_from(404, {}, body)
    assert (error.code, error.message, error.details) == (*expected, None)[:3]
    assert type(error) is NotFoundError


def test_an_error_reads_as_one_line() -> None:
    """Printed, an error has the status, the code, the words, and the fields that are wrong."""
    body = JSON({"error": {"code": "V", "message": "Invalid request body", "details": {"promptId": "Required field"}}})
    assert str(error_from(400, {}, body)) == "400 V: Invalid request body {'promptId': 'Required field'}"
    assert str(error_from(799, {}, b"")) == "799: the API answered 799"


def test_an_error_shows_what_it_is() -> None:
    """Its `repr` has what its text has: the status, the code and the words; that of its response is short."""
    error = error_from(404, {}, JSON({"error": {"code": "NOT_FOUND", "message": "Conversation not found"}}))
    assert repr(error) == "NotFoundError('404 NOT_FOUND: Conversation not found')"
    assert (
        repr(APIResponse("GET", "http://a/b", 404, {}, b"x" * 5000))
        == "APIResponse(GET http://a/b -> 404, 5,000 bytes)"
    )


def test_a_gateways_page_accuses_no_address() -> None:
    """A proxy in front of the right API sends HTML too, under a status of its own."""
    assert str(error_from(502, {"content-type": "text/html"}, b"busy")) == (
        "502: the API answered 502 Bad Gateway with an HTML page"
    )


@given(st.integers(100, 999), st.binary())
def test_no_body_is_too_odd(status: int, body: bytes) -> None:
    """Any bytes under any status give an error with that status and some words."""
    error = error_from(status, {}, body)
    assert error.status_code == status
    assert error.message


@pytest.mark.parametrize(
    "error",
    [
        ValidationError("m", status_code=400, code="V", details={"a": 1}, headers={"x": "y"}),
        UnreadableResponseError(
            "m", status_code=200, response=APIResponse("GET", "http://a/b", 200, {"x-request-id": "r"}, b"<html>")
        ),
        ClientClosedError("m"),
        ContentLimitError("m", status_code=413, details={"limit": "max messages"}),
        APIConnectionError("m", sent=False),
        APITimeoutError("m"),
        InvalidArgumentError("m"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_cross_process_borders(error: ConverraError) -> None:
    """A pickled error is the same error, with all that it knows."""
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
    assert isinstance(again, APIStatusError) == isinstance(error, APIStatusError)
