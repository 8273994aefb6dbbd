"""The Responses API of the stand-in, read by the real `openai` client."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import openai as sdk
import pytest
from inline_snapshot import snapshot
from pydantic import BaseModel

from converra.server.model.responses import Memory
from converra.server.model.script import Turn

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

    from converra.server.run import LocalServer

LOOK_UP: Any = {
    "type": "function",
    "name": "look_up_order",
    "description": "Where an order is.",
    "parameters": {"type": "object", "properties": {"order_id": {"type": "string"}}, "required": ["order_id"]},
    "strict": False,
}


def ask(openai: OpenAI, given: Any, **fields: Any) -> Any:
    return openai.responses.create(model="gpt-4o", input=given, **fields)


def events(openai: OpenAI, text: str) -> list[Any]:
    return list(ask(openai, text, stream=True))


def test_an_answer_has_openais_shape(openai: OpenAI) -> None:
    """Whole, with usage, echoing what was asked."""
    response = ask(openai, "Hello", instructions="Be brief.", metadata={"a": "b"}).model_dump(exclude_unset=True)
    assert isinstance(response.pop("created_at"), int | float)
    assert response == snapshot(
        {
            "id": "resp_000001",
            "object": "response",
            "error": None,
            "incomplete_details": None,
            "model": "gpt-4o-stand-in",
            "output": [
                {
                    "id": "msg_000001",
                    "type": "message",
                    "role": "assistant",
                    "status": "completed",
                    "content": [
                        {
                            "type": "output_text",
                            "text": "Hello! How can I help you today?",
                            "annotations": [],
                            "logprobs": [],
                        }
                    ],
                }
            ],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "text": {"format": {"type": "text"}},
            "reasoning": {"effort": None, "summary": None},
            "metadata": {"a": "b"},
            "background": False,
            "conversation": None,
            "store": True,
            "truncation": "disabled",
            "service_tier": "default",
            "usage": {
                "input_tokens": 10,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": 9,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": 19,
            },
            "instructions": "Be brief.",
            "max_output_tokens": None,
            "previous_response_id": None,
            "temperature": None,
            "top_p": None,
            "user": None,
            "status": "completed",
        }
    )


def test_a_tool_loop_by_items(openai: OpenAI) -> None:
    """The whole history is sent again as items: the call is made once, its result retold."""
    history: list[Any] = [{"role": "developer", "content": "Help."}, {"role": "user", "content": "Where is order 7?"}]
    first = ask(openai, history, tools=[LOOK_UP])
    call = first.output[0]
    assert (call.type, call.call_id, call.arguments) == ("function_call", "call_000001", '{"order_id": "7"}')
    result = {"type": "function_call_output", "call_id": call.call_id, "output": '{"order_id": 7, "status": "lost"}'}
    second = ask(openai, [*history, call, result], tools=[LOOK_UP])
    assert second.output_text == "Order 7 is lost."


def test_a_tool_loop_by_previous_response(openai: OpenAI) -> None:
    """Only what is new is sent; the stand-in remembers the rest."""
    first = ask(openai, "[[reasoning:Two things.]] [[tool:a {}]] [[tool:b {}]] [[then]] [[say:both done]]")
    assert [item.type for item in first.output] == ["reasoning", "function_call", "function_call"]
    outputs = [
        {"type": "function_call_output", "call_id": item.call_id, "output": [{"type": "input_text", "text": "ok"}]}
        for item in first.output[1:]
    ]
    second = ask(openai, outputs, previous_response_id=first.id)
    assert (second.output_text, second.previous_response_id) == ("both done", first.id)
    with pytest.raises(sdk.BadRequestError, match="'resp_999' not found"):
        ask(openai, "hi", previous_response_id="resp_999")


def test_a_conversation_is_remembered_by_its_id(openai: OpenAI) -> None:
    """Named as a string or as an object."""
    first = ask(openai, "[[tool:a {}]] [[then]] [[say:done]]", conversation="conv_7")
    assert first.conversation.id == "conv_7"
    output = {"type": "function_call_output", "call_id": first.output[0].call_id, "output": "ok"}
    assert ask(openai, [output], conversation={"id": "conv_7"}).output_text == "done"


def test_a_stream_has_the_events_of_the_real_one(openai: OpenAI) -> None:
    """Reasoning, an opaque item, a message and two kinds of tool call: every event, numbered without a gap."""
    said = (
        "[[reasoning:Hm hm]] [[say:well then]] [[tool:f {}]] [[custom:c go]]"
        ' [[item:{"type": "web_search_call", "id": "ws_1", "status": "completed"}]] [[item:{"no": "type"}]]'
    )
    streamed = events(openai, said)
    assert [event.sequence_number for event in streamed] == list(range(len(streamed)))
    assert [event.type.removeprefix("response.") for event in streamed] == snapshot(
        [
            "created",
            "in_progress",
            "output_item.added",
            "reasoning_summary_part.added",
            "reasoning_summary_text.delta",
            "reasoning_summary_text.delta",
            "reasoning_summary_text.done",
            "reasoning_summary_part.done",
            "output_item.done",
            "output_item.added",
            "output_item.done",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "output_item.added",
            "function_call_arguments.delta",
            "function_call_arguments.done",
            "output_item.done",
            "output_item.added",
            "custom_tool_call_input.delta",
            "custom_tool_call_input.done",
            "output_item.done",
            "completed",
        ]
    )
    final = streamed[-1].response
    assert (final.status, final.output_text) == ("completed", "well then")
    added = next(event.item for event in streamed if event.type == "response.output_item.added")
    assert added.summary == []


def test_the_stream_helper_puts_it_together_again(openai: OpenAI) -> None:
    """What the SDK's accumulator makes of the events is the response."""
    with openai.responses.stream(model="m", input='[[say:well]] [[tool:f {"a": 1}]]') as stream:
        final: Any = stream.get_final_response()
    assert final.output_text == "well"
    assert final.output[1].arguments == '{"a": 1}'


