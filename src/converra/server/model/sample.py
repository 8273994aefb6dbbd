"""A value that fits a JSON Schema, made from the words of a message: tool arguments and structured answers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_DEEP, _DEEPEST = 3, 8
"""Schemas may refer to themselves: from the first depth on null will do where it may, at the second all ends."""


def sample(schema: Mapping[str, Any], text: str) -> Any:
    """The same value for the same schema and text. Knows what tool and answer schemas use, not all of JSON Schema."""
    return _value(schema, schema, "", text, 0)


def _value(schema: Mapping[str, Any], root: Mapping[str, Any], name: str, text: str, depth: int) -> Any:
    schema = _resolved(schema, root, depth)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        said = (value for value in schema["enum"] if str(value).lower() in text.lower())
        return next(said, schema["enum"][0])
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = next((each for each in kind if each != "null"), "null")
    if kind == "object":
        return _object(schema, root, text, depth)
    if kind == "array":
        full = depth < _DEEPEST and "items" in schema
        return [_value(schema["items"], root, name, text, depth + 1)] if full else []
    return _scalar(kind, name, text)


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> Mapping[str, Any]:
    """Follow a reference, and take the first alternative that is not null; deep down null, where that ends it."""
    if "$ref" in schema:
        target: Any = root
        for part in schema["$ref"].split("/")[1:]:
            target = target.get(part, {})
        return _resolved(target, root, depth + 1) if depth < _DEEPEST else {"type": "object"}
    if alternatives := schema.get("anyOf") or schema.get("oneOf"):
        wanted = depth < _DEEP
        fitting = (each for each in alternatives if (each.get("type") != "null") == wanted)
        return _resolved(next(fitting, alternatives[0]), root, depth)
    return schema


def _object(schema: Mapping[str, Any], root: Mapping[str, Any], text: str, depth: int) -> dict[str, Any]:
    if depth >= _DEEPEST:
        return {}
    properties = schema.get("properties", {})
    wanted = schema.get("required", properties)
    return {name: _value(properties.get(name, {}), root, name, text, depth + 1) for name in wanted}


def _scalar(kind: str, name: str, text: str) -> Any:
    numbers = re.findall(r"\d+(?:\.\d+)?", text)
    if kind == "null":
        return None
    if kind == "boolean":
        return True
    if kind == "integer":
        return int(float(numbers[0])) if numbers else 1
    if kind == "number":
        return float(numbers[0]) if numbers else 1.0
    return _words(name, text, numbers)


def _words(name: str, text: str, numbers: list[str]) -> str:
    """An id is a number that was said; else a name that was said, not as the first word; else all that was said."""
    if numbers and re.search(r"(^|_)(id|number|no)$|Id$|Number$", name):
        return numbers[0]
    names = re.findall(r"(?<=[a-z,;:] )[A-Z][\w-]+(?: [A-Z][\w-]+)*", text)
    return str(names[0]) if names else text.strip()[:200]
