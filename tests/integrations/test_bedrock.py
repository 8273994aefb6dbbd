"""From the clients of AWS to the stored conversation: resent history, media, errors, formats of models, LangChain."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import logging
from typing import TYPE_CHECKING, Any
from unittest import mock

import boto3
import pytest
from botocore.response import StreamingBody
from botocore.stub import Stubber

from converra.integrations import bedrock, patching
from converra.integrations.bedrock.converse import CONVERSE, model_name
from converra.process import guard
from tests.integrations import scripted
from tests.integrations.bedrock_scripts import (
    PICTURE,
    SCRIPTS,
    TEXT,
    TOOLS,
    call,
    document,
    reasoning,
    result,
    stream,
    text,
)
from tests.integrations.bedrock_shapes import CLAUDE_BODY, LOOP, MEDIA, TOOL, async_client_for, client_for, user
from tests.integrations.recording import RecordingCapture
from tests.integrations.stored import stored

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converra.capture.recorder import Recorder
    from converra.server.run import LocalServer
    from tests.integrations.scripted import ScriptedModel


def _agent(request: scripted.Received) -> scripted.Reply:
    """Calls a tool, then answers."""
    last = request.json["messages"][-1]["content"]
    found = TOOLS if last[0].get("text") == "Weather in Oslo?" else TEXT
    return stream(found) if request.line.split()[1].endswith("stream") else document(found)


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedModel]:
    with scripted.serve({"agent": _agent, **SCRIPTS}) as running:
        yield running


@pytest.fixture
def capture() -> Iterator[RecordingCapture]:
    """The bedrock integration, on, with nothing of ours failing inside the guard."""
    recording, before = RecordingCapture(), guard.caught()
    patching.switch_on(bedrock.INTEGRATION, recording)
    yield recording
    patching.switch_off(bedrock.INTEGRATION)
    assert guard.caught() == before, "converra failed inside its guard"


def _converse(client: Any, history: list[Any]) -> Any:
    found = client.converse(modelId="m", messages=history, system=[text("Be brief.")], toolConfig={"tools": [TOOL]})
    return found["output"]["message"]


def _converse_stream(client: Any, history: list[Any]) -> Any:
    """Put the events together as an app does that follows AWS's examples."""
    blocks: dict[int, Any] = {}
    tools = {"tools": [TOOL]}
    found = client.converse_stream(modelId="m", messages=history, system=[text("Be brief.")], toolConfig=tools)
    for event in found["stream"]:
        for each in (event.get("contentBlockStart"), event.get("contentBlockDelta")):
            if each is not None:
                (kind, value), *_ = (each.get("start") or each["delta"]).items()
                block = blocks.setdefault(each["contentBlockIndex"], {kind: "" if kind == "text" else {"input": ""}})
                if kind == "text":
                    block[kind] += value
                else:
                    block[kind] |= {**value, "input": block[kind]["input"] + value.get("input", "")}
    for block in blocks.values():
        if "toolUse" in block:
            block["toolUse"]["input"] = json.loads(block["toolUse"]["input"])
    return {"role": "assistant", "content": list(blocks.values())}