def test_refusals_and_citations(openai: OpenAI) -> None:
    """As their own kind of part, whole and in pieces."""
    assert ask(openai, "[[refuse:No way.]]").output[0].content[0].refusal == "No way."
    deltas = [event.delta for event in events(openai, "[[refuse:No way.]]") if event.type == "response.refusal.delta"]
    assert deltas == ["No", " way."]
    cited = ask(openai, "[[citation]] [[say:see]]").output[0].content[0].annotations[0]
    assert (cited.type, cited.end_index) == ("url_citation", 3)


def test_answers_may_be_incomplete(openai: OpenAI) -> None:
    """Cut off by a limit or a filter, with the reason; an answer may also be empty."""
    cut = ask(openai, "[[length]] [[say:one two]]")
    filtered = ask(openai, "[[filter]] [[say:one two]]")
    limited = ask(openai, "[[say:one two]]", max_output_tokens=1)
    assert [(each.status, each.incomplete_details.reason, each.output_text) for each in (cut, filtered, limited)] == [
        ("incomplete", "max_output_tokens", "one"),
        ("incomplete", "content_filter", "one"),
        ("incomplete", "max_output_tokens", "one"),
    ]
    assert events(openai, "[[length]]")[-1].type == "response.incomplete"
    assert ask(openai, "[[empty]]").output[0].content == []
    assert ask(openai, "[[usage:none]] [[say:x]]").usage is None
    assert ask(openai, '[[usage:{"output_tokens": 5}]] [[say:x]]').usage.output_tokens == 5


def test_a_stream_may_fail(openai: OpenAI) -> None:
    """The last event says so; without a stream it is a plain error."""
    streamed = events(openai, "[[fail:3]] [[say:one two]]")
    assert [event.type for event in streamed] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.failed",
    ]
    assert (streamed[-1].sequence_number, streamed[-1].response.error.code) == (3, "server_error")
    with pytest.raises(sdk.InternalServerError):
        ask(openai, "[[fail]]")
    with pytest.raises(sdk.RateLimitError):
        ask(openai, "[[error:429]]")


def test_a_stream_may_break_off(openai: OpenAI) -> None:
    """Half-way through its events the connection is gone."""
    seen: list[str] = []
    stream = ask(openai, "[[cut:2]]", stream=True)
    with pytest.raises((sdk.APIConnectionError, httpx.RemoteProtocolError)):
        seen.extend(event.type for event in stream)
    assert seen == ["response.created", "response.in_progress"]


def test_a_background_response_comes_later(openai: OpenAI) -> None:
    """Queued at first, in progress at the first look, done at the second."""
    queued = ask(openai, "Hello", background=True)
    looks = [openai.responses.retrieve(queued.id) for _ in range(3)]
    assert (queued.status, queued.output, queued.usage) == ("queued", [], None)
    assert [(look.status, look.output_text) for look in looks] == [
        ("in_progress", ""),
        ("completed", "Hello! How can I help you today?"),
        ("completed", "Hello! How can I help you today?"),
    ]
    with pytest.raises(sdk.NotFoundError):
        openai.responses.retrieve("resp_999")


def test_structured_answers_parse(openai: OpenAI) -> None:
    """An answer to a json_schema fits the schema; plain JSON is an object."""

    class City(BaseModel):
        name: str

    assert openai.responses.parse(model="m", input="in Paris", text_format=City).output_parsed == City(name="Paris")
    assert ask(openai, "hm", text={"format": {"type": "json_object"}}).output_text == '{"answer": "hm"}'


def test_tool_choice_is_obeyed(openai: OpenAI) -> None:
    """None forbids, a name forces."""
    assert ask(openai, "my order 7", tools=[LOOK_UP], tool_choice="none").output[0].type == "message"
    forced: Any = {"type": "function", "name": "look_up_order"}
    assert ask(openai, "bye", tools=[LOOK_UP], tool_choice=forced).output[0].type == "function_call"


def test_async_clients_get_the_same(async_openai: AsyncOpenAI) -> None:
    """Whole and streamed."""

    async def both() -> tuple[str, str]:
        async with async_openai as client:
            whole = await client.responses.create(model="m", input="Hello")
            stream = await client.responses.create(model="m", input="Hello", stream=True)
            parts = [event.delta async for event in stream if event.type == "response.output_text.delta"]
        return whole.output_text, "".join(parts)

    assert asyncio.run(both()) == ("Hello! How can I help you today?",) * 2


def test_azure_is_served_too(server: LocalServer) -> None:
    """An Azure client finds responses at the server's root, also later."""
    with sdk.AzureOpenAI(azure_endpoint=server.url, api_key="any", api_version="2025-03-01-preview") as azure:
        response = ask(azure, "Hello")
        assert azure.responses.retrieve(response.id).output_text == response.output_text


def test_a_request_without_a_model_is_refused(server: LocalServer) -> None:
    """In OpenAI's shape."""
    answer = httpx.post(f"{server.openai_url}/responses", json={"input": "x"}, headers={"Authorization": "Bearer k"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")


def test_the_oldest_responses_are_forgotten() -> None:
    """The memory of a server that runs for days is bounded."""
    memory = Memory()
    for number in range(1001):
        memory.keep([Turn("user", "x")], {"id": f"resp_{number}", "output": []}, queued=True)
    assert memory.retrieve("resp_0") is None
    assert memory.turns("resp_0") is None
    assert memory.turns("resp_1") == [Turn("user", "x")]
