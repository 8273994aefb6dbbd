"""What is sent again, and when: the table of `converra.api.retry`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converra.api import retry
from converra.errors import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    ConverraError,
    InvalidArgumentError,
    UnreadableResponseError,
    error_class,
)

NOW = 1_700_000_000.0
"""Tue, 14 Nov 2023 22:13:20 GMT"""


def answered(status: int, **headers: str) -> APIStatusError:
    """The error of an answer."""
    return error_class(status)("no", status_code=status, headers={k.replace("_", "-"): v for k, v in headers.items()})


AGAIN, RAISE = 0.5, None

TABLE: list[tuple[str, ConverraError, float | None, float | None]] = [
    ("refused", APIConnectionError("refused", sent=False), AGAIN, AGAIN),
    ("connect timeout", APITimeoutError("no connection in time", sent=False), AGAIN, AGAIN),
    ("lost", APIConnectionError("lost"), AGAIN, RAISE),
    ("timeout", APITimeoutError("late"), AGAIN, RAISE),
    ("408", answered(408), AGAIN, AGAIN),
    ("425", answered(425), AGAIN, AGAIN),
    ("429", answered(429), AGAIN, AGAIN),
    ("500", answered(500), AGAIN, RAISE),
    ("502", answered(502), AGAIN, RAISE),
    ("503", answered(503), AGAIN, RAISE),
    ("504", answered(504), AGAIN, RAISE),
    ("599", answered(599), AGAIN, RAISE),
    ("unreadable 200", UnreadableResponseError("?", status_code=200), AGAIN, RAISE),
    ("302", answered(302), RAISE, RAISE),
    ("400", answered(400), RAISE, RAISE),
    ("401", answered(401), RAISE, RAISE),
    ("403", answered(403), RAISE, RAISE),
    ("404", answered(404), RAISE, RAISE),
    ("409", answered(409), RAISE, RAISE),
    ("413", answered(413), RAISE, RAISE),
    ("wrong argument", InvalidArgumentError("no"), RAISE, RAISE),
]


@pytest.mark.parametrize(("error", "idempotent", "append"), [pytest.param(*row[1:], id=row[0]) for row in TABLE])
def test_only_what_is_safe_is_sent_again(error: ConverraError, idempotent: float | None, append: float | None) -> None:
    """An append is sent again only where the outcome says that nothing was stored."""
    assert retry.after(1, error, idempotent=True, jitter=1.0, now=NOW) == idempotent
    assert retry.after(1, error, idempotent=False, jitter=1.0, now=NOW) == append


@pytest.mark.parametrize("error", [pytest.param(row[1], id=row[0]) for row in TABLE if row[2]])
def test_what_may_be_stored_is_never_called_not_stored(error: ConverraError) -> None:
    """Of the passing outcomes, those that are safe for an append are those that stored nothing."""
    again = retry.after(1, error, idempotent=False, jitter=1.0, now=NOW) is not None
    assert retry.nothing_stored(error) == again


@pytest.mark.parametrize("error", [pytest.param(row[1], id=row[0]) for row in TABLE if not row[2]])
def test_a_refusal_stored_nothing(error: ConverraError) -> None:
    """What the API or the client itself refuses has had no effect."""
    assert retry.nothing_stored(error)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("0.25", 0.25),
        ("86400", 60.0),
        ("9" * 400, 60.0),
        ("Tue, 14 Nov 2023 22:13:25 GMT", 5.0),
        ("Tue, 14 Nov 2023 22:13:25 -0000", 5.0),
        ("Tue, 14 Nov 2023 22:10:00 GMT", 0.0),
        ("Wed, 14 Nov 2029 22:13:25 GMT", 60.0),
        ("soon", None),
        ("-5", None),
        ("", None),
        ("inf", None),
        ("Tue, 99 Nov 2023 22:13:25 GMT", None),
    ],
)
def test_retry_after_is_read_in_both_forms_and_capped(header: str, seconds: float | None) -> None:
    """Seconds or an HTTP date count, up to a minute; what cannot be read counts as not asked."""
    assert retry.retry_after(answered(429, retry_after=header), NOW) == seconds


def test_retry_after_wins_over_the_backoff() -> None:
    """A wait that the server asks for is neither shortened nor lengthened by our own."""
    assert retry.after(9, answered(503, retry_after="3"), idempotent=True, jitter=0.1, now=NOW) == 3.0


def test_the_backoff_doubles_up_to_its_cap() -> None:
    """The bound of the wait doubles from half a second to eight seconds, for any number of attempts."""
    bounds = [retry.backoff(attempt, 1.0) for attempt in (1, 2, 3, 4, 5, 6, 100_000)]
    assert bounds == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


@given(attempt=st.integers(1, 10**6), jitter=st.floats(0, 1), header=st.text())
def test_a_wait_is_always_a_bounded_number(attempt: int, jitter: float, header: str) -> None:
    """Whatever a server answers, the wait lies between nothing and a minute."""
    wait = retry.after(attempt, answered(429, retry_after=header), idempotent=False, jitter=jitter, now=NOW)
    assert wait is not None
    assert 0 <= wait <= 60
