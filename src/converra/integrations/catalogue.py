"""The built-in integrations, each as it is known before its code is loaded.

An app pays for the integrations of the libraries that it imports: the code of an integration is loaded when the first
module that it watches has been imported.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from converra.integrations import Integration

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from converra.integrations import Capture, Patched


class Entry(NamedTuple):
    """The fixed facts of one integration; the fields are those of `Integration`."""

    name: str
    module: str
    parts: tuple[str, ...]
    package: str
    since: str

    @property
    def home(self) -> str:
        """Name of the module that holds the integration, as `INTEGRATION`."""
        return f"{__package__}.{_HOMES.get(self.name, self.name.replace('-', '_'))}"

    def integration(
        self, install: Callable[[ModuleType, Capture], list[Patched]], uninstall: Callable[[], None]
    ) -> Integration:
        """Return the integration with these facts."""
        return Integration(
            self.name, self.module, install, uninstall, self.parts, package=self.package, since=self.since
        )

    def deferred(self) -> Integration:
        """Return the integration; its code is loaded when it is first installed."""

        def install(module: ModuleType, capture: Capture) -> list[Patched]:
            integration: Integration = import_module(self.home).INTEGRATION
            return integration.install(module, capture)

        def uninstall() -> None:
            loaded = sys.modules.get(self.home)
            if loaded is not None:
                loaded.INTEGRATION.uninstall()

        return self.integration(install, uninstall)


_HOMES = {"claude-agent-sdk": "claude_agent"}
"""Integrations whose module has another name."""

OPENAI = Entry("openai", "openai", ("openai._client",), "openai", "1.66")
LANGCHAIN = Entry(
    "langchain", "langchain_core.tracers.context", ("langchain_core.callbacks.base",), "langchain-core", "0.3"
)
LITELLM = Entry(
    "litellm",
    "litellm.litellm_core_utils.litellm_logging",
    (
        "litellm.utils",
        "litellm",
        "litellm.caching.caching_handler",
        "litellm.litellm_core_utils.streaming_handler",
        "litellm.responses.streaming_iterator",
        "litellm.llms.anthropic.messages.native.streaming_iterator",
    ),
    "litellm",
    "1.72",
)
GOOGLE_GENAI = Entry(
    "google-genai", "google.genai._api_client", ("google.genai._gaos.basesdk",), "google-genai", "1.10"
)
ANTHROPIC = Entry("anthropic", "anthropic", ("anthropic._client",), "anthropic", "0.40")
GROQ = Entry("groq", "groq", ("groq._client",), "groq", "0.13")
TOGETHER = Entry("together", "together", ("together._client",), "together", "2")
MISTRALAI = Entry(
    "mistralai",
    "mistralai.client.basesdk",
    (
        "mistralai.azure.client.basesdk",
        "mistralai.gcp.client.basesdk",
        "mistralai.basesdk",  # of version 1, as the two below
        "mistralai_azure.basesdk",
        "mistralai_gcp.basesdk",
    ),
    "mistralai",
    "1",
)
OLLAMA = Entry("ollama", "ollama", ("ollama._client",), "ollama", "0.4")
BEDROCK = Entry("bedrock", "botocore.client", ("aiobotocore.client",), "boto3", "1.34.116")
DSPY = Entry("dspy", "dspy.clients.engines.lm15_engine", (), "dspy", "3")
CLAUDE_AGENT = Entry("claude-agent-sdk", "claude_agent_sdk._internal.query", (), "claude-agent-sdk", "0.1.40")

ENTRIES = (
    OPENAI,
    LANGCHAIN,
    LITELLM,
    GOOGLE_GENAI,
    ANTHROPIC,
    GROQ,
    TOGETHER,
    MISTRALAI,
    OLLAMA,
    BEDROCK,
    CLAUDE_AGENT,
    DSPY,
)
"""All of them, in the order in which they are switched on."""
