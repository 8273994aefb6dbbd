"""Fields of an SDK object, a plain dict or nonsense, read without running any of their code.

Reading `__dict__` passes by pydantic's `__getattr__`, its properties, its serializer and its warnings.
"""

from __future__ import annotations

from typing import Any

MAX_DEPTH = 16
BLOB_LENGTH = 4_096
"""Characters beyond which a string without any white space is taken for encoded binary data."""

_NOTHING: dict[str, Any] = {}


def fields(value: Any) -> dict[str, Any]:
    """Return the fields of an object or a dict, to be read only; no fields for anything else."""
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
    """Return a list or tuple as it is; an empty one for other values, which iterating might consume."""
    return value if isinstance(value, list | tuple) else ()


def string(value: Any) -> str | None:
    """Return a string as it is, None for anything else."""
    return value if isinstance(value, str) else None


def number(value: Any) -> int | None:
    """Return a count as it is, None for anything else."""
    return value if type(value) is int and value >= 0 else None


def copied(value: Any, depth: int = 0) -> Any:
    """Copy as plain data, without nulls: the copy keeps no SDK object alive."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if depth >= MAX_DEPTH:
        return "<too deep>"
    if isinstance(value, list | tuple):
        return [copied(item, depth + 1) for item in value]
    return {key: copied(item, depth + 1) for key, item in fields(value).items() if item is not None}


def plain(value: Any) -> Any:
    """Copy as plain data to be kept opaque; encoded binary data becomes its length."""
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
    """Return True for base64 or the like: a long string whose beginning is one word."""
    return len(value) > BLOB_LENGTH and not any(c.isspace() for c in value[:512])
