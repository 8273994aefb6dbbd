"""Applies the schemas to what a request brought, and says of each field what is wrong with it.

Only the JSON Schema keywords that `schemas` uses are known here.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from converra.server.api.refusal import Refusal
from converra.server.api.schemas import COMPONENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from starlette.datastructures import QueryParams

    from converra.server.api.schemas import Schema

Fault = tuple[str, str]
"""Where (as `messages[0].role`), and what."""

_QUERY = "Invalid query parameters"
_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d([.,]\d+)?)?(Z|[+-]\d\d:?\d\d)?", re.ASCII | re.IGNORECASE)


def decode(body: bytes) -> Any:
    """The JSON of a body. Strict: no NaN, no lone surrogates, no broken UTF-8."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(400, "VALIDATION_ERROR", "Invalid JSON", {"body": str(error)}) from error


def check(value: Any, schema: Schema, message: str = "Invalid request body", at: str = "") -> None:
    """Raise the API's 400 unless `value` fits the schema."""
    faults: dict[str, str] = {}
    for where, what in _faults(value, schema, at):
        faults.setdefault(where, what)
    if faults:
        raise Refusal(400, "VALIDATION_ERROR", message, faults)


def fits(value: Any, schema: Schema) -> bool:
    """Return True if `value` fits the schema."""
    return not any(_faults(value, schema, ""))


def query(given: QueryParams, schema: Mapping[str, Schema]) -> dict[str, Any]:
    """The query parameters of a request, read and checked, with defaults for those not given.

    An unknown one is refused, and one that is given twice: the answer would look right.
    """
    names = [name for name, _ in given.multi_items()]
    if twice := {name: "Given more than once" for name in names if names.count(name) > 1}:
        raise Refusal(400, "VALIDATION_ERROR", _QUERY, twice)
    values = {name: _read(text, schema[name]) if name in schema else text for name, text in given.items()}
    rules = {"type": "object", "properties": dict(schema), "additionalProperties": False}
    check(values, rules, _QUERY)
    return {name: values.get(name, rule.get("default")) for name, rule in schema.items()}


def _read(text: str, rule: Schema) -> Any:
    """A query parameter in the type that its rule asks for; unreadable text stays text, and fails the check."""
    if rule["type"] == "boolean":
        return {"true": True, "false": False}.get(text, text)
    if rule["type"] == "integer" and re.fullmatch(r"-?\d{1,18}", text, re.ASCII):
        return int(text)
    return text


def _faults(value: Any, schema: Schema, at: str) -> Iterator[Fault]:
    schema = _resolved(schema)
    expected = schema.get("type", "object")
    if not any(_is(value, name) for name in _names(expected)):
        yield at or "body", f"Expected {' or '.join(_WORDS[n] for n in _names(expected))}, got {_kind(value)}"
        return
    for keyword, find in _KEYWORDS.items():
        if keyword in schema:
            yield from find(value, schema, at)


def _resolved(schema: Schema) -> Schema:
    reference = schema.get("$ref")
    return COMPONENTS[reference.rsplit("/", 1)[1]] if reference else schema


def _names(expected: str | list[str]) -> list[str]:
    return [expected] if isinstance(expected, str) else expected


_WORDS = {
    "object": "an object",
    "array": "an array",
    "string": "a string",
    "boolean": "true or false",
    "number": "a number",
    "integer": "a whole number",
}

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "number": (int, float),
    "integer": (int,),
}


def _is(value: Any, name: str) -> bool:
    return isinstance(value, _TYPES[name]) and (name == "boolean" or not isinstance(value, bool))


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    return next(_WORDS[name] for name in _WORDS if _is(value, name))


def _join(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name


def _required(value: Any, schema: Schema, at: str) -> Iterator[Fault]:
    yield from ((_join(at, name), "Required field") for name in schema["required"] if name not in value)


def _properties(value: Any, schema: Schema, at: str) -> Iterator[Fault]:
    for name, rule in schema["properties"].items():
        if name in value:
            yield from _faults(value[name], rule, _join(at, name))


def _additional(value: Any, schema: Schema, at: str) -> Iterator[Fault]:
    known = ", ".join(schema["properties"])
    for name in (name for name in value if name not in schema["properties"]):
        yield _join(at, name), f"Unknown field; known are: {known}"


def _items(value: Any, schema: Schema, at: str) -> Iterator[Fault]:
    for index, item in enumerate(value):
        yield from _faults(item, schema["items"], f"{at}[{index}]")


def _min_items(value: Any, schema: Schema, at: str) -> Iterator[Fault]:
    if len(value) < schema["minItems"]:
        yield at, "At least one is required"


def _enum(value: Any, schema: Schema, at: str) -> Iterator[Fault]:
    if value not in schema["enum"]:
        yield at, f"Must be one of: {', '.join(schema['enum'])}"


def _min_length(value: Any, schema: Schema, at: str) -> Iterator[Fault]:
    if len(value) < schema["minLength"]:
        yield at, "Must not be empty"


def _minimum(value: Any, schema: Schema, at: str) -> Iterator[Fault]:
    if value < schema["minimum"]:
        yield at, f"Must be at least {schema['minimum']}"


def _maximum(value: Any, schema: Schema, at: str) -> Iterator[Fault]:
    if value > schema["maximum"]:
        yield at, f"Must be at most {schema['maximum']}"


def _format(value: Any, schema: Schema, at: str) -> Iterator[Fault]:
    if schema["format"] == "date-time" and not _is_date_time(value):
        yield at, "Expected an ISO 8601 date and time, such as 2025-01-20T14:30:00Z"


def _is_date_time(text: str) -> bool:
    if not _DATE_TIME.fullmatch(text):
        return False
    try:
        datetime.fromisoformat(text.upper())
    except ValueError:
        return False
    return True


def _if(value: Any, schema: Schema, at: str) -> Iterator[Fault]:
    if not any(_faults(value, {"type": "object", **schema["if"]}, at)):
        yield from _faults(value, {"type": "object", **schema["then"]}, at)


_KEYWORDS: dict[str, Callable[[Any, Schema, str], Iterator[Fault]]] = {
    "required": _required,
    "properties": _properties,
    "additionalProperties": _additional,
    "items": _items,
    "minItems": _min_items,
    "enum": _enum,
    "minLength": _min_length,
    "minimum": _minimum,
    "maximum": _maximum,
    "format": _format,
    "if": _if,
}
