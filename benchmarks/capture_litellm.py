"""Shapes of talking to a model with litellm, of which only the frame is left.

The methods that a call passes, in the order in which litellm calls them, answer with fresh copies of ready objects. All
else that litellm does for a call takes milliseconds, in which what capture adds could not be measured.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it is fetched at import

import litellm
import litellm.utils
from litellm.caching.caching_handler import LLMCachingHandler
from litellm.litellm_core_utils.litellm_logging import Logging
from litellm.litellm_core_utils.streaming_handler import CustomStreamWrapper

from benchmarks.capture_openai import CHUNKS, STEP, SYSTEM, TOOLS
from benchmarks.interleaved import Scope, Shape, long_history

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = "hosted_vllm/llama"
USAGE = {"prompt_tokens": 20, "completion_tokens": 7, "total_tokens": 27}


def _made(finish: str, **message: Any) -> Any:
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", **message}}
    return litellm.ModelResponse(id="chatcmpl-1", created=1, model=MODEL, choices=[choice], usage=USAGE)


def _chunk(finish: str | None = None, **delta: Any) -> Any:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return litellm.types.utils.ModelResponseStream(id="chatcmpl-1", created=1, model=MODEL, choices=choices)


CALL = {"id": "call_1", "type": "function", "function": {"name": "tool_1", "arguments": '{"id": 1}'}}
ANSWER = _made("stop", content="It arrives on Thursday.")
TOOL_CALL = _made("tool_calls", content=None, tool_calls=[CALL])
PIECES = [*[_chunk(content="word ", role="assistant")] * (CHUNKS - 1), _chunk("stop")]


def _nothing(*_args: Any, **_more: Any) -> None:
    """Stand for what litellm does in a method that is patched."""


def _init(stream: Any, log: Any) -> None:
    stream.logging_obj, stream.custom_llm_provider, stream.chunks = log, "hosted_vllm", []
    stream.pieces = iter(PIECES)


def _next(stream: Any) -> Any:
    piece = next(stream.pieces)
    stream.chunks.append(piece)
    return piece.model_copy()


stubbed: Any = Logging
stubbed.pre_call = _nothing
caching: Any = LLMCachingHandler
caching.sync_get_cache = caching.sync_set_cache = _nothing
utils: Any = litellm.utils
utils.post_call_processing = _nothing
wrapper: Any = CustomStreamWrapper
wrapper.__init__, wrapper.__next__ = _init, _next
handler: Any = object.__new__(LLMCachingHandler)


def _begun(messages: list[Any], *, stream: bool = False, **settings: Any) -> Any:
    """Pass the methods of a call up to the sending of its request; return its `Logging` object."""
    log: Any = object.__new__(Logging)
    log.call_type, log.messages, log.stream = "completion", messages, stream
    log.model_call_details = {
        "model": MODEL,
        "messages": messages,
        "optional_params": settings,
        "litellm_params": {"metadata": {}},
        "custom_llm_provider": "hosted_vllm",
    }
    handler.sync_get_cache(model=MODEL, logging_obj=log, call_type="completion", kwargs={})
    log.pre_call(input=messages, api_key="k", additional_args={"api_base": "http://127.0.0.1:9"})
    return log


def _ask(messages: list[Any], **settings: Any) -> Any:
    log = _begun(messages, **settings)
    result = (TOOL_CALL if str(messages[-1]["content"])[:4] == STEP else ANSWER).model_copy()
    given = {"litellm_logging_obj": log, "messages": messages}
    utils.post_call_processing(original_response=result, model=MODEL, optional_params=given)
    handler.sync_set_cache(result=result, args=(), kwargs=given)
    return result.choices[0].message


def short(scope: Scope) -> None:
    """Ask the same question 20 times, each without a history."""
    with scope():
        for _ in range(20):
            _ask([SYSTEM, {"role": "user", "content": "Where is my order?"}])


def small(scope: Scope) -> None:
    """Run a chat of 20 short turns; the history grows from two messages to 40."""
    history: list[Any] = [SYSTEM]
    with scope():
        for turn in range(20):
            history.append({"role": "user", "content": f"Question {turn}?"})
            history.append({"role": "assistant", "content": _ask(list(history)).content})


def large(scope: Scope) -> None:
    """Run ten turns after a history of 60 messages of 500 characters, with 20 declared tools."""
    history = long_history()
    with scope():
        for turn in range(10):
            history.append({"role": "user", "content": f"Question {turn}?"})
            history.append({"role": "assistant", "content": _ask(list(history), tools=TOOLS).content})


def streamed(scope: Scope) -> None:
    """Stream five answers in 300 chunks each."""
    with scope():
        for turn in range(5):
            for _ in wrapper(_begun([{"role": "user", "content": f"Question {turn}?"}], stream=True)):
                pass


def agent(scope: Scope) -> None:
    """Run five steps, with litellm's own messages handed back: the model calls a tool, gets the result and answers."""
    history: list[Any] = [SYSTEM]
    with scope():
        for step in range(5):
            history.append({"role": "user", "content": f"{STEP} {step}."})
            history.append(_ask(history, tools=TOOLS))
            history.append({"role": "tool", "tool_call_id": "call_1", "content": '{"status": "done"}'})
            history.append(_ask(history, tools=TOOLS))


def _shapes() -> Iterator[Shape]:
    yield Shape("litellm: short call", short, 20)
    yield Shape("litellm: small, growing chat", small, 20)
    yield Shape("litellm: 60 messages, 20 tools", large, 10)
    yield Shape("litellm: stream of 300 chunks", streamed, 5)
    yield Shape("litellm: agent step with a tool", agent, 10)


SHAPES = tuple(_shapes())
