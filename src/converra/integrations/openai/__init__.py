"""The openai integration: where it is patched, and which requests are conversation turns.

Whatever an app calls (create, parse, stream helpers, raw responses, Azure, subclasses, `client.post`) goes through the
client's own `request`, once, with the body as it will be on the wire; retries happen inside of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.history.turn import Answer
from converra.integrations import Integration
from converra.integrations.openai import chat, responses
from converra.integrations.openai.background import BackgroundCall, RetrievedCall, waited_for
from converra.integrations.openai.chat_chunks import ChatChunks, CompletionChunks
from converra.integrations.openai.events import ResponseEvents
from converra.integrations.patching import Patches, PatchPoint
from converra.integrations.payload.fields import fields
from converra.integrations.stainless.call import Endpoint, ObservedRequest

if TYPE_CHECKING:
    from converra.integrations import Capture

POINTS = (
    PatchPoint("OpenAI", "request"),
    PatchPoint("AsyncOpenAI", "request", coroutine=True),
)

ENDPOINTS = {  # an unusual address belongs to the first that its path ends with
    "/chat/completions": Endpoint(chat.request, chat.answer, ChatChunks),
    "/responses": Endpoint(responses.request, responses.answer, ResponseEvents),
    "/completions": Endpoint(chat.completions_request, chat.completions_answer, CompletionChunks),
}


def observe(capture: Capture, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ObservedRequest | None:
    """Begin a turn if this request is one. `request(cast_to, options, *, stream, stream_cls)` is what is called."""
    options = args[1] if len(args) > 1 else kwargs["options"]
    endpoint = ENDPOINTS.get(options.url) or _endpoint(options.url)
    body = options.json_data
    if (
        endpoint is None
        or not isinstance(body, dict)
        or (options.method != "post" and options.method.lower() != "post")
    ):
        return _follow_up(capture, options)
    if options.extra_json:  # `extra_body`: it wins, as it does on the wire
        body = {**body, **options.extra_json}
    call = capture.begin(endpoint.request(body))
    if call is None:
        return None
    return ObservedRequest(BackgroundCall(call) if body.get("background") else call, endpoint)


def _endpoint(url: str) -> Endpoint | None:
    """The endpoint of an unusual address: with a query, or whole (`client.post("https://…/v1/chat/completions")`)."""
    path = url.partition("?")[0]
    return next((endpoint for suffix, endpoint in ENDPOINTS.items() if path.endswith(suffix)), None)


def _follow_up(capture: Capture, options: Any) -> ObservedRequest | None:
    """Go on with the turn of a background response that this request asks for; or record its answer."""
    call = waited_for(options.method.lower(), options.url, capture)
    if call is None:
        return None
    return ObservedRequest(call, RETRIEVED if isinstance(call, RetrievedCall) else ENDPOINTS["/responses"])


def _background_answer(response: Any) -> Answer:
    """The answer of a response that was made in the background; of others, which were recorded when made, none."""
    return responses.answer(response) if fields(response).get("background") is True else Answer()


RETRIEVED = Endpoint(responses.request, _background_answer, ResponseEvents)
"""A response that is asked for and that was not made here: only those that run in the background can be streamed."""

_patches = Patches(POINTS, observe)

INTEGRATION = Integration("openai", "openai", _patches.install, _patches.uninstall, ("openai._client",))
