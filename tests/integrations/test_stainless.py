"""A further provider on a Stainless client: a row for each client class, a seam of endpoints, and readers."""

from __future__ import annotations

import functools
import types
from typing import TYPE_CHECKING, Any

import openai
import pytest

from converra.history.turn import Answer, Dialect, Request, SourceMessage
from converra.integrations.patching import Patches, PatchPoint
from converra.integrations.payload.fields import fields, fingerprint, items, string
from converra.integrations.stainless.request import Endpoint, Seam
from tests.integrations import scripted
from tests.integrations.recording import RecordingCapture, bare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integrations.scripted import ScriptedModel

QUESTION = {"role": "user", "content": "Hello"}
ANSWER = {"id": "msg_1", "model": "m-1", "text": "Good day."}
DELTAS = ("Good ", "day.")
SCRIPTS = {
    "whole": lambda _: scripted.document(ANSWER),
    "streamed": lambda _: scripted.stream(*({"delta": delta} for delta in DELTAS)),
}


class Letter(openai.OpenAI):
    """The client of another provider: its addresses and bodies have nothing in common with OpenAI's."""


class LazyStream(openai.Stream[Any]):
    """A stream whose iterator is made when it is asked for, as in anthropic 2."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        del self._iterator

    @functools.cached_property
    def _iterator(self) -> Iterator[Any]:  # type: ignore[override]
        return self.__stream__()


def _read(message: Any) -> tuple[SourceMessage, ...]:
    own = fields(message)
    return (SourceMessage(string(own.get("role")) or "user", string(own.get("content")) or ""),)


LETTERS = Dialect("letter", fingerprint, _read)


def _request(body: dict[str, Any]) -> Request:
    return Request(LETTERS, items(body.get("messages")), model=string(body.get("model")))


def _answer(found: Any) -> Answer:
    own = fields(found)
    return Answer((SourceMessage("assistant", own["text"]),), own["model"], response_id=own["id"])


class Deltas:
    def __init__(self) -> None:
        self.started: bool = False
        self.finished: bool = True
        self._deltas: list[str] = []

    def feed(self, chunk: Any) -> None:
        self.started = True
        self._deltas.append(fields(chunk)["delta"])

    def answer(self) -> Answer:
        return Answer((SourceMessage("assistant", "".join(self._deltas)),))


SEAM = Seam({"/letters": Endpoint("letter", _request, _answer, Deltas, lists=("messages",))})
MODULE = types.ModuleType("letter")
MODULE.Letter = Letter  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedModel]:
    with scripted.serve(SCRIPTS) as running:
        yield running


@pytest.fixture
def capture() -> Iterator[RecordingCapture]:
    patches = Patches((PatchPoint("Letter", "request"),), SEAM.observe)
    recording = RecordingCapture()
    assert [row.state for row in patches.install(MODULE, recording)] == ["patched"]
    yield recording
    patches.uninstall()


def _client(model: ScriptedModel, script: str) -> Letter:
    return Letter(api_key="any", base_url=model.base_url(script), max_retries=0)


def _recorded(capture: RecordingCapture) -> list[tuple[list[Any], Any]]:
    return [(list(call.request.messages), bare(call.answer)["messages"]) for call in capture.calls]


RECORDED = [([QUESTION], [{"role": "assistant", "text": ANSWER["text"]}])]


@pytest.mark.parametrize("messages", [lambda: [QUESTION], lambda: iter([QUESTION])], ids=["list", "iterator"])
def test_a_provider_of_rows(model: ScriptedModel, capture: RecordingCapture, messages: Any) -> None:
    """A whole answer is recorded; an iterator of messages is recorded and sent in full."""
    with _client(model, "whole") as client:
        found: Any = client.post("/letters", body={"model": "m-1", "messages": messages()}, cast_to=object)
    assert fields(found)["text"] == ANSWER["text"]
    assert _recorded(capture) == RECORDED
    assert model.received[-1].json["messages"] == [QUESTION]


@pytest.mark.parametrize("stream_class", [openai.Stream[Any], LazyStream])
def test_a_stream_of_rows(model: ScriptedModel, capture: RecordingCapture, stream_class: Any) -> None:
    """A stream is tapped, also if its iterator is only made when it is asked for."""
    body = {"model": "m-1", "messages": [QUESTION], "stream": True}
    with _client(model, "streamed") as client:
        stream = client.post("/letters", body=body, cast_to=object, stream=True, stream_cls=stream_class)
        assert type(stream) is getattr(stream_class, "__origin__", stream_class)
        assert [fields(chunk)["delta"] for chunk in stream] == list(DELTAS)
    assert _recorded(capture) == RECORDED


def test_an_address_without_a_row(model: ScriptedModel, capture: RecordingCapture) -> None:
    """Requests to other endpoints pass, and so does a retrieval: this provider queues no answers."""
    with _client(model, "whole") as client:
        client.post("/parcels", body={"background": True}, cast_to=object)
        client.get("/letters/msg_1", cast_to=object)
    assert capture.calls == []
