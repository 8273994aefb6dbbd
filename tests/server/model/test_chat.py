"""Chat completions of the stand-in, read by the real `openai` client."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx
import openai as sdk
import pytest
from inline_snapshot import snapshot
from pydantic import BaseModel

from tests.patience import LONG

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

    from converra.server.run import LocalServer

LOOK_UP: Any = {
    "type": "function",
    "function": {
        "name": "look_up_order",
        "description": "Where an order is and when it arrives.",
        "parameters": {"type": "object", "properties": {"order_id": {"type": "string"}}, "required": ["order_id"]},
    },
}


def ask(openai: OpenAI, text: str, **fields: Any) -> Any:
    return openai.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": text}], **fields)


def streamed(openai: OpenAI, text: str, **fields: Any) -> list[dict[str, Any]]:
    return [chunk.model_dump(exclude_unset=True) for chunk in ask(openai, text, stream=True, **fields)]


def test_an_answer_has_openais_shape(openai: OpenAI) -> None:
    """Whole, with usage, and honest about who answers."""
    completion = ask(openai, "Hello").model_dump(exclude_unset=True)
    assert isinstance(completion.pop("created"), int)
    assert completion == snapshot(
        {
            "id": "chatcmpl-000001",
            "model": "gpt-4o-stand-in",
            "service_tier": "default",
            "system_fingerprint": "stand-in",
            "object": "chat.completion",
            "choices": [
                {
                    "index": 0,
                    "message": {
                        "role": "assistant",
                        "content": "Hello! How can I help you today?",
                        "refusal": None,
                        "annotations": [],
                    },
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": {
                "prompt_tokens": 4,
                "completion_tokens": 9,
                "total_tokens": 13,
                "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
                "completion_tokens_details": {
                    "reasoning_tokens": 0,
                    "audio_tokens": 0,
                    "accepted_prediction_tokens": 0,
                    "rejected_prediction_tokens": 0,
                },
            },
        }
    )


def test_a_support_chat_calls_its_tool_and_ends(openai: OpenAI) -> None:
    """The conversation of the quickstart: a tool call, its result in words, thanks."""
    history: list[Any] = [{"role": "system", "content": "You help."}, {"role": "user", "content": "Where is order 7?"}]
    first = openai.chat.completions.create(model="m", messages=history, tools=[LOOK_UP]).choices[0]
    assert first.finish_reason == "tool_calls"
    assert first.message.content is None
    call: Any = (first.message.tool_calls or [])[0]
    assert (call.id, call.function.name, call.function.arguments) == (
        "call_000001",
        "look_up_order",
        '{"order_id": "7"}',
    )
    result = {"order_id": "7", "status": "lost"}
    history += [first.message, {"role": "tool", "tool_call_id": call.id, "content": json.dumps(result)}]
    second = openai.chat.completions.create(model="m", messages=history, tools=[LOOK_UP]).choices[0].message
    history += [second, {"role": "user", "content": [{"type": "text", "text": "Thank you!"}]}]
    third = openai.chat.completions.create(model="m", messages=history, tools=[LOOK_UP]).choices[0].message
    assert [second.content, third.content] == [
        "Order 7 is lost.",
        "You are welcome. Is there anything else that I can do for you?",
    ]


def test_tool_choice_is_obeyed(openai: OpenAI) -> None:
    """None forbids a call that the words ask for; a name forces one that they do not."""
    forced = {"type": "function", "function": {"name": "look_up_order"}}
    assert ask(openai, "my order 7", tools=[LOOK_UP], tool_choice="none").choices[0].finish_reason == "stop"
    assert ask(openai, "bye", tools=[LOOK_UP], tool_choice=forced).choices[0].finish_reason == "tool_calls"


def test_a_stream_says_the_same_in_pieces(openai: OpenAI) -> None:
    """Word by word, the finish reason on an empty last delta, no usage unless asked for."""
    chunks = streamed(openai, "[[say:one two]]")
    assert [chunk["choices"][0] for chunk in chunks] == [
        {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None},
        {"index": 0, "delta": {"content": "one"}, "logprobs": None, "finish_reason": None},
        {"index": 0, "delta": {"content": " two"}, "logprobs": None, "finish_reason": None},
        {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"},
    ]
    assert not any("usage" in chunk for chunk in chunks)
    assert len({chunk["id"] for chunk in chunks}) == 1


def test_usage_comes_last_in_a_stream_where_it_was_asked_for(openai: OpenAI) -> None:
    """As OpenAI does it: null on every chunk, then one chunk without choices."""
    chunks = streamed(openai, "[[say:one]]", stream_options={"include_usage": True})
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * 3
    assert (chunks[-1]["choices"], chunks[-1]["usage"]["completion_tokens"]) == ([], 1)
    without = streamed(openai, "[[say:one]] [[usage:none]]", stream_options={"include_usage": True})
    assert [chunk.get("usage") for chunk in without] == [None] * 3


def test_choices_interleave_in_a_stream(openai: OpenAI) -> None:
    """With n=2 the chunks of both choices alternate, each with its index."""
    whole = ask(openai, "[[say:a b]]", n=2)
    assert [choice.message.content for choice in whole.choices] == ["a b", "a b (choice 2)"]
    chunks = [chunk["choices"][0] for chunk in streamed(openai, "[[say:a b]]", n=2)]
    assert [(choice["index"], choice["delta"].get("content")) for choice in chunks] == [
        (0, ""),
        (1, ""),
        (0, "a"),
        (1, "a"),
        (0, " b"),
        (1, " b"),
        (0, None),
        (1, " (choice"),
        (1, " 2)"),
        (1, None),
    ]


def test_parallel_calls_come_in_fragments(openai: OpenAI) -> None:
    """Each call opens with its id and name; the arguments follow in pieces that know no JSON."""
    text = '[[tool:first {"x": "long enough"}]] [[custom:second free text]] [[say:both]]'
    message = ask(openai, text).choices[0].message
    assert [call.type for call in message.tool_calls] == ["function", "custom"]
    assert (message.content, message.tool_calls[1].custom.input) == ("both", "free text")
    deltas = [chunk["choices"][0]["delta"] for chunk in streamed(openai, text)]
    calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
    assert [call for call in calls if "id" in call] == [
        {"index": 0, "id": "call_000003", "type": "function", "function": {"name": "first", "arguments": ""}},
        {"index": 1, "id": "call_000004", "type": "custom", "custom": {"name": "second", "input": ""}},
    ]
    shared = "".join(call["function"]["arguments"] for call in calls if "function" in call)
    assert shared == '{"x": "long enough"}'


def test_the_stream_helper_puts_it_together_again(openai: OpenAI) -> None:
    """What the SDK's own accumulator makes of the stream is what was said."""
    with openai.chat.completions.stream(
        model="m", messages=[{"role": "user", "content": '[[tool:f {"a": 1}]] [[say:ok then]] [[reasoning:Hm hm]]'}]
    ) as stream:
        message: Any = stream.get_final_completion().choices[0].message
    assert (message.content, message.reasoning_content) == ("ok then", "Hm hm")
    assert message.tool_calls[0].function.arguments == '{"a": 1}'


