"""The ollama integration: its patch points, and the two addresses whose requests are turns of a conversation.

All methods of the SDK send by `_request`, which returns an object, or for a stream a bare generator that sends its
request when it is first read. Ollama's address with OpenAI's API is called by the openai client, and captured there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.integrations import Capture, Patched, catalogue
from converra.integrations.bare import ObservedAnswer, ObservedGenerator
from converra.integrations.ollama import chat, generate
from converra.integrations.patching import Patches, PatchPoint
from converra.integrations.stainless.request import Endpoint

if TYPE_CHECKING:
    from types import ModuleType

POINTS = (PatchPoint("Client", "_request"), PatchPoint("AsyncClient", "_request", coroutine=True))

ENDPOINTS = {
    "/api/chat": Endpoint("ollama", chat.request, chat.answer, chat.ChatChunks),
    "/api/generate": Endpoint("ollama", generate.request, generate.answer, generate.GenerateChunks),
}


def observe(capture: Capture, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ObservedAnswer | None:
    """Begin a turn if this request is one: `_request(cls, method, url, json=…, stream=…)`."""
    endpoint, body = ENDPOINTS.get(args[-1] if args else kwargs["url"]), kwargs.get("json")
    if endpoint is None or not isinstance(body, dict):
        return None
    request = endpoint.request(body)
    if not request.messages:  # such a request loads a model, or unloads it
        return None
    call = capture.begin(request)
    if call is None:
        return None
    return (ObservedGenerator if kwargs.get("stream") else ObservedAnswer)(call, endpoint)


_patches = Patches(POINTS, observe)

TOO_OLD = "before version 0.4 the client has another method of this name"


def install(module: ModuleType, capture: Capture) -> list[Patched]:
    """Patch both clients."""
    if not hasattr(getattr(module, "Client", None), "_request_raw"):
        return [Patched(f"{module.__name__}.{point.owner}.{point.attribute}", "skipped", TOO_OLD) for point in POINTS]
    return _patches.install(module, capture)


INTEGRATION = catalogue.OLLAMA.integration(install, _patches.uninstall)
