"""The openai integration: its patch points, and the endpoints whose requests are conversation turns.

Whatever an app calls (create, parse, stream helpers, raw responses, Azure, subclasses, `client.post`) goes through the
client's own `request`, once, with the body as it will be on the wire. Retries happen inside of it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from converra.history.turn import Answer
from converra.integrations import Integration
from converra.integrations.openai import chat, responses
from converra.integrations.openai.chat_chunks import ChatChunks, CompletionChunks
from converra.integrations.openai.events import ResponseEvents
from converra.integrations.patching import Patches, PatchPoint
from converra.integrations.payload.fields import fields
from converra.integrations.stainless import background
from converra.integrations.stainless.request import Endpoint, ObservedRequest

if TYPE_CHECKING:
    from converra.integrations import Capture

POINTS = (
    PatchPoint("OpenAI", "request"),
    PatchPoint("AsyncOpenAI", "request", coroutine=True),
)

_endpoint = partial(Endpoint, "openai")

ENDPOINTS = {  # an unusual address belongs to the first that its path ends with
    "/chat/completions": _endpoint(chat.request, chat.answer, ChatChunks),
    "/responses": _endpoint(responses.request, responses.answer, ResponseEvents),
    "/completions": _endpoint(chat.completions_request, chat.completions_answer, CompletionChunks),
}


def observe(capture: Capture, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ObservedRequest | None:
    """Begin a turn if this request is one. `request(cast_to, options, *, stream, stream_cls)` is what is called."""
    options = args[1] if len(args) > 1 else kwargs["options"]
    endpoint = ENDPOINTS.get(options.url) or _endpoint_at(options.url)
    body = options.json_data
    if (
        endpoint is None
        or not isinstance(body, dict)
        or (options.method != "post" and options.method.lower() != "post")
    ):
        return _retrieval(capture, options)
    if options.extra_json:  # `extra_body`: it wins, as it does on the wire
        body = {**body, **options.extra_json}
    call = capture.begin(endpoint.request(body))
    if call is None:
        return None
    return ObservedRequest(background.BackgroundCall(call) if body.get("background") else call, endpoint)


def _endpoint_at(url: str) -> Endpoint | None:
    """Find the endpoint of an address with a query, or of a whole one (`client.post("https://…/v1/responses")`)."""
    path = url.partition("?")[0]
    return next((endpoint for suffix, endpoint in ENDPOINTS.items() if path.endswith(suffix)), None)


def _retrieval(capture: Capture, options: Any) -> ObservedRequest | None:
    """Continue the turn of the background response that this request retrieves; or record its answer."""
    response_id = responses.retrieved_id(options.method.lower(), options.url)
    call = None if response_id is None else background.resume(response_id, capture, responses.RESPONSES)
    if call is None:
        return None
    return ObservedRequest(call, RETRIEVED if isinstance(call, background.RetrievedCall) else ENDPOINTS["/responses"])


def _background_answer(response: Any) -> Answer:
    """Read a response that was made in the background; others were recorded when they were made."""
    return responses.answer(response) if fields(response).get("background") is True else Answer()


RETRIEVED = _endpoint(responses.request, _background_answer, ResponseEvents)
"""A retrieved response that was not made here. Only background responses can be streamed later."""

_patches = Patches(POINTS, observe)

INTEGRATION = Integration("openai", "openai", _patches.install, _patches.uninstall, ("openai._client",))
