"""Filters of the list of conversations: from an address, back into one, and in words."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from converra.server.store.catalogue import Filters

if TYPE_CHECKING:
    from collections.abc import Mapping

_NOT_IN_TITLES = ("q", "errors", "sort", "insights")


def filters_of(query: Mapping[str, str]) -> Filters:
    """Read the filters of a query; the rest of it is ignored."""
    return Filters(**{name: query.get(name, "").strip() for name in Filters._fields})


def link(filters: Filters, page: int = 1) -> str:
    """Return the address of a page of the list."""
    query = urlencode(filters.given() | ({"page": str(page)} if page > 1 else {}))
    return f"/?{query}" if query else "/"


def title(filters: Filters) -> str:
    """Return the words that a tab of the browser shows for a list."""
    given = [value for name, value in filters.given().items() if name not in _NOT_IN_TITLES]
    words = [*([f"“{filters.q}”"] if filters.q else []), *given, *(["with errors"] if filters.errors else [])]
    return ", ".join([*words, "Conversations"]) if words else "Conversations"
