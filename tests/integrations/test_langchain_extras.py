"""Pictures, sources, counts by other names and unknown fields of an answer, through LangChain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, LLMResult

import converra
from converra.integrations.langchain import result
from tests.integrations import scripted
from tests.integrations.chat_scripts import chunk, completion, usage
from tests.integrations.langchain_app import App, running
from tests.integrations.pictures import (
    LARGE_ATTACHED,
    LARGE_IN_TEXT,
    LARGE_LINE,
    LINE,
    PICTURE,
    URL,
    WITHHELD,
)
from tests.integrations.scripted import document, stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integrations.scripted import Reply

COUNTS = usage(21, 9, prompt_cache_hit_tokens=16, prompt_cache_miss_tokens=5)
SOURCES = ["https://example.com/1", "https://example.com/2"]


@pytest.fixture
def app() -> Iterator[App]:
    """An app in which LangChain is captured."""
    with running() as running_app:
        yield running_app


def answer(app: App, reply: Reply, **settings: Any) -> tuple[str, dict[str, Any]]:
    """Ask a model that answers so; return the text that is stored of it, and the facts."""
    with scripted.serve({"any": lambda _request: reply}) as served, converra.conversation("prompt"):
        app.model(base_url=served.base_url("any"), **settings).invoke("Hi")
    asked, (role, text, facts) = app.messages()
    assert (asked, role) == (("user", "Hi"), "assistant")
    return text, facts


def test_pictures_that_are_written_into_the_text(app: App) -> None:
    """A large data URL in an answer's text is attached, and is not stored itself."""
    text, facts = answer(app, document(completion({"content": f"Here: {LARGE_IN_TEXT}!"})))
    assert text == f"Here: {LARGE_LINE}!"
    assert facts["metadata"]["attachments"] == [LARGE_ATTACHED]


def test_counts_by_other_names(app: App) -> None:
    """Counts that LangChain passes on are read as the client's are."""
    _, facts = answer(app, document(completion({"content": "A"}, usage=COUNTS)))
    assert facts["usage"] == {"promptTokens": 21, "completionTokens": 9}
    assert facts["metadata"]["usageDetails"] == {"cachedTokens": 16}


def test_counts_of_a_stream(app: App) -> None:
    """Of a stream, LangChain keeps the counts that it knows alone, and those are stored."""
    reply = stream(chunk({"content": "A"}), chunk({}, finish="stop"), chunk(usage=COUNTS))
    _, facts = answer(app, reply, streaming=True)
    assert facts["usage"] == {"promptTokens": 21, "completionTokens": 9}


def test_fields_of_a_message() -> None:
    """Pictures, sources and unknown fields beside a message's content, and what is told of the response."""
    own = {"citations": SOURCES, "images": [PICTURE], "__internal__": "x"}
    given = AIMessage("A", additional_kwargs=own, response_metadata={"model_name": "m", "eval_duration": 7})
    found = result.answer(LLMResult(generations=[[ChatGeneration(message=given)]]))
    (source,) = found.messages
    assert source.text == f"A\n{LINE}"
    assert [attached.data for attached in source.attachments] == [URL]
    assert source.metadata == {"citations": SOURCES, "images": [WITHHELD]}
    assert found.metadata == {"eval_duration": 7}
