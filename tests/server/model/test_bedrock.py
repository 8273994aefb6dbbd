"""Bedrock's API of the stand-in, by the real client of boto3."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import boto3
import botocore.config
import pytest

from tests.patience import LONG

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converra.server.run import LocalServer

LOOK_UP: dict[str, Any] = {
    "toolSpec": {
        "name": "look_up_order",
        "description": "Where an order is.",
        "inputSchema": {"json": {"type": "object", "properties": {"order_id": {"type": "string"}}}},
    }
}


@pytest.fixture
def client(server: LocalServer) -> Iterator[Any]:
    config = botocore.config.Config(retries={"total_max_attempts": 1}, read_timeout=LONG)
    keys = {"region_name": "us-east-1", "aws_access_key_id": "k", "aws_secret_access_key": "s"}
    made = boto3.client("bedrock-runtime", endpoint_url=server.bedrock_url, config=config, **keys)
    yield made
    made.close()


def _asked(words: str) -> dict[str, Any]:
    return {"modelId": "eu.amazon.nova-pro-v1:0", "messages": [{"role": "user", "content": [{"text": words}]}]}


def test_an_answer_is_the_same_whole_and_streamed(client: Any) -> None:
    """Texts, reasoning, calls, stop reasons and counts come in one piece or in events."""
    for words, more in (
        ("Hello", {}),
        ("[[reasoning]] Hello", {}),
        ("[[refuse]]", {}),
        ("[[words:40]]", {"inferenceConfig": {"maxTokens": 5}}),
        ("Where is order 1234?", {"toolConfig": {"tools": [LOOK_UP]}}),
    ):
        whole = client.converse(**_asked(words), **more)
        stream: dict[str, Any] = {}
        said: list[Any] = []
        for event in client.converse_stream(**_asked(words), **more)["stream"]:
            for kind, fields in event.items():
                stream |= fields if kind in ("messageStop", "metadata") else {}
                said += [fields["delta"]] if kind == "contentBlockDelta" else []
        content = whole["output"]["message"]["content"]
        assert (stream["stopReason"], stream["usage"]) == (whole["stopReason"], whole["usage"])
        words_said = "".join(delta.get("text", "") for delta in said)
        assert words_said == "".join(block.get("text", "") for block in content)
        arguments = "".join(delta.get("toolUse", {}).get("input", "") for delta in said)
        assert json.loads(arguments or "{}") == next((b["toolUse"]["input"] for b in content if "toolUse" in b), {})
    assert arguments == '{"order_id": "1234"}'


def test_an_error_has_its_type(client: Any) -> None:
    """Before the answer, and inside of a stream."""
    with pytest.raises(client.exceptions.ThrottlingException):
        client.converse(**_asked("[[error:429]]"))
    with pytest.raises(client.exceptions.ValidationException, match="must start with"):
        client.converse(modelId="m", messages=[])
    events = client.converse_stream(**_asked("[[fail]] one two three"))["stream"]
    with pytest.raises(client.exceptions.ClientError, match="modelStreamErrorException"):
        list(events)
    events.close()


def test_claude_answers_in_its_own_format(client: Any) -> None:
    """InvokeModel takes a body of the Messages API, and its stream has the same events."""
    messages = [{"role": "user", "content": "Hello"}]
    body = json.dumps({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 100, "messages": messages})
    whole = json.load(client.invoke_model(modelId="anthropic.claude", body=body)["body"])
    assert whole["content"][0]["text"] == "Hello! How can I help you today?"
    stream = client.invoke_model_with_response_stream(modelId="anthropic.claude", body=body)["body"]
    events = [json.loads(event["chunk"]["bytes"]) for event in stream]
    assert (events[0]["type"], events[-1]["type"]) == ("message_start", "message_stop")
