"""Message details in what is stored: see `converra.wire.details`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.server.api import schemas, validation
from converra.wire import details

if TYPE_CHECKING:
    from collections.abc import Mapping

    from converra.wire.details import Taken


def take(metadata: Mapping[str, Any]) -> Taken:
    """Split a conversation's metadata. Details that no message can have stay where they are."""
    taken = details.take(metadata)
    if all(map(_fits, taken.details.values())):
        return taken
    return details.Taken(dict(metadata), {})


def _fits(given: Mapping[str, Any]) -> bool:
    return validation.fits({"role": "assistant", "content": "-", **given}, schemas.MESSAGE)
