"""Arguments of a tool call: mostly JSON text that a model wrote, sometimes the object itself."""

from __future__ import annotations

from typing import Any

import msgspec

from converra.wire import json_safe

BLANK = frozenset({"", "{}", "[]", "null"})
"""Texts that hold no argument."""


def arguments(value: Any) -> Any:
    """Return the parsed object; the raw string when it is no JSON object; UNSET when there was none."""
    if value is None or value is msgspec.UNSET:
        return msgspec.UNSET
    if not issubclass(type(value), str):
        return json_safe.plain(value)
    text = json_safe.joined((value,))
    parsed = parse(text)
    return json_safe.plain(parsed) if isinstance(parsed, dict) else json_safe.text(text)


def parse(text: str) -> Any:
    """Parse JSON; None where the text is none."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None


def canonical(value: Any) -> str:
    """Text by which the same arguments are recognised: parsed or not, with any white space and order of keys.

    An empty object is no text at all: `""` comes back as `"{}"`.
    """
    found = arguments(value)
    if found is msgspec.UNSET:
        return ""
    words = found if isinstance(found, str) else msgspec.json.encode(found, order="sorted").decode()
    words = "".join(words.split())
    return "" if words in BLANK else words


def is_blank(value: Any) -> bool:
    """Return True if there are no arguments: nothing, white space, or an empty object or list."""
    if issubclass(type(value), str):
        return value.strip() in BLANK
    return value is None or (isinstance(value, dict | list | tuple) and not value)
