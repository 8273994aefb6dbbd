"""The bedrock integration: Converse and InvokeModel of `bedrock-runtime`, through boto3 (botocore) and aiobotocore.

All operations of all AWS services pass one method of botocore's clients. It looks up the name of the operation first,
so that a call of any other costs a dictionary lookup. Retries happen inside of it.

===============================  =====================================================================================
the operation                    how it is read
===============================  =====================================================================================
`Converse`                       at once: the answer is plain data (`converse.py`)
`ConverseStream`,                each event of the `EventStream` as the library decodes it, before it is parsed
`InvokeModelWithResponseStream`  (`events.py`)
`InvokeModel`                    the bytes of the `StreamingBody` while the app reads them (`bodies.py`); body and
                                 answer are in the format of the model (`invoke.py`)
===============================  =====================================================================================
"""

from __future__ import annotations

import io
import logging
import weakref
from typing import TYPE_CHECKING, Any

import msgspec

from converra.integrations import CapturedCall, catalogue
from converra.integrations.anthropic.messages import prefill as text_of
from converra.integrations.bedrock import bodies, converse
from converra.integrations.bedrock.events import ChunkPieces, ConverseEvents, EventPieces
from converra.integrations.bedrock.invoke import endpoint_of, is_unread_chat
from converra.integrations.patch_groups import PatchGroups
from converra.integrations.patching import Patches, PatchPoint
from converra.integrations.payload.fields import fields, items, parsed, string
from converra.integrations.payload.prefill import PrefilledCall
from converra.integrations.stainless.request import BodyPieces, Endpoint
from converra.integrations.stainless.stream import WatchedStream, watch_iterator

if TYPE_CHECKING:
    from collections.abc import Callable

    from converra.integrations import Capture
    from converra.integrations.stainless.stream import Pieces

logger: logging.Logger = logging.getLogger("converra")

SERVICE = "bedrock-runtime"
(ASYNC_MODULE,) = catalogue.BEDROCK.parts

POINTS = (PatchPoint("BaseClient", "_make_api_call", bound=True),)
ASYNC_POINTS = (PatchPoint("AioBaseClient", "_make_api_call", coroutine=True, bound=True),)

UNCAPTURED = (
    "converra: a call of InvokeModel (model %s) is not recorded, and neither are later ones like it: the format of its "
    "body is not read. Call Converse instead, which is recorded for all models, or record the turns with "
    "conversation.add_message()."
)


class ObservedConverse(msgspec.Struct, frozen=True, eq=False):
    """A Converse or ConverseStream under way."""

    _call: CapturedCall

    def returned(self, result: Any) -> None:
        """Read the answer, or watch its events."""
        stream = result.get("stream")
        if stream is None:
            self._call.end(converse.answer(result))
        else:
            _watch_events(self._call, stream, ConverseEvents, _request_id(result))

    def raised(self, error: BaseException) -> None:
        """Record the failure."""
        self._call.fail(error)


class ObservedInvocation(msgspec.Struct, frozen=True, eq=False):
    """An InvokeModel or InvokeModelWithResponseStream under way."""

    _call: CapturedCall
    _endpoint: Endpoint

    def returned(self, result: Any) -> None:
        """Watch the body, or its events."""
        body, pieces = result["body"], self._endpoint.pieces
        if hasattr(body, "_event_generator"):
            _watch_events(self._call, body, lambda: ChunkPieces(pieces()), _request_id(result))
            return
        length = fields(fields(result.get("ResponseMetadata")).get("HTTPHeaders")).get("content-length")
        bodies.watch(body, WatchedStream(self._call, BodyPieces(self._endpoint.answer, pieces)), length)

    def raised(self, error: BaseException) -> None:
        """Record the failure."""
        self._call.fail(error)


def _watch_events(call: CapturedCall, stream: Any, pieces: Callable[[], Pieces], request_id: str | None) -> None:
    """Watch an `EventStream` below the library's parser; an event that the parser raises is the last."""
    events = EventPieces(pieces, request_id)
    watched = WatchedStream(call, events)
    ended = weakref.ref(watched)

    def failed() -> None:
        watched = ended()
        if watched is not None:
            watched.complete()

    events.failed = failed
    watch_iterator(stream, "_event_generator", stream, watched)


def _request_id(result: dict[str, Any]) -> str | None:
    return string(fields(result.get("ResponseMetadata")).get("RequestId"))


def _converse(capture: Capture, params: dict[str, Any]) -> ObservedConverse | None:
    call: CapturedCall | None = capture.begin(converse.request(params))
    if call is None:
        return None
    continued = converse.prefill(items(params.get("messages")))
    return ObservedConverse(PrefilledCall(call, text_of(continued)) if continued else call)


class _Invocations:
    """Begins the turns of InvokeModel, and logs the first chat whose format is not read."""

    def __init__(self) -> None:
        self.noticed: bool = False

    def __call__(self, capture: Capture, params: dict[str, Any]) -> ObservedInvocation | None:
        body = document(params.get("body"))
        endpoint = endpoint_of(body)
        if endpoint is None:
            self._notice(params, body)
            return None
        request = endpoint.request(body)
        request.model = converse.model_name(params.get("modelId"))
        call = capture.begin(request)
        if call is None:
            return None
        return ObservedInvocation(call if endpoint.wrap is None else endpoint.wrap(call, body), endpoint)

    def _notice(self, params: dict[str, Any], body: dict[str, Any]) -> None:
        if not self.noticed and is_unread_chat(body):
            self.noticed = True
            logger.warning(UNCAPTURED, converse.model_name(params.get("modelId")))


def document(body: Any) -> dict[str, Any]:
    """Parse a body that an app sends: text, bytes, or a file in memory, whose position is left as it is."""
    if isinstance(body, io.BytesIO):
        body = body.getvalue()[body.tell() :]
    if isinstance(body, bytearray):
        body = bytes(body)
    return fields(parsed(body)) if isinstance(body, str | bytes) else {}


invocations = _Invocations()

OPERATIONS: dict[str, Callable[[Capture, dict[str, Any]], ObservedConverse | ObservedInvocation | None]] = {
    "Converse": _converse,
    "ConverseStream": _converse,
    "InvokeModel": invocations,
    "InvokeModelWithResponseStream": invocations,
}
"""Operations whose calls are turns, and what begins them."""


def observe(
    capture: Capture, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> ObservedConverse | ObservedInvocation | None:
    """Begin a turn if this call of a client is one: `_make_api_call(operation_name, api_params)`."""
    client, *given = args
    begin = OPERATIONS.get(given[0] if given else kwargs["operation_name"])
    if begin is None or client._service_model.service_name != SERVICE:  # noqa: SLF001 - `meta` holds it as well, behind a property
        return None
    return begin(capture, given[1] if len(given) > 1 else kwargs["api_params"])


_patches = PatchGroups(
    (catalogue.BEDROCK.module, Patches(POINTS, observe)), (ASYNC_MODULE, Patches(ASYNC_POINTS, observe))
)

INTEGRATION = catalogue.BEDROCK.integration(_patches.install, _patches.uninstall)
