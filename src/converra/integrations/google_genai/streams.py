"""Streams that are bare generators, watched by a generator around them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.integrations.stainless.stream import WatchedStream, _async_tap, _tap

if TYPE_CHECKING:
    from converra.integrations import CapturedCall
    from converra.integrations.stainless.stream import Pieces


def watched(chunks: Any, call: CapturedCall, pieces: Pieces) -> Any:
    """Return a generator, of the same kind as `chunks`, that yields them and ends the call when they end."""
    stream = WatchedStream(call, pieces)
    around: Any = _async_tap(chunks, stream) if hasattr(chunks, "__anext__") else _tap(chunks, stream)
    stream.watch_drop(around)
    return around
