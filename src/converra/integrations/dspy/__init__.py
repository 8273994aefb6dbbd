"""The dspy integration: its own engine, which asks providers by an HTTP client inside of dspy.

From version 3.4 on, `dspy.LM` sends by the `lm15` engine what that can express, and the rest by litellm, as before.
Both engines take one request and return one answer; retries, the cache and several candidates are above them. What
litellm sends is recorded there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.integrations import catalogue
from converra.integrations.bare import ObservedAnswer, ObservedGenerator
from converra.integrations.dspy import messages
from converra.integrations.patch_groups import PatchGroups
from converra.integrations.patching import Patches, PatchPoint
from converra.integrations.stainless.request import Endpoint

if TYPE_CHECKING:
    from converra.integrations import Capture

ENDPOINT = Endpoint("dspy", messages.request, messages.answer, messages.Events)


def _begun(
    observed: type[ObservedAnswer], capture: Capture, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> ObservedAnswer | None:
    request = args[0] if args else kwargs["request"]
    if not hasattr(request, "messages"):  # the engine refuses it
        return None
    call = capture.begin(messages.request(request))
    return None if call is None else observed(call, ENDPOINT)


def complete(capture: Capture, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ObservedAnswer | None:
    """Begin the turn of a whole answer: `complete(request)`."""
    return _begun(ObservedAnswer, capture, args, kwargs)


def stream(capture: Capture, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ObservedAnswer | None:
    """Begin the turn of a stream: `stream(request)`."""
    return _begun(ObservedGenerator, capture, args, kwargs)


_WHOLE = (PatchPoint("LM15Engine", "complete"), PatchPoint("AsyncLM15Engine", "complete", coroutine=True))
_STREAMED = (PatchPoint("LM15Engine", "stream"), PatchPoint("AsyncLM15Engine", "stream"))

_patches = PatchGroups(
    (catalogue.DSPY.module, Patches(_WHOLE, complete)), (catalogue.DSPY.module, Patches(_STREAMED, stream))
)

INTEGRATION = catalogue.DSPY.integration(_patches.install, _patches.uninstall)
