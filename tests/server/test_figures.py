"""Numbers as a person reads them."""

from __future__ import annotations

import pytest

from converra.server.viewer.figures import ago, count, duration, size


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0"),
        (99_999, "99,999"),
        (100_000, "100k"),
        (987_654, "988k"),
        (999_499, "999k"),
        (999_500, "1.0M"),
        (12_345_678, "12.3M"),
        (999_500_000, "1.0G"),
        (2**53, "9,007,199G"),
    ],
)
def test_counts_are_short(number: int, words: str) -> None:
    """Exact where that is short, else three digits and a unit."""
    assert count(number) == words


@pytest.mark.parametrize(("count", "words"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KB"), (3_000_000, "2.9 MB")])
def test_sizes_are_in_the_unit_a_person_would_use(count: int, words: str) -> None:
    """Bytes, KB or MB."""
    assert size(count) == words


@pytest.mark.parametrize(
    ("ms", "words"), [(0.42, "0.4 ms"), (9.96, "10 ms"), (999, "999 ms"), (1500, "1.5 s"), (90_000, "1.5 min")]
)
def test_times_are_in_the_unit_a_person_would_use(ms: float, words: str) -> None:
    """Milliseconds, seconds or minutes."""
    assert duration(ms) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-5, "just now"), (9, "just now"), (59, "59 s ago"), (60, "1 min ago"), (7200, "2 h ago"), (200_000, "2 d ago")],
)
def test_how_long_ago_is_rounded_down(seconds: int, words: str) -> None:
    """A clock that was set back gives no negative age."""
    assert ago(0, seconds * 1000) == words
