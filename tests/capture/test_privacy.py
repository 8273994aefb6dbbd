"""Privacy at the source: a word that must not leave is nowhere, whichever way it came and wherever one looks."""

from __future__ import annotations

import contextlib
import logging
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec
import openai
import pytest

from converra.capture.privacy import WITHHELD, Privacy
from converra.capture.recorder import Recorder
from converra.config import load
from converra.process import guard
from converra.server.run import LocalServer, serve
from converra.wire.models import Message, ToolCall, Usage
from tests.patience import LONG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SECRET = "xyzzy"  # no word of any header, path or name
FIND: Any = {"type": "function", "function": {"name": "find", "description": f"Finds {SECRET}", "parameters": {}}}


def chat(client: openai.OpenAI, _: Recorder) -> None:
    """Words in every place of a chat: texts, names, addresses of images, files, alternatives."""
    parts = [
        {"type": "text", "text": f"[[reasoning:{SECRET}]][[say:{SECRET}]]"},
        {"type": "image_url", "image_url": {"url": f"https://example.com/{SECRET}.png?{SECRET}"}},
        {"type": "file", "file": {"filename": f"{SECRET}.pdf", "file_data": "data:application/pdf;base64,AAAA"}},
    ]
    history: Any = [{"role": "system", "content": SECRET}, {"role": "user", "name": SECRET, "content": parts}]
    client.chat.completions.create(model="m", messages=history, n=2)


def stream(client: openai.OpenAI, _: Recorder) -> None:
    """A stream that is read, and one that breaks."""
    for directive in (f"[[say:{SECRET}]]", f"[[say:{SECRET} {SECRET} {SECRET}]][[cut:2]]"):
        history: Any = [{"role": "user", "content": directive}]
        with contextlib.suppress(openai.APIError):
            list(client.chat.completions.create(model="m", messages=history, stream=True))


def tools(client: openai.OpenAI, _: Recorder) -> None:
    """Arguments, results, and the descriptions of declared tools."""
    history: Any = [{"role": "user", "content": f'[[tool:find {{"q": "{SECRET}"}}]]'}]
    asked = client.chat.completions.create(model="m", messages=history, tools=[FIND]).choices[0].message
    assert asked.tool_calls
    history += [asked, {"role": "tool", "tool_call_id": asked.tool_calls[0].id, "content": SECRET}]
    client.chat.completions.create(model="m", messages=history, tools=[FIND])


def failure(client: openai.OpenAI, _: Recorder) -> None:
    """The question of a call that fails, and the words of the error."""
    history: Any = [{"role": "user", "content": f"[[error:400 {SECRET}]]"}]
    with contextlib.suppress(openai.APIError):
        client.chat.completions.create(model="m", messages=history)


def responses(client: openai.OpenAI, _: Recorder) -> None:
    """Instructions, input, reasoning and output of the Responses API."""
    client.responses.create(model="m", instructions=SECRET, input=f"[[reasoning:{SECRET}]][[say:{SECRET}]]")


def by_hand(_: openai.OpenAI, recorder: Recorder) -> None:
    """Messages of the app's own, with tool calls in any shape, and an exception that leaves the block."""
    calls: list[Any] = [
        ToolCall(id="1", name="find", arguments={"q": SECRET}),
        {"id": "2", "name": "find", "arguments": {"q": SECRET}, "result": SECRET},
        MappingProxyType({"id": "3", "type": "function", "function": {"name": "find", "arguments": SECRET}}),
    ]
    with contextlib.suppress(ValueError), recorder.conversation("prompt") as conversation:
        conversation.add_message("user", f"a {SECRET}", metadata={"note": SECRET, "error": f"about {SECRET}"})
        conversation.add_message("assistant", {"of": [SECRET]}, tool_calls=calls)
        raise ValueError(SECRET)


def langchain(client: openai.OpenAI, _: Recorder) -> None:
    """What LangChain's handler records."""
    from langchain_openai import ChatOpenAI
    from pydantic import SecretStr

    model = ChatOpenAI(model="m", base_url=str(client.base_url), api_key=SecretStr("none"), max_retries=0)
    model.bind_tools([FIND]).invoke([("system", SECRET), ("user", f'[[tool:find {{"q": "{SECRET}"}}]]')])
    model.invoke([("user", f"[[say:{SECRET}]]")])


def without(message: dict[str, Any]) -> dict[str, Any]:
    """Redaction that works."""
    return msgspec.json.decode(msgspec.json.encode(message).replace(SECRET.encode(), b"***"))  # type: ignore[no-any-return]


def broken(message: dict[str, Any]) -> dict[str, Any]:
    """Redaction that fails, and whose error quotes what it saw."""
    raise ValueError(message)


def nonsense(message: dict[str, Any]) -> Any:
    """Redaction that gives no message."""
    return message["content"]


PATHS = (chat, stream, tools, failure, responses, by_hand, langchain)
SETTINGS: dict[str, dict[str, Any]] = {
    "redact": {"redact": without},
    "redact raises": {"redact": broken},
    "redact gives nonsense": {"redact": nonsense},
    "no content": {"capture_content": False},
}