@pytest.mark.parametrize("ask", [_converse, _converse_stream])
def test_an_agents_loop(server: LocalServer, recorder: Recorder, model: ScriptedModel, ask: Any) -> None:
    """Calls, results and answers are recorded once, while the history is resent with a cache point that moves."""
    client = boto3.client("bedrock-runtime", **_options(model, "agent"))

    def talk() -> None:
        history: list[Any] = [user("Weather in Oslo?")]
        for _ in range(3):
            last = {**history[-1], "content": [*history[-1]["content"], {"cachePoint": {"type": "default"}}]}
            found = ask(client, [*history[:-1], last])
            history.append({"role": "assistant", "content": [reasoning("Hm."), *found["content"]]})
            calls = [block["toolUse"]["toolUseId"] for block in found["content"] if "toolUse" in block]
            results = [result(each, {"json": {"degrees": 7}}) for each in calls]
            history.append({"role": "user", "content": results} if results else user("Thanks"))

    found = stored(server, recorder, talk)
    client.close()
    assert [(one["role"], one["content"], one.get("toolCalls")) for one in found] == [
        ("system", "Be brief.", None),
        ("user", "Weather in Oslo?", None),
        (
            "assistant",
            "Let me look.",
            [
                {"id": "tooluse_1", "name": "get_weather", "arguments": {"city": "Oslo"}},
                {"id": "tooluse_2", "name": "get_time", "arguments": {}},
            ],
        ),
        ("tool", '{"degrees":7}', [{"id": "tooluse_1", "name": "get_weather"}]),
        ("tool", '{"degrees":7}', [{"id": "tooluse_2", "name": "get_time"}]),
        ("assistant", "Good day.", None),
        ("user", "Thanks", None),
        ("assistant", "Good day.", None),
    ]
    assert found[-1]["usage"] == {"promptTokens": 10, "completionTokens": 9}
    assert (found[-1]["model"], found[-1]["metadata"]) == ("m", {"modelRequested": True})


def _options(model: ScriptedModel, script: str) -> dict[str, Any]:
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    return {"region_name": "us-east-1", "endpoint_url": model.base_url(script), **keys}


def test_media_reasoning_and_failures(server: LocalServer, recorder: Recorder, model: ScriptedModel) -> None:
    """Bytes are recorded by size and digest; a failed call and an event that is an error say what failed."""
    client = client_for(model)

    def talk() -> None:
        client.converse(modelId="rich", messages=MEDIA)
        for failing in ("throttled", "invalid"):
            with pytest.raises(client.exceptions.ClientError):
                client.converse(modelId=failing, messages=[user(f"To {failing}")])
        for failing in ("stream-failed", "stream-error"):
            events = client.converse_stream(modelId=failing, messages=[user(f"To {failing}")])["stream"]
            with contextlib.closing(events), pytest.raises(client.exceptions.ClientError):
                list(events)

    found = stored(server, recorder, talk)
    client.close()
    picture = {
        "kind": "image",
        "mime": "image/png",
        "bytes": len(PICTURE),
        "sha256": hashlib.sha256(PICTURE).hexdigest(),
    }
    bill = {"kind": "document", "mime": "application/pdf", "url": "s3://tents/bill.pdf", "name": "bill"}
    assert [(one["role"], one["content"]) for one in found] == [
        ("user", "[image: image/png, 264 bytes]\n[document: bill, application/pdf]\nWhat is this?"),
        ("assistant", "It is 2. The tent is green.\n[image: image/png, 264 bytes]"),
        ("user", "To throttled"),
        ("user", "To invalid"),
        ("user", "To stream-failed"),
        ("user", "To stream-error"),
        ("assistant", "Good "),
    ]
    assert found[0]["metadata"]["attachments"] == [picture, bill]
    answered = found[1]["metadata"]
    assert (answered["attachments"], answered["reasoning"], answered["redactedThinking"]) == (
        [picture],
        "The user greets.",
        1,
    )
    assert found[1]["usage"] == {"promptTokens": 310, "completionTokens": 9}
    assert answered["usageDetails"] == {"cachedTokens": 100, "cacheWriteTokens": 200}
    assert [one.get("metadata", {}).get("error") for one in found[2:]] == [
        {"type": "ThrottlingException", "status": 429},
        {"type": "ValidationException", "status": 400},
        {"type": "throttlingException"},
        None,
        {"type": "throttlingException"},
    ]
    assert found[-1]["metadata"]["partial"] is True


