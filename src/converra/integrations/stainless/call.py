"""One request of an openai client under observation: what came of it, in whichever shape the app asked for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from converra.integrations import CapturedCall
from converra.integrations.stainless.body import BodyPieces
from converra.integrations.stainless.stream import WatchedStream, watch_body, watch_stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from converra.history.turn import Answer, Request
    from converra.integrations.stainless.stream import Pieces


class Endpoint(NamedTuple):
    """How one endpoint's traffic is read."""

    request: Callable[[dict[str, Any]], Request]
    answer: Callable[[Any], Answer]
    pieces: Callable[[], Pieces]


class ObservedRequest(msgspec.Struct, frozen=True, eq=False):
    """A request under way."""

    _call: CapturedCall
    _endpoint: Endpoint

    def returned(self, result: Any) -> None:
        """Read an answer, or watch it arrive. The shape is told by what the object holds, not by its class."""
        held = getattr(result, "__dict__", {})
        if "_iterator" in held and "response" in held:
            watch_stream(result, WatchedStream(self._call, self._endpoint.pieces()))
        elif "http_response" in held:
            self._body(result.http_response)
        elif "is_stream_consumed" in held:  # `cast_to=httpx.Response`
            self._body(result)
        else:
            self._call.end(self._endpoint.answer(result))

    def raised(self, error: BaseException) -> None:
        """Record the failure, and the answer where there was one: a parser of the app may have refused it."""
        completion = vars(error).get("completion")
        if completion is not None:  # cut off or filtered, and said so by an exception: a whole turn all the same
            self._call.end(self._endpoint.answer(completion))
            return
        refused = _refused(error)
        self._call.fail(error, None if refused is None else self._endpoint.answer(refused))

    def _body(self, response: Any) -> None:
        pieces = BodyPieces(self._endpoint.answer, self._endpoint.pieces)
        content = vars(response).get("_content")
        if content is None:
            watch_body(response, WatchedStream(self._call, pieces))
        else:
            pieces.feed(content)
            self._call.end(pieces.answer())


def _refused(error: BaseException) -> Any:
    """The answer that a parser (`parse(response_format=…)`) raised on.

    It is in no attribute of the exception. openai's own frame holds it, and looking there changes nothing, where
    handing the SDK a parser of ours would.
    """
    tb = error.__traceback__
    while tb is not None:
        frame = tb.tb_frame
        if frame.f_code.co_name == "parse" and frame.f_globals.get("__name__", "").startswith("openai."):
            return frame.f_locals.get("parsed")
        tb = tb.tb_next
    return None