@pytest.fixture
def server() -> Iterator[LocalServer]:
    """An API that refuses and fails at first: what is logged of that is looked at too."""
    guard.reset_log_limits()
    with serve() as running:
        running.faults.add("create", "status", status=503)
        running.faults.add("append", "status", status=400)
        yield running


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.__name__)
def test_a_secret_word_is_nowhere(
    server: LocalServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    path: Callable[[openai.OpenAI, Recorder], None],
    settings: dict[str, Any],
) -> None:
    """Whatever records it: not on the disk, not on the wire, not on the console, not in a log at DEBUG."""
    caplog.set_level(logging.DEBUG)
    outbox = str(tmp_path / "outbox.db")
    made = load(
        {"api_key": "k", "base_url": server.base_url, "prompt_id": "prompt", "flush_interval": 60, **settings}
        | {"outbox": outbox, "console": True},
        {},
    )
    recorder = Recorder(made)
    recorder.instrument()
    with openai.OpenAI(api_key="none", base_url=server.openai_url, max_retries=0) as client:
        path(client, recorder)
    on_disk = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    recorder.uninstrument()
    assert recorder.shutdown(LONG)
    assert recorder.stats().captured > 0
    assert recorder.stats().dropped == recorder.stats().rejected == 0
    on_disk += b"".join(file.read_bytes() for file in tmp_path.iterdir())
    on_wire = [request for request in server.requests if request.path.startswith("/api")]
    assert [r for r in on_wire if SECRET in r.path or SECRET.encode() in r.body] == []
    assert SECRET.encode() not in on_disk
    assert SECRET not in capsys.readouterr().err
    own = [r for r in caplog.records if not r.name.startswith("openai")]  # whose own log has the request
    assert [r.getMessage() for r in own if SECRET in r.getMessage() or SECRET in str(r.exc_info)] == []


MESSAGE = Message(
    role="assistant",
    content="It is 42.",
    model="m-1",
    tokens=3,
    usage=Usage(1, 3),
    latency_ms=1.5,
    tool_calls=[ToolCall(id="c1", name="find", arguments={"q": "42"})],
    metadata={"messageId": "a-1", "thread": 1, "note": "words", "error": {"type": "E", "status": 500, "text": "a b"}},
)


def test_without_content_the_structure_stays() -> None:
    """Roles, models, usage, latency, names of tools and what names the message are kept, and nothing else."""
    assert Privacy(capture_content=False)(MESSAGE) == msgspec.structs.replace(
        MESSAGE,
        content=WITHHELD,
        tool_calls=[ToolCall(id="c1", name="find")],
        metadata={"messageId": "a-1", "thread": 1, "error": {"type": "E", "status": 500}},
    )


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        pytest.param({"content": "a\ud800"}, {"content": "a�"}, id="a lone surrogate"),
        pytest.param({"content": ""}, {"content": WITHHELD}, id="nothing"),
        pytest.param({"metadata": None}, {"metadata": {"messageId": "a-1"}}, id="no metadata"),
        pytest.param({"metadata": {"messageId": "b"}}, {"metadata": {"messageId": "a-1"}}, id="another id"),
        pytest.param(
            {"metadata": {"at": float("nan"), "by": Privacy}},
            {"metadata": {"messageId": "a-1", "at": "nan", "by": "<builtins.type>"}},
            id="values that JSON does not have",
        ),
        pytest.param({"toolCalls": []}, {"tool_calls": None}, id="no calls"),
        pytest.param(
            {"toolCalls": [{"name": "find", "own": 1}]},
            {"tool_calls": [{"name": "find", "own": 1}]},
            id="fields of their own",
        ),
        pytest.param({"unknown": 1}, {}, id="a field that no message has"),
    ],
)
def test_what_redaction_gives_is_sent(given: dict[str, Any], kept: dict[str, Any]) -> None:
    """Odd values are made safe and cost no message; the id stays, by which delivery knows what has arrived."""
    privacy = Privacy(redact=lambda message: {**message, "toolCalls": None, **given})
    expected = msgspec.structs.replace(MESSAGE, tool_calls=None)
    sent = privacy(MESSAGE)
    assert sent == msgspec.structs.replace(expected, **kept)


def test_redaction_cannot_spoil_what_it_fails_on() -> None:
    """A message that was changed before the exception goes without its words all the same."""

    def half(message: dict[str, Any]) -> dict[str, Any]:
        message["metadata"]["leak"] = message["content"]
        message["role"] = "boss"
        raise KeyError

    assert Privacy(redact=half)(MESSAGE) == Privacy(capture_content=False)(MESSAGE)


def test_a_redacted_conversation_still_arrives_once(server: LocalServer) -> None:
    """Redaction that keeps role and content alone leaves delivery what it needs after a lost answer."""
    server.faults.clear()
    server.faults.add("append", "reset", when="after")

    def bare(message: dict[str, Any]) -> dict[str, Any]:
        return {"role": message["role"], "content": message["content"]}

    recorder = Recorder(load({"api_key": "k", "base_url": server.base_url, "redact": bare, "flush_interval": 60}, {}))
    with recorder.conversation("prompt") as conversation:
        for n in range(4):
            conversation.add_message(("user", "assistant")[n % 2], f"{n}", model="m", latency_ms=1)
            assert recorder.flush(LONG)
    assert recorder.shutdown(LONG)
    (stored,), _ = server.store.conversations()
    assert [m["content"] for m in server.store.messages(stored)] == ["0", "1", "2", "3", "Conversation ended."]
