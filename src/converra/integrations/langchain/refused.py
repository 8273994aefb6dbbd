"""Answers that a parser raised on: the provider gave and billed them.

The client's own parser raises into the run of the model. No attribute of such an exception holds the answer, except in
two of openai's exceptions. The frames of the parsing library hold it, and reading them changes nothing.

LangChain's parsers are runs of their own: the answer is recorded by then, and found by the id of its message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.integrations.langchain.claims import MANAGER
from converra.integrations.openai import chat, responses
from converra.integrations.payload.fields import fields, items, string

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from uuid import UUID

    from converra.history.turn import Answer, Trace

LIBRARIES = frozenset({"openai", "langchain_openai"})

SNAPSHOT = "completion_snapshot"
NAMES = ("parsed", "completion", "chat_completion", SNAPSHOT, "response")
"""Local variables in which these libraries keep an answer; the snapshot is that of a stream, and may be unfinished."""

MAX_ANSWERS = 8
"""Answers of one outermost run that are remembered: a parser follows its model at once."""


def remember(trace: Trace, result: Any, reject: Callable[[BaseException], None]) -> None:
    """Remember until the outermost run is over how an answer is rejected."""
    generations = [generation for one in items(fields(result).get("generations")) for generation in items(one)]
    name = _message_id(fields(generations[0]).get("message")) if generations else None
    if name is not None:
        trace.answers[name] = reject
        while len(trace.answers) > MAX_ANSWERS:
            del trace.answers[next(iter(trace.answers))]


def note_refusal(trace: Trace, parsed: Any, error: BaseException) -> None:
    """Note at an answer that a parser has raised on its message, or what the exception says was the message.

    The error passes the runs around the parser as well, and is noted once.
    """
    name = _message_id(parsed) or _message_id(vars(error).get("ai_message"))
    reject = trace.answers.pop(name, None) if name else None
    if reject is not None:
        reject(error)


def _message_id(message: Any) -> str | None:
    return string(fields(message).get("id"))


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
        found = chat.answer(value)
        found.partial = name == SNAPSHOT and not fields(held["choices"][0]).get("finish_reason")
    elif items(held.get("output")):
        found = responses.answer(value)
    else:
        return None
    return found if found.messages else None
