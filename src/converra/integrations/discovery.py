"""The integrations that are installed: entry points of all packages, this one included."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from converra.integrations import Integration
from converra.process.guard import guard

GROUP = "converra.integrations"

NAMES = ("openai", "langchain", "litellm", "google-genai", "anthropic", "groq", "together", "bedrock")
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


def _load(point: EntryPoint) -> Integration | None:
    with guard(f"loading the {point.name} integration"):
        integration = point.load()
        if not isinstance(integration, Integration):
            raise TypeError(f"{point.value} is not a converra.integrations.Integration")
        return integration
    return None
