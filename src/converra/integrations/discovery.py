"""The integrations that are installed: entry points of all packages, this one included."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, NamedTuple

from converra.integrations import Integration, Patched
from converra.integrations.sessions import READERS
from converra.process.guard import guard

if TYPE_CHECKING:
    from collections.abc import Sequence

GROUP = "converra.integrations"

NAMES = (
    "openai",
    "langchain",
    "litellm",
    "google-genai",
    "anthropic",
    "groq",
    "together",
    "mistralai",
    "ollama",
    "bedrock",
)
PACKAGES = {"claude-agent-sdk": "claude_agent"}
"""Names whose package has another one."""
BUILT_IN = tuple(
    EntryPoint(name, f"converra.integrations.{PACKAGES.get(name, name.replace('-', '_'))}:INTEGRATION", GROUP)
    for name in (*NAMES, *PACKAGES)
)
"""Listed here as well, so that they are found if the package is on the path without being installed."""


def integrations() -> list[Integration]:
    """Load every integration; one that cannot be loaded is logged and left out."""
    found = {point.name: point for point in (*BUILT_IN, *entry_points(group=GROUP))}
    loaded = (_load(point) for point in found.values())
    return [integration for integration in loaded if integration is not None]


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
