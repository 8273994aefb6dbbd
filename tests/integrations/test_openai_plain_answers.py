"""The short way of reading the usual answers, laid beside the long one: JSON always takes that."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from converra.integrations.openai import chat, responses
from tests.integrations.recording import settled

USAGE = {
    "prompt_tokens": 20,
    "completion_tokens": 7,
    "total_tokens": 27,
    "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "find", "arguments": '{"id": 1}'}}
CHAT: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "On Thursday."}}],
    "usage": USAGE,
}
PART: dict[str, Any] = {"type": "output_text", "text": "On Thursday.", "annotations": []}
MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "status": "completed",
    "content": [PART],
}
RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "model": "gpt-4o",
    "status": "completed",
    "output": [MESSAGE],
    "usage": {
        "input_tokens": 20,
        "output_tokens": 7,
        "total_tokens": 27,
        "input_tokens_details": {"cached_tokens": 4},
        "output_tokens_details": {"reasoning_tokens": 2},
    },
}
NOTE = {
    "type": "url_citation",
    "url_citation": {"url": "https://a.example", "title": "A", "start_index": 0, "end_index": 1},
}
TOKEN = {"token": "On", "logprob": -0.5, "bytes": None, "top_logprobs": []}

CHANGES: list[tuple[tuple[Any, ...], Any]] = [
    *(
        (("choices", 0, "message", "content"), value)
        for value in ("", None, "\ud800", 3, [{"type": "text", "text": "a"}])
    ),
    *((("choices", 0, "message", "tool_calls"), value) for value in ([], [CALL], [CALL, CALL], 3)),
    (("choices", 0, "message", "refusal"), "No."),
    (("choices", 0, "message", "annotations"), [NOTE]),
    (("choices", 0, "message", "audio"), {"id": "a", "data": "AA==", "expires_at": 1, "transcript": "Hi"}),
    (("choices", 0, "message", "function_call"), {"name": "find", "arguments": "{}"}),
    (("choices", 0, "message", "reasoning_content"), "Hm."),
    (("choices", 0, "message", "unknown"), {"a": 1}),
    (("choices", 0, "message"), None),
    (("choices", 0, "finish_reason"), "length"),
    (("choices", 0, "finish_reason"), None),
    (("choices", 0, "logprobs"), {"content": [TOKEN], "refusal": None}),
    (("choices", 0, "unknown"), 1),
    (("choices",), []),
    (("choices",), None),
    (("choices",), [CHAT["choices"][0], {**CHAT["choices"][0], "index": 1}]),
    *(((name,), value) for name in ("id", "model", "usage") for value in (None, "", 3)),
    (("usage", "prompt_tokens"), None),
    (("usage", "prompt_tokens_details"), None),
    (("error",), {"type": "overloaded"}),
]
RESPONSE_CHANGES: list[tuple[tuple[Any, ...], Any]] = [
    *((("output", 0, "content", 0, "text"), value) for value in ("", None, 3)),
    (("output", 0, "content", 0, "type"), "refusal"),
    (("output", 0, "content", 0, "annotations"), [{"type": "url_citation", "url": "https://a.example"}]),
    (("output", 0, "content", 0, "logprobs"), [TOKEN]),
    (("output", 0, "content", 0, "unknown"), 1),
    (("output", 0, "content"), [PART, PART]),
    (("output", 0, "content"), []),
    (("output", 0, "phase"), "commentary"),
    (("output", 0, "phase"), "final_answer"),
    (("output", 0, "role"), "user"),
    (("output", 0, "type"), "unknown"),
    (("output", 0, "unknown"), 1),
    (("output",), []),
    (("output",), [MESSAGE, MESSAGE]),
    (("output",), [{"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]}, MESSAGE]),
    *((("status",), value) for value in ("incomplete", "failed", "queued", "in_progress", None)),
    (("incomplete_details",), {"reason": "max_output_tokens"}),
    (("error",), {"code": "server_error", "message": "x"}),
    (("conversation",), {"id": "conv_1"}),
    *(((name,), value) for name in ("id", "model", "usage") for value in (None, "", 3)),
]


def changed(document: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """A copy in which one thing is another."""
    result: Any = copy.deepcopy(document)
    place = result
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return result  # type: ignore[no-any-return]  # as it came


@pytest.mark.parametrize(("path", "value"), CHANGES)
def test_a_chat_completion_is_read_as_its_json(path: tuple[Any, ...], value: Any) -> None:
    """Whatever is missing, odd or more than usual in it."""
    document = changed(CHAT, path, value)
    assert settled(chat.answer(ChatCompletion.construct(**document))) == chat.answer(document)


@pytest.mark.parametrize(("path", "value"), RESPONSE_CHANGES)
def test_a_response_is_read_as_its_json(path: tuple[Any, ...], value: Any) -> None:
    """Whatever is missing, odd or more than usual in it."""
    document = changed(RESPONSE, path, value)
    assert settled(responses.answer(Response.construct(**document))) == responses.answer(document)


def test_the_usual_answers_take_the_short_way() -> None:
    """Else this file would compare the long way with itself."""
    for plain, read in (
        (ChatCompletion.model_validate(CHAT), chat),
        (ChatCompletion.model_validate(changed(CHAT, ("choices", 0, "message", "tool_calls"), [CALL])), chat),
        (Response.model_construct(None, **vars(Response.construct(**RESPONSE))), responses),
    ):
        assert read.answer(plain).read is not None
