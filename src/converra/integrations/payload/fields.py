"""How to look into an SDK object, a plain dict or nonsense alike, without running any code of theirs.

Reading `__dict__` passes by pydantic's `__getattr__`, its properties, its serializer and its warnings.
"""

from __future__ import annotations

from typing import Any

MAX_DEPTH = 16
BLOB_LENGTH = 4_096
"""Characters beyond which a string without any white space is taken for encoded binary data."""

_NOTHING: dict[str, Any] = {}


def fields(value: Any) -> dict[str, Any]:
    """The fields of an object or a dict, to be read only; no fields for anything else."""
    if isinstance(value, dict):
        return value
    try:
        own = value.__dict__
    except AttributeError:
        return _NOTHING
    if type(own) is not dict:
        return _NOTHING
    extra = getattr(value, "__pydantic_extra__", None)
    return {**own, **extra} if extra and type(extra) is dict else own


def items(value: Any) -> list[Any] | tuple[Any, ...]:
    """A list or tuple as it is; an empty one for anything else: what is iterable may be consumed by iterating."""
    return value if isinstance(value, list | tuple) else ()


def string(value: Any) -> str | None:
    """A string as it is, None for anything else."""
    return value if isinstance(value, str) else None


def number(value: Any) -> int | None:
    """A count as it is, None for anything else."""
    return value if type(value) is int and value >= 0 else None


def copied(value: Any, depth: int = 0) -> Any:
    """A copy as plain data, without nulls: nothing of the SDK stays alive by it."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if depth >= MAX_DEPTH:
        return "<too deep>"
    if isinstance(value, list | tuple):
        return [copied(item, depth + 1) for item in value]
    return {key: copied(item, depth + 1) for key, item in fields(value).items() if item is not None}


def plain(value: Any) -> Any:
    """A copy as plain data for what is kept opaque; encoded binary data becomes its length."""
    return _without_blobs(copied(value))


def _without_blobs(value: Any) -> Any:
    if isinstance(value, str):
        return f"<{len(value)} characters>" if is_blob(value) else value
    if isinstance(value, list):
        return [_without_blobs(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_blobs(item) for key, item in value.items()}
    return value


def is_blob(value: str) -> bool:
    """Whether a string is base64 or the like: long, and its beginning is one word."""
    return len(value) > BLOB_LENGTH and not any(c.isspace() for c in value[:512])
