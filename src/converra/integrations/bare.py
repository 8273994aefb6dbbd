"""The seam of clients that return plain objects: an answer, or a bare generator that sends its request when first read.

What a call returns has no HTTP response to watch, so an answer is read at once, and a generator stands around another.
"""

from __future__ import annotations

from typing import Any

import msgspec

from converra.integrations import CapturedCall
from converra.integrations.stainless.request import Endpoint
from converra.integrations.stainless.stream import watch_lazy_generator


class ObservedAnswer(msgspec.Struct, frozen=True, eq=False):
    """A request under way, and the call that it ends."""

    _call: CapturedCall
    _endpoint: Endpoint

    def returned(self, result: Any) -> Any:
        """Read an answer."""
        self._call.end(self._endpoint.answer(result))
        return None

    def raised(self, error: BaseException) -> None:
        """Record the failure."""
        self._call.fail(error)


class ObservedGenerator(ObservedAnswer, frozen=True, eq=False):
    """A stream that was made, in the conversation of that moment, and may be read later."""

    def returned(self, result: Any) -> Any:
        """Return a generator around the stream."""
        return watch_lazy_generator(result, self._call, self._endpoint.pieces)