def test_retries_prefills_and_prompts(capture: RecordingCapture, model: ScriptedModel) -> None:
    """A call that botocore repeats is one; an answer continues its prefill; a managed prompt is named."""
    client = client_for(model, retries={"mode": "standard", "total_max_attempts": 2})
    with mock.patch("time.sleep"):
        client.converse(modelId="retried", messages=[user("Hi")])
    ends = [user("Hi"), {"role": "assistant", "content": [text("A very ")]}]
    client.converse(modelId="text", messages=ends)
    list(client.converse_stream(modelId="stream", messages=ends)["stream"])
    arn = "arn:aws:bedrock:us-east-1:123456789012:prompt/text:1"
    client.converse(modelId=arn, promptVariables={"city": {"text": "Oslo"}}, messages=[user("Hi")])
    client.close()
    assert [call.ends for call in capture.calls] == [1] * 4
    answers = [call.facts()["answer"]["messages"][0]["text"] for call in capture.calls]
    assert answers == ["Good day.", "A very Good day.", "A very Good day.", "Good day."]
    assert [[one.text for one in call.asked] for call in capture.calls[1:]] == [
        ["Hi"],
        ["Hi"],
        ["[prompt: text:1]\ncity: Oslo", "Hi"],
    ]


def test_formats_of_models(capture: RecordingCapture, model: ScriptedModel, caplog: pytest.LogCaptureFixture) -> None:
    """InvokeModel is read by the format of its body; one that is not read is logged, once."""
    client = client_for(model)
    nova = {"schemaVersion": "messages-v1", "messages": [user("Hi")], "system": [text("Be brief.")]}
    chat = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]}
    bodies: list[tuple[str, Any]] = [
        ("claude", json.dumps(CLAUDE_BODY)),
        ("claude", bytearray(json.dumps(CLAUDE_BODY), "utf-8")),
        ("claude", io.BytesIO(json.dumps(CLAUDE_BODY).encode())),
        ("nova", json.dumps(nova)),
        ("chat", json.dumps(chat)),
    ]
    for name, body in bodies:
        assert json.load(client.invoke_model(modelId=name, body=body)["body"])
    list(client.invoke_model_with_response_stream(modelId="nova-stream", body=json.dumps(nova))["body"])
    assert [call.ends for call in capture.calls] == [1] * 6
    for recorded in capture.calls:
        facts = recorded.facts()
        answer = facts["answer"]
        assert [source.text for source in recorded.asked][-1] == "Hi"
        assert answer["messages"][0]["text"] == "Good day."
        assert answer["usage"] == {"prompt_tokens": 10, "completion_tokens": 9}
    bedrock.invocations.noticed = False
    with caplog.at_level(logging.WARNING, "converra"):
        for _ in range(2):
            client.invoke_model(modelId="llama", body=json.dumps({"prompt": "Hi", "max_gen_len": 9}))["body"].read()
        client.invoke_model(modelId="text", body=json.dumps({"inputText": "Hi"}))["body"].read()  # an embedding
    client.close()
    assert [record.message.partition(" is not")[0] for record in caplog.records] == [
        "converra: a call of InvokeModel (model llama)"
    ]
    assert len(capture.calls) == 6


def test_calls_of_other_services_are_left_alone(capture: RecordingCapture) -> None:
    """They get the very same answer, and nothing of them is read."""
    keys = {"region_name": "us-east-1", "aws_access_key_id": "k", "aws_secret_access_key": "s"}
    storage, models = boto3.client("s3", **keys), boto3.client("bedrock-runtime", **keys)
    answered = {"Account": "1", "UserId": "u", "Arn": "arn:aws:iam::1:user/u"}
    caller = boto3.client("sts", **keys)
    with Stubber(caller) as stub, Stubber(storage) as stored_stub:
        stub.add_response("get_caller_identity", answered)
        assert caller.get_caller_identity() == answered
        stored_stub.add_response("get_object", {"Body": StreamingBody(io.BytesIO(b"{}"), 2)}, None)
        assert storage.get_object(Bucket="tents", Key="a")["Body"].read() == b"{}"
    assert capture.calls == []
    whole = json.dumps({"content": [{"type": "text", "text": "Good day."}]}).encode()
    with Stubber(models) as stub:  # a stub's body is in memory
        body = StreamingBody(io.BytesIO(whole), len(whole))
        stub.add_response("invoke_model", {"body": body, "contentType": "application/json"})
        assert models.invoke_model(modelId="m", body=json.dumps(CLAUDE_BODY))["body"].read() == whole
    for client in (storage, models, caller):
        client.close()
    assert capture.only().facts()["answer"]["messages"] == [{"role": "assistant", "text": "Good day."}]


