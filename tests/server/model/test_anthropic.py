"""The Messages API of the stand-in, read by the real `anthropic` client."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import anthropic as sdk
import httpx
import pytest

from tests.patience import LONG

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converra.server.run import LocalServer

LOOK_UP: Any = {
    "name": "look_up_order",
    "description": "Where an order is and when it arrives.",
    "input_schema": {"type": "object", "properties": {"order_id": {"type": "string"}}, "required": ["order_id"]},
}


@pytest.fixture
def client(server: LocalServer) -> Iterator[sdk.Anthropic]:
    with sdk.Anthropic(base_url=server.anthropic_url, api_key="any", max_retries=0, timeout=LONG) as client:
        yield client


def ask(client: sdk.Anthropic, *turns: Any, **more: Any) -> Any:
    messages = [turn if isinstance(turn, dict) else {"role": "user", "content": turn} for turn in turns]
    return client.messages.create(**{"model": "claude-x", "max_tokens": 100, "messages": messages, **more})


def streamed(client: sdk.Anthropic, text: str, **more: Any) -> Any:
    with client.messages.stream(
        model="claude-x", max_tokens=100, messages=[{"role": "user", "content": text}], **more
    ) as stream:
        return stream.get_final_message()


def test_an_answer_has_anthropics_shape(client: sdk.Anthropic) -> None:
    """Whole, with usage, and honest about who answers."""
    found = ask(client, "Hello", system="Be brief.").model_dump(exclude_unset=True)
    assert found == {
        "id": "msg_000001",
        "type": "message",
        "role": "assistant",
        "model": "claude-x-stand-in",
        "content": [{"type": "text", "text": "Hello! How can I help you today?", "citations": None}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 10,
            "output_tokens": 9,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
        },
    }


@pytest.mark.parametrize(
    "text",
    [
        "Hello",
        "[[say:Good day]]",
        '[[tool:get_order {"id": 7}]] [[tool:ping]]',
        "[[reasoning:Hm.]] [[say:Good day]]",
        "[[refuse:I must not.]]",
        "[[length]] [[say:one two three four]]",
        "[[say:Good day]] [[citation]]",
        "[[empty]]",
        '[[usage:{"cache_read_input_tokens": 7}]]',
        '[[item:{"type": "redacted_thinking", "data": "QUJD"}]] [[say:Good day]]',
    ],
)
def test_a_stream_brings_the_same(client: sdk.Anthropic, text: str) -> None:
    """The client puts the events together to what it would have got at once."""
    whole, put_together = ask(client, text).model_dump(), streamed(client, text).model_dump()
    numbered = [{**each, "id": None} for each in (whole, put_together)]
    for each in numbered:
        each["content"] = [
            {key: block[key] for key in block if key not in ("id", "parsed_output")} for block in each["content"]
        ]
    assert numbered[0] == numbered[1]


def test_a_tool_is_called_and_its_result_retold(client: sdk.Anthropic) -> None:
    """By the words of the message, as with OpenAI's APIs; the result comes back in a user's message."""
    asked = {"role": "user", "content": "Where is order 1234?"}
    first = ask(client, asked, tools=[LOOK_UP])
    assert first.stop_reason == "tool_use"
    (call,) = first.content
    assert (call.type, call.name, call.input) == ("tool_use", "look_up_order", {"order_id": "1234"})
    result = {
        "type": "tool_result",
        "tool_use_id": call.id,
        "content": json.dumps({"order_id": 1234, "status": "late"}),
    }
    answered = ask(
        client,
        asked,
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": [result]},
        tools=[LOOK_UP],
    )
    assert answered.content[0].text == "Order 1234 is late."
    assert ask(client, "Hello", tools=[LOOK_UP], tool_choice={"type": "any"}).stop_reason == "tool_use"
    assert ask(client, "Hi", tools=[LOOK_UP], tool_choice={"type": "tool", "name": "look_up_order"}).content[0].input
    assert ask(client, asked, tools=[LOOK_UP], tool_choice={"type": "none"}).stop_reason == "end_turn"


def test_steps_and_prefill(client: sdk.Anthropic) -> None:
    """What follows `[[then]]` is for the next call of the turn; a prefill is no answer."""
    asked = {"role": "user", "content": "[[tool:ping]] [[then]] [[say:done]]"}
    first = ask(client, asked)
    result = {"type": "tool_result", "tool_use_id": first.content[0].id, "content": "pong"}
    turns = [asked, {"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    assert ask(client, *turns).content[0].text == "done"
    prefilled = ask(client, {"role": "user", "content": "[[say:day]]"}, {"role": "assistant", "content": "Good "})
    assert prefilled.content[0].text == "day"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"max_tokens": None}, 400),
        ({"messages": []}, 400),
        ({"messages": [{"role": "tool", "content": "x"}]}, 400),
        ({"messages": [{"role": "user", "content": ""}]}, 400),
        ({"messages": [{"role": "user", "content": "[[error:529]]"}]}, 529),
        ({"messages": [{"role": "user", "content": "[[error:404]]"}]}, 404),
    ],
)
def test_errors(client: sdk.Anthropic, fields: dict[str, Any], status: int) -> None:
    """Errors are Anthropic's: shape, status and type."""
    with pytest.raises(sdk.APIStatusError) as caught:
        ask(client, "Hello", **fields)
    assert caught.value.status_code == status
    body: Any = caught.value.body
    assert body["type"] == "error"
    assert body["error"].keys() == {"type", "message"}


def test_a_wrong_path_and_no_key(server: LocalServer) -> None:
    """Both are refused in Anthropic's shape."""
    for path, status in (("/v1/parcels", 404), ("/v1/messages", 401)):
        found = httpx.post(f"{server.anthropic_url}{path}", json={})
        assert found.status_code == status
        assert found.json()["type"] == "error"


def test_an_error_in_a_stream(client: sdk.Anthropic) -> None:
    """An error event, which the client raises."""
    with pytest.raises(sdk.APIStatusError, match="asked to fail"):
        streamed(client, "[[fail:3]] [[say:one two three]]")


def test_a_stream_that_breaks(server: LocalServer) -> None:
    """The connection closes in the middle of the events."""
    question = {"role": "user", "content": "[[cut:4]] [[say:one two three]]"}
    body = {"model": "claude-x", "max_tokens": 9, "messages": [question], "stream": True}
    lines: list[str] = []

    def read() -> None:
        with httpx.stream("POST", f"{server.anthropic_url}/v1/messages", json=body, headers={"x-api-key": "k"}) as got:
            lines.extend(line for line in got.iter_lines() if line.startswith("event:"))

    with pytest.raises(httpx.RemoteProtocolError):
        read()
    assert lines == [
        *("event: message_start", "event: ping", "event: content_block_start", "event: content_block_delta"),
    ]


def test_the_async_client(server: LocalServer) -> None:
    """It gets the same."""

    async def main() -> str:
        messages: Any = [{"role": "user", "content": "[[say:Good day]]"}]
        async with (
            sdk.AsyncAnthropic(base_url=server.anthropic_url, api_key="any", max_retries=0, timeout=LONG) as client,
            client.messages.stream(model="claude-x", max_tokens=9, messages=messages) as stream,
        ):
            return await stream.get_final_text()

    assert asyncio.run(main()) == "Good day"
