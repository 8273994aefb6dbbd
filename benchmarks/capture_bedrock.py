"""Shapes of talking to a model of Bedrock with boto3, of which only the frame is left.

The method through which all calls of AWS's clients go answers with fresh copies of ready objects. What botocore does
around that (validation, signatures, HTTP) is left out, as in `capture_openai`; it decodes the events of a stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import botocore.client
from botocore.eventstream import EventStream

from benchmarks.capture_openai import CHUNKS
from benchmarks.interleaved import Scope, Shape
from converra.server.model.bedrock import encoded

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = "eu.amazon.nova-pro-v1:0"
SYSTEM = [{"text": "You are the support assistant of a shop for tents."}]
SPEC = {"description": "A tool.", "inputSchema": {"json": {"type": "object"}}}
TOOLS = {"tools": [{"toolSpec": {"name": f"tool_{n}", **SPEC}} for n in range(20)]}
FACTS = {"RequestId": "request-1", "HTTPStatusCode": 200, "HTTPHeaders": {}}
USAGE = {"inputTokens": 20, "outputTokens": 7, "totalTokens": 27}
WORD = encoded(("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "word "}, "p": "abcdef"}))
EVENTS = [
    encoded(("messageStart", {"role": "assistant"})),
    *[WORD] * (CHUNKS - 3),
    encoded(("messageStop", {"stopReason": "end_turn"})),
    encoded(("metadata", {"usage": USAGE, "metrics": {"latencyMs": 300}})),
]


class _Raw:
    def stream(self) -> Iterator[bytes]:
        yield from EVENTS

    def close(self) -> None:
        """Nothing is open."""


class _Parser:
    def parse(self, response: dict[str, Any], _shape: Any) -> Any:
        return response


def _make_api_call(_client: Any, operation_name: str, _params: Any) -> Any:
    if operation_name == "ConverseStream":
        return {"ResponseMetadata": FACTS, "stream": EventStream(_Raw(), None, _Parser(), operation_name)}
    message = {"role": "assistant", "content": [{"text": "It arrives on Thursday."}]}
    ending = {"stopReason": "end_turn", "usage": USAGE.copy(), "metrics": {"latencyMs": 300}}
    return {"ResponseMetadata": FACTS, "output": {"message": message}, **ending}


stubbed: Any = botocore.client.BaseClient
stubbed._make_api_call = _make_api_call  # noqa: SLF001 - what is patched

keys = {"region_name": "us-east-1", "aws_access_key_id": "k", "aws_secret_access_key": "s"}
models: Any = boto3.client("bedrock-runtime", **keys)
storage: Any = boto3.client("s3", **keys)


def _said(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": [{"text": text}]}


def other(scope: Scope) -> None:
    """Ask another service of AWS 20 times."""
    with scope():
        for _ in range(20):
            storage.get_object(Bucket="tents", Key="a")


def short(scope: Scope) -> None:
    """Ask the same question 20 times, each without a history."""
    with scope():
        for _ in range(20):
            models.converse(modelId=MODEL, messages=[_said("user", "Where is my order?")], system=SYSTEM)


def small(scope: Scope) -> None:
    """Run a chat of 20 short turns; the history grows from one message to 39."""
    history: list[Any] = []
    with scope():
        for turn in range(20):
            history.append(_said("user", f"Question {turn}?"))
            answer = models.converse(modelId=MODEL, messages=list(history), system=SYSTEM)
            history.append(answer["output"]["message"])


def large(scope: Scope) -> None:
    """Run ten turns after a history of 60 messages of 500 characters, with 20 declared tools."""
    roles = ("user", "assistant")
    history: list[Any] = [_said(roles[n % 2], f"{n:03} " + "x" * 496) for n in range(60)]
    with scope():
        for turn in range(10):
            history.append(_said("user", f"Question {turn}?"))
            answer = models.converse(modelId=MODEL, messages=list(history), toolConfig=TOOLS)
            history.append(answer["output"]["message"])


def streamed(scope: Scope) -> None:
    """Stream five answers in 300 events each."""
    with scope():
        for turn in range(5):
            found = models.converse_stream(modelId=MODEL, messages=[_said("user", f"Question {turn}?")])
            for _ in found["stream"]:
                pass


SHAPES = (
    Shape("aws, another service", other, 20),
    Shape("bedrock call", short, 20),
    Shape("bedrock chat, growing", small, 20),
    Shape("bedrock, 60 messages, 20 tools", large, 10),
    Shape("bedrock stream of 300 events", streamed, 5),
)