def test_names_of_models_and_fingerprints() -> None:
    """Of an ARN, account and region are left out; what apps drop or move changes no fingerprint."""
    arn = "arn:aws:bedrock:us-east-1:123456789012:"
    names = {
        "anthropic.claude-sonnet-4-5-20250929-v1:0": "anthropic.claude-sonnet-4-5-20250929-v1:0",
        "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-pro-v1:0": "amazon.nova-pro-v1:0",
        f"{arn}inference-profile/eu.amazon.nova-pro-v1:0": "eu.amazon.nova-pro-v1:0",
        f"{arn}application-inference-profile/abc": "application-inference-profile/abc",
        f"{arn}prompt/ABC:1": "prompt/ABC:1",
        f"{arn}default-prompt-router/anthropic.claude:1": "anthropic.claude:1",
    }
    assert {given: model_name(given) for given in names} == names
    said = {"role": "assistant", "content": [reasoning("Hm."), text("Yes."), call(city="Oslo")]}
    bare = {"role": "assistant", "content": [text("Yes."), call(city="Oslo"), {"cachePoint": {"type": "default"}}]}
    assert CONVERSE.fingerprint([said]) == CONVERSE.fingerprint([bare])
    assert len(set(CONVERSE.fingerprint([*LOOP, *MEDIA, said, {"role": "user"}, None, {}]))) == 7
    (source,) = CONVERSE.read(bare)
    assert CONVERSE.echo is not None
    assert CONVERSE.fingerprint([CONVERSE.echo(source)]) == CONVERSE.fingerprint([bare])


def _langchain(model: ScriptedModel, name: str, reply: str) -> Any:
    integration = pytest.importorskip("langchain_aws")
    client = client_for(model)
    options = {"provider": "anthropic", "client": client, "bedrock_client": client, "disable_streaming": False}
    return getattr(integration, name)(model=reply, **options)


@pytest.mark.parametrize("name", ["ChatBedrockConverse", "ChatBedrock"])
def test_langchain_on_top_is_recorded_once(
    server: LocalServer, recorder: Recorder, model: ScriptedModel, name: str
) -> None:
    """The client below a recorded run is not recorded a second time, in whichever way the run is made."""
    replies = ("text", "stream") if name == "ChatBedrockConverse" else ("claude", "claude-stream")

    def talk() -> None:
        whole, streamed = (_langchain(model, name, reply) for reply in replies)
        whole.invoke("Hi")
        list(streamed.stream("And then?"))
        asyncio.run(whole.ainvoke("Well?"))
        for each in (whole, streamed):
            each.client.close()

    found = stored(server, recorder, talk)
    assert [(one["role"], one["content"]) for one in found] == [
        ("user", "Hi"),
        ("assistant", "Good day."),
        ("user", "And then?"),
        ("assistant", "Good day."),
        ("user", "Well?"),
        ("assistant", "Good day."),
    ]
    assert found[1]["usage"] == {"promptTokens": 10, "completionTokens": 9}


def test_the_async_client_in_a_conversation(server: LocalServer, recorder: Recorder, model: ScriptedModel) -> None:
    """Tasks of one conversation are recorded in it, and each of them once."""

    async def main() -> None:
        async with async_client_for(model) as client:

            async def ask(words: str) -> None:
                found = await client.converse_stream(modelId="stream", messages=[user(words)])
                assert [event async for event in found["stream"]]

            await asyncio.gather(ask("One"), ask("Two"))

    found = stored(server, recorder, lambda: asyncio.run(main()))
    assert sorted(one["content"] for one in found) == ["Good day.", "Good day.", "One", "Two"]
