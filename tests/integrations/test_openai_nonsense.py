"""Answers that no provider should give: the app gets from its client what it would get without us, and nothing raises.

Each is a whole answer of which anything may be missing, None or of another type, sent over real HTTP to a real client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from converra.integrations import patching
from converra.integrations.openai import INTEGRATION
from converra.process import guard
from tests.effort import examples
from tests.integrations import scripted
from tests.integrations.conformance import raised
from tests.integrations.openai_shapes import CHAT, RESPONSES, client_for, view
from tests.integrations.recording import RecordingCapture
from tests.integrations.responses_scripts import HELLO, TEXT_EVENTS, TOOLS
from tests.integrations.test_openai_chat import FULL_ANSWER, FULL_CHUNK, broken

if TYPE_CHECKING:
    from collections.abc import Iterator

    import openai

    from tests.integrations.scripted import Received, Reply, ScriptedModel

few = settings(
    max_examples=examples(100),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class Nonsense:
    """A model that gives the answer that it is told to give."""

    def __init__(self) -> None:
        self.reply: Reply = scripted.document({})

    def __call__(self, _request: Received) -> Reply:
        return self.reply


@pytest.fixture(scope="module")
def nonsense() -> Nonsense:
    return Nonsense()


@pytest.fixture(scope="module")
def model(nonsense: Nonsense) -> Iterator[ScriptedModel]:
    with scripted.serve({"nonsense": nonsense}) as served:
        yield served


@pytest.fixture(scope="module")
def client(model: ScriptedModel) -> Iterator[openai.OpenAI]:
    with client_for(model, "nonsense") as made:
        yield made


def ask(client: openai.OpenAI, api: str, *, stream: bool) -> Any:
    """All that the app sees of one call: its result, the chunks, the exception."""
    seen: list[Any] = []
    create: Any = client.chat.completions.create if api == "chat" else client.responses.create
    try:
        answer = create(**(CHAT if api == "chat" else RESPONSES), stream=stream)
        seen.append(type(answer))
        if not stream:
            return [*seen, view(answer)]
        with answer:  # older clients leave a broken stream open, and httpcore 1 may lock itself when that is collected
            seen += map(view, answer)
    except Exception as error:  # noqa: BLE001 - whatever the app would get is what is compared
        seen.append(raised(error))
    return seen


def check(client: openai.OpenAI, api: str, *, stream: bool) -> None:
    """The same call with and without us: seen alike, one turn, and nothing of ours has failed."""
    plain = ask(client, api, stream=stream)
    capture, before = RecordingCapture(), guard.caught()
    patching.switch_on(INTEGRATION, capture)
    try:
        captured = ask(client, api, stream=stream)
    finally:
        patching.switch_off(INTEGRATION)
    assert captured == plain
    assert guard.caught() == before
    assert capture.only().ends == 1


@few
@given(document=st.sampled_from([FULL_ANSWER]).flatmap(broken))
def test_any_completion(document: Any, client: openai.OpenAI, nonsense: Nonsense) -> None:
    """Whatever a completion holds, the app gets its object, and there is one turn."""
    nonsense.reply = scripted.document(document)
    check(client, "chat", stream=False)


@few
@given(chunks=st.lists(broken(FULL_CHUNK), max_size=3))
def test_any_stream_of_chunks(chunks: list[Any], client: openai.OpenAI, nonsense: Nonsense) -> None:
    """Whatever comes in a stream, the app gets each chunk of it, and there is one turn."""
    nonsense.reply = scripted.stream(*chunks)
    check(client, "chat", stream=True)


@few
@given(document=st.sampled_from([HELLO, TOOLS]).flatmap(broken))
def test_any_response(document: Any, client: openai.OpenAI, nonsense: Nonsense) -> None:
    """Whatever a response holds, the app gets its object, and there is one turn."""
    nonsense.reply = scripted.document(document)
    check(client, "responses", stream=False)


@few
@given(events=st.lists(st.sampled_from(TEXT_EVENTS).flatmap(broken), max_size=3))
def test_any_stream_of_events(events: list[Any], client: openai.OpenAI, nonsense: Nonsense) -> None:
    """Whatever events come, the app gets each of them, and there is one turn."""
    nonsense.reply = scripted.stream(*events, done=False)
    check(client, "responses", stream=True)


@pytest.mark.parametrize(
    "reply",
    [
        scripted.Reply((b"<html>gateway</html>",), content_type="text/html"),
        scripted.Reply(()),
        scripted.Reply((b"null",)),
        scripted.Reply((b'{"choices": ',)),
        scripted.Reply((b"data: {\n\ndata: [DONE]\n\n",), content_type="text/event-stream"),
        scripted.Reply((b"\xff\xfe",), content_type="text/plain"),
    ],
)
@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize("stream", [False, True])
def test_any_body(reply: Reply, api: str, stream: bool, client: openai.OpenAI, nonsense: Nonsense) -> None:
    """A page of a gateway, half a document, nothing at all: as without us, and recorded as a turn."""
    nonsense.reply = reply
    check(client, api, stream=stream)
