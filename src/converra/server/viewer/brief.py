"""A conversation in one line: what pages show that offer or name several."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from converra.server.api.answers import iso
from converra.server.viewer import texts
from converra.server.viewer.pages import address_of

if TYPE_CHECKING:
    from converra.server.store.records import Conversation


class Brief(NamedTuple):
    """A conversation, and how pages name it."""

    conversation: Conversation
    id: str
    title: str
    address: str
    created: str
    """ISO 8601, in UTC."""


def brief(found: Conversation) -> Brief:
    """Name a conversation by its title, address and time."""
    return Brief(found, found.id, texts.title(found.title), address_of(found.id), iso(found.created_at))
