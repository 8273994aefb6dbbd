"""From the anthropic client to the stored conversation: resent history, prefills, sessions, clients of the clouds."""

from __future__ import annotations

import asyncio
import inspect
import json
from typing import TYPE_CHECKING, Any

import anthropic
import pytest

from tests.integrations import scripted
from tests.integrations.anthropic_scripts import PAUSED, PLAIN_USAGE, RESUMED, SCRIPTS, message, text
from tests.integrations.anthropic_shapes import client_for
from tests.integrations.scripted import document
from tests.integrations.stored import recorder_for, stored
from tests.patience import LONG

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converra.capture.recorder import Recorder
    from converra.server.run import LocalServer
    from tests.integrations.scripted import ScriptedModel

TOOL: Any = {
    "name": "look_up_order",
    "description": "Where an order is and when it arrives.",
    "input_schema": {"type": "object", "properties": {"order_id": {"type": "string"}}, "required": ["order_id"]},
}


def _continued(request: scripted.Received) -> scripted.Reply:
    """A turn that pauses, and its continuation once it has been resent."""
    return document(RESUMED if request.json["messages"][-1]["role"] == "assistant" else PAUSED)


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedModel]:
    more = {
        "pause": _continued,
        "prefilled": lambda request: document(message(text(" day."), usage=PLAIN_USAGE)),
        "v1": lambda _: document(message(text("Good day."), usage=PLAIN_USAGE)),
    }
    with scripted.serve(SCRIPTS | more) as running:
        yield running


@pytest.fixture
def client(server: LocalServer) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.anthropic_url, api_key="any", max_retries=0, timeout=LONG) as client:
        yield client


def _ask(client: Any, history: list[Any], **more: Any) -> Any:
    return client.messages.create(model="claude-test", max_tokens=100, messages=history, **more)


def _streamed(client: Any, history: list[Any], **more: Any) -> Any:
    with client.messages.stream(model="claude-test", max_tokens=100, messages=history, **more) as stream:
        return stream.get_final_message()


def _words(messages: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(message["role"], message["content"], message.get("toolCalls")) for message in messages]


@pytest.mark.parametrize("ask", [_ask, _streamed])
@pytest.mark.parametrize("handed_back", ["objects", "json"])
@pytest.mark.parametrize("marked", [False, True])
def test_an_agents_loop(
    server: LocalServer, recorder: Recorder, client: anthropic.Anthropic, ask: Any, handed_back: str, marked: bool
) -> None:
    """Calls, results and answers are recorded once, while the history is resent with a cache mark that moves."""

    def talk() -> None:
        history: list[Any] = [{"role": "user", "content": "Where is order 1234?"}]
        for _ in range(3):
            if marked:
                sent = [*history[:-1], _marked(history[-1])]
            found = ask(client, sent if marked else history, system="Be brief.", tools=[TOOL])
            content = found.content if handed_back == "objects" else json.loads(found.model_dump_json())["content"]
            history.append({"role": "assistant", "content": content})
            calls = [block for block in found.content if block.type == "tool_use"]
            results = [
                {"type": "tool_result", "tool_use_id": call.id, "content": '{"order_id": 1234, "status": "late"}'}
                for call in calls
            ]
            history.append({"role": "user", "content": results or "Thanks"})

    found = stored(server, recorder, talk)
    call_id = found[2]["toolCalls"][0]["id"]
    assert _words(found) == [
        ("system", "Be brief.", None),
        ("user", "Where is order 1234?", None),
        ("tool", "", [{"id": call_id, "name": "look_up_order", "arguments": {"order_id": "1234"}}]),
        ("tool", '{"order_id": 1234, "status": "late"}', [{"id": call_id, "name": "look_up_order"}]),
        ("assistant", "Order 1234 is late.", None),
        ("user", "Thanks", None),
        ("assistant", "You are welcome. Is there anything else that I can do for you?", None),
    ]
    assert all("finishReason" not in (one.get("metadata") or {}) for one in found)


def _marked(message: dict[str, Any]) -> dict[str, Any]:
    content = message["content"]
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return {**message, "content": [*blocks[:-1], {**blocks[-1], "cache_control": {"type": "ephemeral"}}]}