def test_other_shapes_can_be_asked_for(openai: OpenAI) -> None:
    """Refusal, legacy function call, audio, citations, extra fields, another model name, odd usage."""
    refused = ask(openai, "[[refuse:No.]]").choices[0].message
    assert (refused.content, refused.refusal) == (None, "No.")
    legacy = ask(openai, '[[function:f {"a": 1}]]').choices[0]
    assert (legacy.finish_reason, legacy.message.function_call.arguments) == ("function_call", '{"a": 1}')
    audio = ask(openai, "[[audio]] [[say:hi there]]").choices[0].message
    assert (audio.content, audio.audio.transcript, len(audio.audio.data)) == (None, "hi there", 2136)
    cited = ask(openai, "[[citation]] [[say:see]]").choices[0].message
    assert cited.annotations[0].url_citation.model_dump() == {
        "end_index": 3,
        "start_index": 0,
        "title": "Example",
        "url": "https://example.com/",
    }
    odd = ask(openai, '[[extra:{"weight": 7}]] [[model:other]] [[usage:{"prompt_tokens": 1000}]] [[say:x]]')
    assert (odd.choices[0].message.weight, odd.model, odd.usage.prompt_tokens) == (7, "other", 1000)
    assert ask(openai, "[[usage:none]] [[say:x]]").usage is None
    assert ask(openai, "[[usage:7]] [[say:x]]").usage.completion_tokens == 1
    assert ask(openai, "[[empty]]").choices[0].message.content == ""
    assert ask(openai, "[[say:one two three]]", max_completion_tokens=2).choices[0].finish_reason == "length"


