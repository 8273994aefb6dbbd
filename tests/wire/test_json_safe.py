"""Any value has a safe copy in strict JSON."""

from __future__ import annotations

import json
from collections import OrderedDict, UserDict, UserList
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from fractions import Fraction
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any
from uuid import UUID

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from converra.wire import json_safe
from tests.effort import examples


class Colour(Enum):
    RED = "red"
    ALL = ("red", "blue")


class Level(IntEnum):
    HIGH = 3


class Word(StrEnum):
    YES = "yes"


class Hostile:
    """Nothing but its type may be asked."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError

    def __repr__(self) -> str:
        raise RuntimeError

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    def __bool__(self) -> bool:
        raise RuntimeError

    def __hash__(self) -> int:
        return 7


class BadString(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


class BadDict(dict[Any, Any]):
    def items(self) -> Any:
        raise RuntimeError

    __iter__ = keys = values = __len__ = items


class BadList(list[Any]):
    def __iter__(self) -> Any:
        raise RuntimeError

    __len__ = __iter__


class BadInt(int):
    def __int__(self) -> int:
        raise RuntimeError

    __str__ = __repr__ = __format__ = __int__  # type: ignore[assignment]  # bad on purpose


class BadFloat(float):
    def __float__(self) -> float:
        raise RuntimeError

    __str__ = __repr__ = __float__  # type: ignore[assignment]  # bad on purpose


class BadSet(set[Any]):
    __iter__ = BadList.__iter__


class BadTuple(tuple[Any, ...]):
    __slots__ = ()
    __iter__ = BadList.__iter__


HERE = f"{__name__}."


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text", "text"),
        ("\ud800", "\ufffd"),
        ("\ud83d\ude00", "😀"),
        ("a\udc80b", "a\ufffdb"),
        ("\x00", "\x00"),
        (None, None),
        (True, True),
        (0, 0),
        (2**63 - 1, 2**63 - 1),
        (2**63, "9223372036854775808"),
        (-(2**70), "-1180591620717411303424"),
        (2**20_000, f"0x1{'0' * 5_000}"),
        (1.5, 1.5),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (Decimal("1.10"), "1.10"),
        (Fraction(1, 2), 0.5),
        (timedelta(hours=1), "1:00:00"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (datetime(2025, 1, 2, tzinfo=UTC), "2025-01-02T00:00:00+00:00"),
        (date(2025, 1, 2), "2025-01-02"),
        (time(3, 4), "03:04:00"),
        (b"bytes", "bytes"),
        (bytearray(b"\xff\x00"), "<2 bytes>"),
        (memoryview(b"view"), "view"),
        (Colour.RED, "red"),
        (Colour.ALL, ["red", "blue"]),
        (Level.HIGH, 3),
        (Word.YES, "yes"),
        ((1, 2), [1, 2]),
        ({3}, [3]),
        (frozenset(), []),
        (OrderedDict(a=1), {"a": 1}),
        (UserDict({"a": 1}), {"a": 1}),
        (MappingProxyType({"a": {"b": 2}}), {"a": {"b": 2}}),
        (
            {1: "int", None: "none", 1.5: "float", (1, 2): "tuple", "\ud800": "bad"},
            {"1": "int", "None": "none", "1.5": "float", "[1, 2]": "tuple", "\ufffd": "bad"},
        ),
        (PurePosixPath("/x"), f"<{PurePosixPath.__module__}.PurePosixPath>"),
        (UserList([1]), "<collections.UserList>"),
        (Hostile(), f"<{HERE}Hostile>"),
        (BadString("bad"), "bad"),
        (BadDict(a=BadList([1])), {"a": [1]}),
        (BadInt(5), 5),
        (BadFloat(0.5), 0.5),
        (BadSet({1}), [1]),
        (BadTuple((1, 2)), [1, 2]),
        ({BadString("key"): 1}, {"key": 1}),
        (Exception, "<builtins.type>"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_value_has_words(value: Any, expected: Any) -> None:
    """What JSON has no place for becomes text that still says something."""
    assert json_safe.plain(value) == expected
    assert strict(json_safe.plain(value)) == expected


def strict(value: Any) -> Any:
    """Through strict JSON and back."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(msgspec.json.encode(value).decode("utf-8", "strict"), parse_constant=refuse)


def test_a_copy_shares_nothing() -> None:
    """What is changed afterwards is not changed in the copy."""
    value: dict[str, Any] = {"a": [1, {"b": 2}]}
    copy = json_safe.plain(value)
    value["a"].append(3)
    value["a"][1]["b"] = 4
    assert copy == {"a": [1, {"b": 2}]}


def test_cycles_end() -> None:
    """A container in itself is named, and the same one beside itself is not a cycle."""
    loop: dict[str, Any] = {"name": "loop"}
    loop["self"] = loop
    assert json_safe.plain(loop) == {"name": "loop", "self": "<cycle>"}
    twin = [1]
    assert json_safe.plain([twin, twin]) == [[1], [1]]


def test_depth_ends() -> None:
    """Nesting is followed for 32 levels."""
    deep: list[Any] = []
    for _ in range(500):
        deep = [deep]
    copy, depth = json_safe.plain(deep), 0
    while isinstance(copy, list):
        copy, depth = copy[0], depth + 1
    assert (copy, depth) == ("<too deep>", 32)


def test_a_small_value_that_unfolds_without_end() -> None:
    """Containers that hold each other twice over thirty levels do not become a billion values."""
    value: list[Any] = ["leaf"]
    for _ in range(30):
        value = [value, value]
    size = len(msgspec.json.encode(json_safe.plain(value)))
    assert size < 30 * json_safe.MAX_VALUES


def test_unknown_objects_are_described_by_the_caller() -> None:
    """`describe` finds the words for what is unknown, which are made safe and kept short."""
    assert json_safe.plain({"x": object()}, lambda _: "\ud800" + "y" * 5_000) == {"x": "\ufffd" + "y" * 1_999}


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.decimals(),
    st.fractions(),
    st.text(st.characters()),  # lone surrogates too
    st.binary(),
    st.datetimes(timezones=st.one_of(st.none(), st.timezones())),
    st.timedeltas(),
    st.uuids(),
    st.complex_numbers(),
    st.builds(Hostile),
    st.builds(BadString, st.text(st.characters())),
    st.builds(lambda n: BadDict({BadInt(n): BadFloat(n)}), st.integers()),
    st.builds(lambda words: BadList([words]), st.text()),
    st.sampled_from([Colour.ALL, object]),
)


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    hashable = st.one_of(st.text(st.characters()), st.integers(), st.floats(), st.binary(), st.none(), st.booleans())
    return st.one_of(
        st.lists(inner),
        st.tuples(inner, inner),
        st.sets(hashable),
        st.dictionaries(st.one_of(hashable, st.tuples(hashable)), inner),
        st.lists(inner).map(lambda values: [*values, values]),
    )


NASTY = st.recursive(ODD, _containers, max_leaves=20)


@settings(max_examples=examples(150), deadline=None)
@given(NASTY)
def test_nothing_is_too_nasty(value: Any) -> None:
    """Whatever it is, the copy is strict UTF-8 JSON, and a copy of it is the same."""
    copy = json_safe.plain(value)
    assert strict(copy) == copy
    assert json_safe.plain(copy) == copy


@given(st.text(st.characters()))
def test_text_is_left_alone_where_it_can_be(value: str) -> None:
    """Only what is no valid text is changed."""
    valid = not any("\ud800" <= c <= "\udfff" for c in value)
    made = json_safe.text(value)
    made.encode()
    assert (made == value) == valid
