"""The integrations that are installed: those of the catalogue, and the entry points of all packages."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, NamedTuple

from converra.integrations import Integration, Patched, catalogue
from converra.integrations.sessions import READERS
from converra.process.guard import guard

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.metadata import EntryPoint

GROUP = "converra.integrations"

BUILT_IN = {entry.name: entry.deferred() for entry in catalogue.ENTRIES}
"""Name → integration, which another package can replace by one of the same name."""


def integrations() -> list[Integration]:
    """Return every integration; one of another package that cannot be loaded is logged and left out."""
    added = (_load(point) for point in entry_points(group=GROUP))
    return list((BUILT_IN | {one.name: one for one in added if one is not None}).values())


class Chosen(NamedTuple):
    """The integrations, as the setting `integrations` chooses among them."""

    wanted: list[Integration]
    """Those to switch on; readers of sessions among them."""
    left_out: list[Integration]
    unknown: list[Patched]
    """A row of the report for each name that no integration has."""


def chosen(names: Sequence[str]) -> Chosen:
    """Choose by names: only those named, if any is; without those that have a `-` before their name."""
    found = integrations()
    only = {name for name in names if not name.startswith("-")}
    without = {name[1:] for name in names if name.startswith("-")}
    known = {one.name for one in (*found, *READERS)}
    left_out = [one for one in found if one.name in without or (only and one.name not in only)]
    readers = [one for one in READERS if one.name not in without]
    why = f"there is no such integration; there are: {', '.join(sorted(known))}"
    unknown = [Patched(name, "skipped", why) for name in sorted((only | without) - known)]
    return Chosen([*(one for one in found if one not in left_out), *readers], left_out, unknown)


def _load(point: EntryPoint) -> Integration | None:
    with guard(f"loading the {point.name} integration"):
        integration = point.load()
        if not isinstance(integration, Integration):
            raise TypeError(f"{point.value} is not a converra.integrations.Integration")
        return integration
    return None
