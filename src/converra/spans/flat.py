"""Flattened attributes, such as `a.0.b`, grown into lists and mappings again. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_PARTS = 24
"""Parts of a name; longer ones are left out."""


def grown(attributes: Mapping[str, Any], *prefixes: str) -> dict[str, Any]:
    """Return the attributes whose names begin with one of the prefixes, as a tree.

    A level whose names are all numbers becomes a list, in the order of the numbers: `10` comes after `9`. Where a name
    is both a value and the beginning of others, the others win.
    """
    tree: dict[str, Any] = {}
    for name, value in attributes.items():
        parts = name.split(".")
        if name.startswith(prefixes) and len(parts) <= MAX_PARTS:
            level = tree
            for part in parts[:-1]:
                below = level.get(part)
                if not isinstance(below, _Level):
                    below = level[part] = _Level()
                level = below
            if not isinstance(level.get(parts[-1]), _Level):
                level[parts[-1]] = value
    return {name: _settled(value) for name, value in tree.items()}


class _Level(dict[str, Any]):
    """A level of the tree, unlike a mapping that is a value."""


def _settled(value: Any) -> Any:
    if not isinstance(value, _Level):
        return value
    if value and all(name.isdecimal() for name in value):
        return [_settled(value[name]) for name in sorted(value, key=int)]
    return {name: _settled(item) for name, item in value.items()}
