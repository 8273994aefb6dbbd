"""Any value, made safe for strict JSON: valid UTF-8, no NaN, no cycles, bounded depth, nothing that raises."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, time
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

MAX_DEPTH = 32
MAX_INTEGER = 2**63 - 1
MAX_DESCRIPTION = 2_000

Describe = Callable[[Any], str]


def text(value: str) -> str:
    """The same string, with lone surrogates replaced; pairs that were split by a bad decoder are joined."""
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def type_name(value: Any) -> str:
    """What is said of an object whose `repr` cannot be trusted."""
    kind = type(value)
    return f"<{kind.__module__}.{kind.__qualname__}>"


def plain(value: Any, describe: Describe = type_name) -> Any:
    """JSON-ready copy of `value`. `describe` turns an unknown object into words and must not raise."""
    return _plain(value, describe, ())


def _plain(value: Any, describe: Describe, above: tuple[int, ...]) -> Any:
    scalar = _SCALARS.get(type(value))
    if scalar is not None:
        return scalar(value)
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return _container(value, describe, above)
    return _odd(value, describe, above)


def _container(value: Any, describe: Describe, above: tuple[int, ...]) -> Any:
    if id(value) in above:
        return "<cycle>"
    if len(above) >= MAX_DEPTH:
        return "<too deep>"
    above = (*above, id(value))
    if isinstance(value, Mapping):
        return {_key(k, describe): _plain(v, describe, above) for k, v in list(value.items())}
    return [_plain(v, describe, above) for v in tuple(value)]


def _key(key: Any, describe: Describe) -> str:
    if isinstance(key, str):
        return text(key)
    plain_key = _plain(key, describe, ())
    return plain_key if isinstance(plain_key, str) else str(plain_key)


def _odd(value: Any, describe: Describe, above: tuple[int, ...]) -> Any:
    if isinstance(value, Enum):
        return _plain(value.value, describe, above)
    if isinstance(value, date | time):
        return value.isoformat()
    for base in (str, bool, int, float):  # a subclass, such as a numpy float or a marked-up string
        if isinstance(value, base):
            return _SCALARS[base](base(value))
    if isinstance(value, Decimal | UUID):
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return _bytes(bytes(value))
    return text(describe(value))[:MAX_DESCRIPTION]


def _bytes(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return f"<{len(value)} bytes>"


def _integer(value: int) -> int | str:
    return value if -MAX_INTEGER <= value <= MAX_INTEGER else f"{value:#x}"


def _float(value: float) -> float | str:
    return value if value - value == 0 else str(value)


def _same(value: Any) -> Any:
    return value


_SCALARS: dict[type, Callable[[Any], Any]] = {
    str: text,
    int: _integer,
    float: _float,
    bool: _same,
    type(None): _same,
}
