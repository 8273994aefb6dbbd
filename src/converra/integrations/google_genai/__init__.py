"""The google-genai integration: its patch points, and the requests that are turns of a conversation.

==========================  ==========================================================================================
what an app calls           where it is seen
==========================  ==========================================================================================
`models`, `chats`, each     four methods of the SDK's API client, with the body as it will be on the wire. Apps never
hop of automatic function   get what these return. A stream is a bare generator, so a generator around it watches it
calling, Vertex             (see `patching.py`).
`interactions`              the method that sends a request of this generated part of the SDK (`speakeasy.py`), which is
                            imported when it is first used
==========================  ==========================================================================================

Retries happen inside of all these methods.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from converra.integrations import CapturedCall, catalogue
from converra.integrations.google_genai import generate, interactions
from converra.integrations.google_genai.chunks import Chunks
from converra.integrations.google_genai.contents import GENERATE
from converra.integrations.patch_groups import PatchGroups
from converra.integrations.patching import Patches, PatchPoint
from converra.integrations.speakeasy import FIRST_ERROR, ObservedResponse, request_of
from converra.integrations.stainless import background
from converra.integrations.stainless.request import Endpoint
from converra.integrations.stainless.stream import WatchedStream, watch_generator

if TYPE_CHECKING:
    from converra.history.turn import Answer
    from converra.integrations import Capture

POINTS = (
    PatchPoint("BaseApiClient", "request"),
    PatchPoint("BaseApiClient", "request_streamed"),
    PatchPoint("BaseApiClient", "async_request", coroutine=True),
    PatchPoint("BaseApiClient", "async_request_streamed", coroutine=True),
)

(SENDING,) = catalogue.GOOGLE_GENAI.parts
INTERACTION_POINTS = (
    PatchPoint("BaseSDK", "do_request"),
    PatchPoint("AsyncBaseSDK", "do_request_async", coroutine=True),
)

SERVER_ERROR = 500
"""Lowest HTTP status of an error of the server."""

METHODS = (":generateContent", ":streamGenerateContent")
"""Ends of the paths whose requests are turns."""


class ObservedRequest(msgspec.Struct, frozen=True, eq=False):
    """A request under way, and the call that it ends."""

    _call: CapturedCall

    def returned(self, result: Any) -> Any:
        """Read an answer; return a generator around a stream."""
        if hasattr(result, "__next__") or hasattr(result, "__anext__"):
            return watch_generator(result, WatchedStream(self._call, Chunks()))
        self._call.end(answer(result))
        return None

    def raised(self, error: BaseException) -> None:
        """Record the failure."""
        self._call.fail(error)


def answer(result: Any) -> Answer:
    """Read what the API client returns: an object with the body, or in old versions the parsed body."""
    body = result if result.__class__ is dict else result.__dict__["body"]
    return generate.plain_chunks([body]) or generate.answer(generate.document(body))


def observe(capture: Capture, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ObservedRequest | None:
    """Begin a turn if this request is one.

    The SDK calls `request(http_method, path, request_dict, http_options)`, and the other methods in the same way.
    """
    path = args[1] if len(args) > 1 else kwargs["path"]
    if not path.partition("?")[0].endswith(METHODS):
        return None
    body = args[2] if len(args) > 2 else kwargs["request_dict"]  # noqa: PLR2004 - see above
    call = capture.begin(generate.request(path, body))
    return None if call is None else ObservedRequest(call)


ERRORS = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    409: "ConflictError",
    422: "UnprocessableEntityError",
    429: "RateLimitError",
}
"""HTTP status → name of the exception that interactions raise."""


def error_type(status: int) -> str:
    """Name the exception that interactions raise for an HTTP status."""
    return ERRORS.get(status, "InternalServerError" if status >= SERVER_ERROR else "APIStatusError")


INTERACTIONS = Endpoint("google.genai", interactions.request, interactions.answer, interactions.InteractionEvents)
BACKGROUND = INTERACTIONS._replace(answer=interactions.of_background)


class ObservedRetrieval(ObservedResponse, frozen=True, eq=False):
    """A request for an interaction of the background. If it fails, that says nothing about the interaction."""

    def returned(self, result: Any) -> None:
        """Read the interaction as far as it is there."""
        if result.status_code >= FIRST_ERROR:
            self.raised(ConnectionError())
        else:
            super().returned(result)


def observe_interaction(capture: Capture, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ObservedResponse | None:
    """Begin a turn if this HTTP request is one, or continue that of the interaction that it retrieves."""
    sent = request_of(args, kwargs)
    path = sent.url.path
    if sent.method == "GET":
        name = interactions.interaction_id(path)
        call = None if name is None else background.resume(name, capture, GENERATE)
        # One that was begun elsewhere may be recorded there: no answer says whether it is of the background.
        if isinstance(call, background.BackgroundCall):
            return ObservedRetrieval(call, BACKGROUND, error_type)
        return None
    if sent.method != "POST" or not path.endswith("/interactions"):
        return None
    body = generate.document(sent.content.decode())
    begun: CapturedCall | None = capture.begin(interactions.request(body))
    if begun is None:
        return None
    if body.get("background"):
        return ObservedResponse(background.BackgroundCall(begun), BACKGROUND, error_type)
    return ObservedResponse(begun, INTERACTIONS, error_type)


_patches = PatchGroups(
    (catalogue.GOOGLE_GENAI.module, Patches(POINTS, observe)),
    (SENDING, Patches(INTERACTION_POINTS, observe_interaction)),
)

INTEGRATION = catalogue.GOOGLE_GENAI.integration(_patches.install, _patches.uninstall)
