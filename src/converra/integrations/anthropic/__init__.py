"""The anthropic integration: its patch points, and the endpoint whose requests are conversation turns.

The clients for Bedrock and Vertex are no subclasses of `Anthropic`; those for AWS, Foundry and Google Cloud are. All of
them request `/v1/messages` here, and change the address further in. See `stainless/request.py` for what passes.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from converra.history.turn import Scope
from converra.integrations import catalogue
from converra.integrations.anthropic import messages
from converra.integrations.anthropic.events import MessageEvents
from converra.integrations.anthropic.prefill import prefilled
from converra.integrations.patching import Patches, PatchPoint
from converra.integrations.stainless.request import Endpoint, Seam

if TYPE_CHECKING:
    from converra.integrations import Capture
    from converra.integrations.stainless.request import ObservedRequest

CLIENTS = ("Anthropic", "AnthropicBedrock", "AnthropicBedrockMantle", "AnthropicVertex")

POINTS = (
    *(PatchPoint(client, "request", bound=True) for client in CLIENTS),
    *(PatchPoint(f"Async{client}", "request", coroutine=True, bound=True) for client in CLIENTS),
)

LISTS = ("messages", "system", "tools")

HELPER = "X-Stainless-Stream-Helper"
"""Header of the requests of stream helpers."""


def remade(options: Any) -> bool:
    """Return True for a stream helper of an old version: it makes another stream of the response, unlike later ones."""
    if not isinstance(options.headers, Mapping) or HELPER not in options.headers:
        return False
    helper = getattr(sys.modules.get("anthropic.lib.streaming"), "MessageStream", None)
    return helper is not None and "raw_stream" not in helper.__init__.__code__.co_varnames


ENDPOINTS = {
    "/v1/messages": Endpoint("anthropic", messages.request, messages.answer, MessageEvents, LISTS, prefilled, remade),
}

SEAM = Seam(ENDPOINTS)


def observe(capture: Capture, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ObservedRequest | None:
    """Begin a turn if this request of a client is one; it belongs to the conversation that the client names, if any."""
    return SEAM.observe(capture, args[1:], kwargs, session(args[0]))


def session(client: Any) -> Scope | None:
    """Return the conversation of the client's OpenTelemetry option (`with_options(open_telemetry=…)`)."""
    options = getattr(client, "open_telemetry", None)
    named = options.get("conversation_id") if isinstance(options, dict) else None
    return Scope(named) if isinstance(named, str) and named else None


_patches = Patches(POINTS, observe)

INTEGRATION = catalogue.ANTHROPIC.integration(_patches.install, _patches.uninstall)