def test_other_shapes_can_be_streamed(openai: OpenAI) -> None:
    """The same shapes in pieces, and the oddities of other providers."""

    def deltas(text: str) -> list[Any]:
        return [chunk["choices"][0]["delta"] for chunk in streamed(openai, text) if chunk["choices"]][1:-1]

    assert deltas("[[refuse:Not now.]]") == [{"refusal": "Not"}, {"refusal": " now."}]
    assert deltas('[[function:f {"a": 12345}]]') == [
        {"function_call": {"name": "f", "arguments": ""}},
        {"function_call": {"arguments": '{"a": 12'}},
        {"function_call": {"arguments": "345}"}},
    ]
    assert [list(delta["audio"]) for delta in deltas("[[audio]] [[say:hi there]]")] == [
        ["id", "transcript"],
        ["id", "transcript"],
        ["id", "data"],
        ["expires_at"],
    ]
    assert "annotations" in deltas("[[citation]] [[say:see]]")[-1]
    assert streamed(openai, "[[azure]] [[say:x]]")[0]["choices"] == []
    running = [chunk["usage"]["completion_tokens"] for chunk in streamed(openai, "[[running-usage]] [[say:a b]]")]
    assert running == [1, 2, 3, 4]


class Ticket(BaseModel):
    """What a structured answer is parsed into."""

    title: str
    number: int
    tags: list[str]
    parent: Ticket | None


def test_structured_answers_parse(openai: OpenAI) -> None:
    """An answer to a json_schema fits the schema."""
    parsed = openai.chat.completions.parse(
        model="m", messages=[{"role": "user", "content": "about Paris, 7"}], response_format=Ticket
    )
    assert parsed.choices[0].message.parsed == Ticket(
        title="Paris",
        number=7,
        tags=["Paris"],
        parent=Ticket(
            title="Paris", number=7, tags=["Paris"], parent=Ticket(title="Paris", number=7, tags=["Paris"], parent=None)
        ),
    )
    assert json.loads(ask(openai, "hm", response_format={"type": "json_object"}).choices[0].message.content) == {
        "answer": "hm"
    }
    assert ask(openai, "Hello", response_format={"type": "text"}).choices[0].message.content.startswith("Hello!")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, sdk.AuthenticationError),
        (429, sdk.RateLimitError),
        (500, sdk.InternalServerError),
        (400, sdk.BadRequestError),
    ],
)
def test_errors_can_be_asked_for(openai: OpenAI, status: int, error: type[sdk.APIStatusError]) -> None:
    """Any status, in OpenAI's error shape, for a stream too."""
    for stream in (False, True):
        with pytest.raises(error) as raised:
            ask(openai, f"[[error:{status}]]", stream=stream)
        assert raised.value.status_code == status
        assert raised.value.code == "stand_in_error"


def test_an_error_may_go_away(openai: OpenAI) -> None:
    """With xN only the first N requests with this message fail: a retry succeeds."""
    patient = openai.with_options(max_retries=2)
    assert ask(patient, "[[error:503 x1]] [[say:at last]]").choices[0].message.content == "at last"
    with pytest.raises(sdk.InternalServerError):
        ask(openai, "[[error:soon]]")


def test_a_connection_may_break(openai: OpenAI) -> None:
    """Instead of an answer, or in the middle of a stream."""
    with pytest.raises(sdk.APIConnectionError):
        ask(openai, "[[cut]]")
    seen: list[str | None] = []
    stream = ask(openai, "[[cut:3]] [[say:one two three four]]", stream=True)
    with pytest.raises((sdk.APIConnectionError, httpx.RemoteProtocolError)):
        seen.extend(chunk.choices[0].delta.content for chunk in stream)
    assert seen == ["", "one", " two"]