@pytest.mark.parametrize("resent", ["at once", "in two"])
def test_a_prefill_and_its_answer_are_one_turn(
    server: LocalServer, recorder: Recorder, model: ScriptedModel, resent: str
) -> None:
    """The next request resends it as one message; a prefill that is asked again is no new turn."""
    question, prefill = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Good"}
    whole: Any = "Good day." if resent == "at once" else [text("Good"), text(" day.")]

    def talk() -> None:
        with client_for(model, "prefilled") as client:
            _ask(client, [question, prefill])
            _ask(client, [question, {"role": "assistant", "content": whole}, {"role": "user", "content": "Bye"}])

    found = stored(server, recorder, talk)
    assert [(one["role"], one["content"]) for one in found] == [
        ("user", "Hi"),
        ("assistant", "Good day."),
        ("user", "Bye"),
        ("assistant", " day."),
    ]
    assert all("replaces" not in (one.get("metadata") or {}) for one in found)


def test_a_paused_turn(server: LocalServer, recorder: Recorder, model: ScriptedModel) -> None:
    """It is resent as it is: no new question, and the result stands beside the call of the turn before."""
    question = {"role": "user", "content": "How is the weather?"}

    def talk() -> None:
        with client_for(model, "pause") as client:
            paused = _ask(client, [question])
            assert paused.stop_reason == "pause_turn"
            resumed = _ask(client, [question, {"role": "assistant", "content": paused.content}])
            history = [question, *({"role": "assistant", "content": each.content} for each in (paused, resumed))]
            _ask(client, [*history, {"role": "user", "content": "Thanks"}])

    found = stored(server, recorder, talk)
    assert [(one["role"], one["content"]) for one in found[:5]] == [
        ("user", "How is the weather?"),
        ("assistant", "I will search."),
        ("tool", ""),
        ("tool", "Oslo https://example.com/oslo"),
        ("assistant", "It is 7 degrees."),
    ]
    assert [one["content"] for one in found if one["role"] == "user"] == ["How is the weather?", "Thanks"]
    assert found[1]["metadata"]["finishReason"] == "pause_turn"
    assert found[3]["toolCalls"] == [{"id": "srvtoolu_1", "name": "web_search"}]


@pytest.mark.skipif(not hasattr(anthropic.Anthropic, "open_telemetry"), reason="this version names no conversation")
def test_the_conversation_that_a_client_names(server: LocalServer, client: anthropic.Anthropic) -> None:
    """Calls of its copies go to that session, although the requests share no history."""
    with recorder_for(server, prompt_id="prompt_named") as recorder:
        for name in ("conv_1", "conv_2"):
            named = client.with_options(open_telemetry={"conversation_id": name})
            for words in ("Hello", "Thanks"):
                _ask(named, [{"role": "user", "content": words}])
        assert recorder.flush(timeout=LONG)
    found, _ = server.store.conversations(prompt_id="prompt_named")
    assert sorted(one.metadata["sessionId"] for one in found) == ["conv_1", "conv_2"]
    for one in found:
        questions = [each["content"] for each in server.store.messages(one) if each["role"] == "user"]
        assert questions == ["Hello", "Thanks"]


CLOUDS: dict[str, tuple[str, dict[str, Any]]] = {
    "vertex": ("AnthropicVertex", {"access_token": "t", "project_id": "p", "region": "r"}),
    "bedrock": ("AnthropicBedrock", {"api_key": "k", "aws_region": "us-east-1"}),
    "mantle": ("AnthropicBedrockMantle", {"api_key": "k", "aws_region": "us-east-1"}),
    "foundry": ("AnthropicFoundry", {"api_key": "k"}),
}


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_clients_of_the_clouds(
    server: LocalServer, recorder: Recorder, model: ScriptedModel, cloud: str, asynchronous: bool
) -> None:
    """They are no subclasses, or have an address of their own; the turn is the same."""
    name, options = CLOUDS[cloud]
    made = getattr(anthropic, f"Async{name}" if asynchronous else name, None)
    if made is None or not options.keys() <= inspect.signature(made).parameters.keys():
        pytest.skip("this version has no such client, or one that asks for AWS's own package")

    def talk() -> None:
        client = made(base_url=model.base_url("v1"), max_retries=0, **options)
        question: list[Any] = [{"role": "user", "content": "Hi"}]
        if not asynchronous:
            with client:
                _ask(client, question)
            return

        async def main() -> None:
            async with client:
                await _ask(client, question)

        asyncio.run(main())

    found = stored(server, recorder, talk)
    assert [(one["role"], one["content"]) for one in found] == [("user", "Hi"), ("assistant", "Good day.")]
    assert found[1]["usage"] == {"promptTokens": 10, "completionTokens": 9}
