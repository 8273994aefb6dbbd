"""The google-genai integration: its patch points, and the requests that are turns of a conversation.

`generate_content`, streams, chats, each hop of automatic function calling, Vertex: whatever an app calls goes through
four methods of the SDK's API client, with the body as it will be on the wire. Retries happen inside of them.

Apps never get what these methods return: the SDK makes its own objects of it. A stream is a bare generator, so a
generator around it watches it (see `patching.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from converra.integrations import CapturedCall, Integration
from converra.integrations.google_genai import generate
from converra.integrations.google_genai.chunks import Chunks
from converra.integrations.patching import Patches, PatchPoint
from converra.integrations.stainless.stream import WatchedStream, watch_generator

if TYPE_CHECKING:
    from converra.history.turn import Answer
    from converra.integrations import Capture

MODULE = "google.genai._api_client"

POINTS = (
    PatchPoint("BaseApiClient", "request"),
    PatchPoint("BaseApiClient", "request_streamed"),
    PatchPoint("BaseApiClient", "async_request", coroutine=True),
    PatchPoint("BaseApiClient", "async_request_streamed", coroutine=True),
)

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


_patches = Patches(POINTS, observe)

INTEGRATION = Integration("google-genai", MODULE, _patches.install, _patches.uninstall)