def test_a_stream_may_end_in_an_error_event(openai: OpenAI) -> None:
    """The error arrives inside the stream; without a stream it is a plain 500."""
    seen: list[str | None] = []
    stream = ask(openai, "[[fail]] [[say:one two]]", stream=True)
    with pytest.raises(sdk.APIError, match="asked to fail"):
        seen.extend(chunk.choices[0].delta.content for chunk in stream)
    assert seen == ["", "one"]
    with pytest.raises(sdk.InternalServerError):
        ask(openai, "[[fail]]")


def test_an_answer_may_never_come(openai: OpenAI) -> None:
    """Silence from the start, and in the middle of a stream, until the client gives up."""
    hasty = openai.with_options(timeout=sdk.Timeout(LONG, read=1.0))
    with pytest.raises(sdk.APITimeoutError):
        ask(hasty, "[[hang]]")
    seen: list[str | None] = []
    stream = ask(hasty, "[[hang:2]] [[say:one two]]", stream=True)
    with pytest.raises(sdk.APIConnectionError):
        seen.extend(chunk.choices[0].delta.content for chunk in stream)
    assert seen == ["", "one"]


def test_an_answer_may_be_slow(openai: OpenAI) -> None:
    """So that a client with less patience gives up."""
    with pytest.raises(sdk.APITimeoutError):
        ask(openai.with_options(timeout=0.05), "[[slow:0.5]]")
    assert ask(openai, "[[slow:not a number]] [[say:x]]").choices[0].message.content == "x"


def test_async_clients_get_the_same(async_openai: AsyncOpenAI) -> None:
    """Whole and streamed."""

    async def both() -> tuple[str | None, str]:
        async with async_openai as client:
            messages: Any = [{"role": "user", "content": "Hello"}]
            whole = await client.chat.completions.create(model="m", messages=messages)
            stream = await client.chat.completions.create(model="m", messages=messages, stream=True)
            parts = [chunk.choices[0].delta.content or "" async for chunk in stream]
        return whole.choices[0].message.content, "".join(parts)

    assert asyncio.run(both()) == ("Hello! How can I help you today?",) * 2


def test_azure_names_the_model_in_the_path(server: LocalServer) -> None:
    """An Azure client finds the stand-in at the server's root."""
    with sdk.AzureOpenAI(azure_endpoint=server.url, api_key="any", api_version="2024-10-21") as azure:
        assert ask(azure, "Hello").model == "gpt-4o-stand-in"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "We could not parse the JSON body of your request: Input data was truncated"),
        (b"[]", "The JSON body of a request is an object."),
        (b'{"model": "m"}', "Missing required parameter: 'messages'."),
        (b'{"model": "m", "messages": []}', "Missing required parameter: 'messages'."),
        (b'{"messages": [{"role": "user", "content": "x"}]}', "you must provide a model parameter"),
        (b'{"model": "m", "messages": ["x"]}', "Each message is an object with a role."),
    ],
)
def test_bad_requests_are_refused_in_openais_shape(server: LocalServer, body: bytes, message: str) -> None:
    """400 with a message, as the real API answers."""
    answer = httpx.post(f"{server.openai_url}/chat/completions", content=body, headers={"Authorization": "Bearer k"})
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["message"]) == (400, "invalid_request_error", message)


def test_a_missing_key_and_an_unknown_path_are_refused_in_openais_shape(server: LocalServer) -> None:
    """Also what is not served at all answers like OpenAI."""
    keyless = httpx.post(f"{server.openai_url}/chat/completions", json={})
    unknown = httpx.get(f"{server.openai_url}/models")
    assert [(answer.status_code, answer.json()["error"]) for answer in (keyless, unknown)] == [
        (
            401,
            {
                "message": "You didn't provide an API key.",
                "type": "authentication_error",
                "param": None,
                "code": "invalid_api_key",
            },
        ),
        (
            404,
            {
                "message": "Invalid URL (GET /openai/v1/models)",
                "type": "invalid_request_error",
                "param": None,
                "code": "unknown_url",
            },
        ),
    ]
