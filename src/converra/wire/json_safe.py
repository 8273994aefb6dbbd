"""Strict JSON: safe copies of any value (valid UTF-8, no NaN, no cycles, bounded in depth and size), encoded."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from numbers import Integral, Real
from typing import Any
from uuid import UUID

import msgspec

MAX_DEPTH = 32
MAX_VALUES = 100_000
"""Values in one copy. Only a value that contains itself many times over has more."""

MAX_INTEGER = 2**63 - 1
"""Larger ones become text: not every JSON parser reads them."""

MAX_BITS = 8_192
"""Larger integers are written in hexadecimal: Python refuses to write their decimal digits."""

MAX_DESCRIPTION = 2_000
"""Characters of the description of an unknown object."""

Describe = Callable[[Any], str]


def text(value: str) -> str:
    """Return a string with lone surrogates replaced, and with pairs joined that a bad decoder has split.

    A subclass of `str` (a template engine's, an enumeration's) becomes a plain string: msgspec encodes no other.
    """
    if type(value) is not str:
        value = str.__str__(value)
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def name(value: str | None) -> str | None:
    """Return a name as valid text without the white space around it; None if nothing is left, as if it were not given.

    The API rejects a whole conversation for an optional name (its company, its model) that is blank.
    """
    return None if value is None else text(value).strip() or None


def joined(pieces: Iterable[str]) -> str:
    """Join pieces of a text; a surrogate pair that was cut between two pieces becomes one character again."""
    value = "".join(pieces)
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return value


def identifier(value: Any) -> str | None:
    """Return an id as a string; None if it is neither a string nor a number, which some servers use."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def type_name(value: Any) -> str:
    """Describe an object by its type: its `repr` may be slow, raise, or show secrets."""
    kind = type(value)
    return f"<{kind.__module__}.{kind.__qualname__}>"


def plain(value: Any, describe: Describe = type_name) -> Any:
    """Copy a value into JSON's own types.

    Subclasses are tested on the type, not with `isinstance`: a lazy proxy would load its target, which may be gone.

    Args:
        value: Any value.
        describe: Turns an unknown object into text; must not raise.

    Raises:
        Exception: Whatever `items()`, `isoformat()`, `int()` or `float()` of a mapping, date or number raises that is
            not of a built-in type. Nothing else raises.

    """
    return _Copy(describe).of(value, ())


def encode(value: Any) -> bytes:
    """Encode a message, or plain data from `plain`, as strict UTF-8 JSON."""
    return _encoder.encode(value)


def _json_type(value: Any) -> Any:
    """Convert subclasses of what JSON can hold, which msgspec rejects.

    Such are a template engine's safe string, and the datetime of a library that freezes time in tests.
    """
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


_encoder = msgspec.json.Encoder(enc_hook=_json_type)


class _Copy(msgspec.Struct):
    """One copy being made."""

    describe: Describe
    remaining: int = MAX_VALUES

    def of(self, value: Any, above: tuple[int, ...]) -> Any:
        """Copy a value inside containers with these identities."""
        self.remaining -= 1
        scalar = _SCALARS.get(type(value))
        if scalar is not None:
            return scalar(value)
        if issubclass(type(value), Mapping | list | tuple | set | frozenset):
            return self._container(value, above)
        return self._odd(value, above)

    def _container(self, value: Any, above: tuple[int, ...]) -> Any:
        if id(value) in above:
            return "<cycle>"
        if len(above) >= MAX_DEPTH:
            return "<too deep>"
        if self.remaining <= 0:
            return "<too much>"
        above = (*above, id(value))
        if issubclass(type(value), Mapping):
            # Those of a dict without calling a method that a subclass may override.
            pairs = list(dict.items(value) if issubclass(type(value), dict) else value.items())
            return {self._key(k): self.of(v, above) for k, v in pairs}
        return [self.of(v, above) for v in _members(value)]

    def _key(self, key: Any) -> str:
        if issubclass(type(key), str):
            return text(str.__str__(key))
        plain_key = self.of(key, ())
        return plain_key if isinstance(plain_key, str) else str(plain_key)

    def _odd(self, value: Any, above: tuple[int, ...]) -> Any:
        if issubclass(type(value), Enum):
            return self.of(value.value, above)
        if issubclass(type(value), date | time):
            return text(value.isoformat())
        if issubclass(type(value), bytes | bytearray | memoryview):
            return _bytes(bytes(value))
        if issubclass(type(value), Decimal | UUID | timedelta):
            return str(value)
        number = _number(value)
        return text(self.describe(value))[:MAX_DESCRIPTION] if number is None else number


def _members(value: Any) -> Iterable[Any]:
    """Return the members of a list, tuple or set, without calling a method that a subclass may override."""
    for base in (list, tuple):
        if issubclass(type(value), base):
            return base.__getitem__(value, slice(None))
    return set().union(value)


def _number(value: Any) -> Any:
    """Convert a string or number of a type derived from JSON's own, such as a numpy float; None for others."""
    if issubclass(type(value), str):
        return text(str.__str__(value))
    if issubclass(type(value), int):
        return _integer(int.__int__(value))
    if issubclass(type(value), float):
        return _float(float.__float__(value))
    if issubclass(type(value), Integral):
        return _integer(int(value))
    return _float(float(value)) if issubclass(type(value), Real) else None


def _bytes(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return f"<{len(value)} bytes>"


def _integer(value: int) -> int | str:
    if -MAX_INTEGER <= value <= MAX_INTEGER:
        return value
    return str(value) if value.bit_length() <= MAX_BITS else f"{value:#x}"


def _float(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _same(value: Any) -> Any:
    return value


_SCALARS: dict[type, Callable[[Any], Any]] = {
    str: text,
    int: _integer,
    float: _float,
    bool: _same,
    type(None): _same,
}
