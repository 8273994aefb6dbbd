"""Calls of clients that litellm makes: they are skipped, so that one provider call is one turn.

The stack shows that litellm makes a call, in threads and in tasks: its functions hold the `Logging` object of theirs.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from converra.integrations.litellm.calls import ATTEMPTS, BEGINNING, Attempt
from converra.integrations.payload.fields import fields
from converra.process import context

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from converra.integrations import Capture

WRAPPERS = frozenset({"wrapper", "wrapper_async"})
"""Names of what stands around each of litellm's functions, in its module `litellm.utils`."""

STEPS = frozenset({"__next__", "__anext__"})
"""Names of the methods in which a stream may send a request of its own."""

UTILS, STREAMS = "litellm.utils", "litellm.litellm_core_utils.streaming_handler"


class CallsLayer:
    """litellm, as the layer above clients."""

    def covers(self, model: str | None) -> bool:  # noqa: ARG002 - the Protocol's signature
        """Return True if a call of litellm's that is recorded makes the call that begins here.

        Where a call of litellm's begins itself, only the code of a provider that the app has written can be above it.
        """
        customs = getattr(sys.modules.get("litellm"), "_custom_providers", ())
        if not ATTEMPTS and not customs:
            return False
        own = getattr(BEGINNING, "log", None)
        for log in calls_above(sys._getframe(1)):  # noqa: SLF001 - as `inspect.currentframe`, without importing it
            if log is not own:
                return log.model_call_details.get("custom_llm_provider") in customs or (own is None and log in ATTEMPTS)
        return False


def calls_above(frame: FrameType | None) -> Iterator[Any]:
    """Yield the `Logging` objects of the calls of litellm's on the stack that ask a provider, innermost first.

    In a call's wrapper, functions of the wrapper's own module call the app's callbacks.
    """
    below: FrameType | None = None
    while frame is not None:
        name = frame.f_code.co_name
        log = None
        if name in WRAPPERS and frame.f_globals.get("__name__") == UTILS:
            if below is not None and below.f_globals.get("__name__") != UTILS:
                held = frame.f_locals
                log = held.get("logging_obj") or fields(held.get("kwargs")).get("litellm_logging_obj")
        elif name in STEPS and frame.f_globals.get("__name__") == STREAMS:
            log = getattr(frame.f_locals.get("self"), "logging_obj", None)
        if log is not None:
            yield log
        below, frame = frame, frame.f_back


LAYER = CallsLayer()


def made(_capture: Capture, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Note that a framework around litellm records a call: `Logging.__init__(model, …)`, where the call enters litellm.

    Why here? An async call sends its request from a thread, where the stack does not show the framework any more, and a
    router sends it to a model of another name.
    """
    log, outer = args[0], [layer for layer in context.layers if layer is not LAYER]
    if outer:
        model = args[1] if len(args) > 1 else kwargs.get("model")
        if any(layer.covers(model) for layer in outer):
            ATTEMPTS.add(log, Attempt(None, {}))
