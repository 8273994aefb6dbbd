"""Whether a handler is to be called in the run's own task (`run_inline`): always, but for one place that gets it wrong.

Not inline, LangChain calls a handler in a pool of threads, for every token: tens of microseconds each and a switch of
threads, ends that come late, and other tasks of the app's pool in the queue behind us. So we are inline.

But `AsyncCallbackManager.on_llm_start`, which tells the start of a completion model, calls the handlers that are
inline, or if there are none the others, never both. Inline there, we would hide the start from the user's handlers;
not inline beside an inline one of the user's (LangSmith's tracer, LangGraph's stream of messages), it would be hidden
from us. So there we are what the others are. Who asks can be seen on the stack only: the handlers that are to be called
are chosen before any of them is, so no override and no second handler could answer differently. The test is by the name
of the function, not by its code, which a comprehension of Python 3.11 has apart. Should LangChain rename it, or call
both kinds, the answer is the one that every other place gets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

STRING_MODEL_START = "AsyncCallbackManager.on_llm_start"


def inline(asking: FrameType, ours: type[Any]) -> bool:
    """Answer the frame that asks."""
    if not asking.f_code.co_qualname.startswith(STRING_MODEL_START):
        return True
    frame: FrameType | None = asking
    while frame is not None and "self" not in frame.f_locals:  # in a comprehension
        frame = frame.f_back
    handlers = getattr(frame.f_locals["self"], "handlers", ()) if frame is not None else ()
    return any(handler.run_inline for handler in handlers if not isinstance(handler, ours))
