"""The answer that a failed run had got: the provider gave and billed it, and a parser or converter raised on it.

No attribute of such an exception holds the answer, except for openai's own two. The frames of the libraries that
parsed it do, and reading them changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.integrations import openai_chat, openai_responses
from converra.integrations.langchain_claim import MANAGER
from converra.integrations.openai_fields import fields, items

if TYPE_CHECKING:
    from types import FrameType
    from uuid import UUID

    from converra.conversation.turn import Answer

LIBRARIES = frozenset({"openai", "langchain_openai"})

SNAPSHOT = "completion_snapshot"
NAMES = ("parsed", "completion", "chat_completion", SNAPSHOT, "response")
"""Local variables in which these libraries keep an answer; the snapshot is that of a stream, and may be unfinished."""


def refused_answer(error: BaseException, run_id: UUID) -> Answer | None:
    """Read the answer that a run of a model on openai's client raised on, of either API.

    The innermost frame that holds one counts, since an answer is converted step by step. Where another run made the
    call (a model that asks a model), that run records it.
    """
    found: Answer | None = None
    for frame in reversed(_frames(error)):
        if found is None and str(frame.f_globals.get("__name__")).partition(".")[0] in LIBRARIES:
            found = next(filter(None, (_answer(name, frame.f_locals.get(name)) for name in NAMES)), None)
        if MANAGER in frame.f_code.co_varnames:
            manager = frame.f_locals.get(MANAGER)
            if manager is not None:
                return found if getattr(manager, "run_id", None) == run_id else None
    return None


def _frames(error: BaseException) -> list[FrameType]:
    frames, tb = [], error.__traceback__
    while tb is not None:
        frames.append(tb.tb_frame)
        tb = tb.tb_next
    return frames


def _answer(name: str, value: Any) -> Answer | None:
    """Read an answer object of the SDK; one without words or calls is none."""
    held = fields(value)
    if items(held.get("choices")):
        found = openai_chat.answer(value)
        found.partial = name == SNAPSHOT and not fields(held["choices"][0]).get("finish_reason")
    elif items(held.get("output")):
        found = openai_responses.answer(value)
    else:
        return None
    return found if found.said else None
