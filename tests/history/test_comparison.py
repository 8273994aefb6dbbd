"""The longest common subsequence, against the table from the textbook."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from converra.history.comparison import lcs
from tests.effort import examples

if TYPE_CHECKING:
    from collections.abc import Sequence


def textbook_length(old: list[str], new: list[str]) -> int:
    """The length, by the classic table."""
    row = [0] * (len(old) + 1)
    for key in new:
        above, row = row, [0]
        for i, other in enumerate(old):
            row.append(above[i] + 1 if key == other else max(row[-1], above[i + 1]))
    return row[-1]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("", "", {}),
        ("abc", "", {}),
        ("", "abc", {}),
        ("abc", "abc", {0: 0, 1: 1, 2: 2}),
        ("abc", "xyz", {}),
        ("abcd", "bd", {0: 1, 1: 3}),
        ("bd", "abcd", {1: 0, 3: 1}),
        ("aXbXc", "abc", {0: 0, 1: 2, 2: 4}),
        ("aaa", "a", {0: 2}),
        ("a", "aaa", {2: 0}),
        ("abab", "ab", {0: 2, 1: 3}),
        ("bcab", "ab", {0: 2, 1: 3}),
        (["yes", "go", "yes", "stop"], ["yes", "go", "yes", "stop", "no"], {0: 0, 1: 1, 2: 2, 3: 3}),
        # difflib finds the block "xyz" first, and with it only three
        ("axyzbcd", "abcdxyz", {0: 0, 1: 4, 2: 5, 3: 6}),
    ],
)
def test_known_cases(old: Sequence[str], new: Sequence[str], expected: dict[int, int]) -> None:
    """Matches are as many as there can be, and as late in the older sequence as they can be."""
    assert lcs(old, new) == expected


SEQUENCES = st.lists(st.sampled_from("abcd"), max_size=40)


@settings(max_examples=examples(500), deadline=None)
@given(SEQUENCES, SEQUENCES)
def test_no_other_alignment_is_longer_or_later(old: list[str], new: list[str]) -> None:
    """Pairs are equal, in order, as many as the textbook finds, and none could move on in the older sequence."""
    pairs = sorted(lcs(old, new).items())
    assert all(new[j] == old[i] for j, i in pairs)
    assert all(a < b for (_, a), (_, b) in pairwise(pairs))
    assert len(pairs) == textbook_length(old, new)
    for (j, i), (_, end) in pairwise([*pairs, (len(new), len(old))]):
        assert new[j] not in old[i + 1 : end]


def test_long_sequences_are_quick() -> None:
    """A thousand texts against a thousand others are aligned exactly."""
    old = [n * 7919 % 1009 for n in range(1_000)]
    new = [n for n in old if n % 3]
    assert lcs(old, new) == dict(enumerate(i for i, n in enumerate(old) if n % 3))
