"""Arguments of tool calls: mostly JSON text that a model wrote, sometimes the object itself."""

from __future__ import annotations

from typing import Any

import msgspec

from converra.wire import json_safe

BLANK = frozenset({"", "{}", "[]", "null"})
"""Texts without an argument."""


def arguments(value: Any) -> Any:
    """Return the parsed object; the raw string if it is not a JSON object; UNSET if there are no arguments."""
    if value is None or value is msgspec.UNSET:
        return msgspec.UNSET
    if not issubclass(type(value), str):
        return json_safe.plain(value)
    text = json_safe.joined((value,))
    parsed = parse(text)
    return json_safe.plain(parsed) if isinstance(parsed, dict) else json_safe.text(text)


def parse(text: str) -> Any:
    """Parse JSON; return None if the text is not JSON."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None


def canonical(value: Any) -> str:
    """Return a text that is equal for equal arguments: parsed or not, with any white space and order of keys.

    It is empty for an empty object: some frameworks resend `""` as `"{}"`.
    """
    found = arguments(value)
    if found is msgspec.UNSET:
        return ""
    text = found if isinstance(found, str) else msgspec.json.encode(found, order="sorted").decode()
    text = "".join(text.split())
    return "" if text in BLANK else text


def is_blank(value: Any) -> bool:
    """Return True if there are no arguments: nothing, white space, or an empty object or list."""
    if issubclass(type(value), str):
        return value.strip() in BLANK
    return value is None or (isinstance(value, dict | list | tuple) and not value)
