"""The model of a recorded conversation: it answers a real client as it did, in order, and no more than that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import openai
import pytest

from converra.testing import RecordedModel

if TYPE_CHECKING:
    from collections.abc import Iterator

MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Where is my order 7?"},
    {
        "role": "tool",
        "content": "",
        "toolCalls": [{"id": "c1", "name": "look_up", "arguments": {"order": 7}}, {"name": "wave", "arguments": "{o"}],
        "model": "gpt-4o",
    },
    {"role": "tool", "content": "sent", "toolCalls": [{"id": "c1", "name": "look_up"}]},
    {"role": "assistant", "content": "It is sent."},
]
ASKED: Any = [{"role": "user", "content": "?"}]


@pytest.fixture
def recorded() -> Iterator[RecordedModel]:
    with RecordedModel(MESSAGES) as model:
        yield model


@pytest.fixture
def client(recorded: RecordedModel) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=recorded.url, api_key="none", max_retries=0) as client:
        yield client


def test_it_answers_in_order(client: openai.OpenAI) -> None:
    """With the calls of tools as they were, also those whose arguments were no JSON, and then the words."""
    create = client.chat.completions.create
    first, second = (create(model="m", messages=ASKED).choices[0] for _ in range(2))
    calls: list[Any] = first.message.tool_calls or []
    assert [(call.id, call.function.name, call.function.arguments) for call in calls] == [
        ("c1", "look_up", '{"order": 7}'),
        ("call_2_1", "wave", "{o"),
    ]
    assert (first.message.content, first.finish_reason) == (None, "tool_calls")
    assert (second.message.content, second.finish_reason) == ("It is sent.", "stop")


def test_it_knows_what_it_was_asked(recorded: RecordedModel) -> None:
    """Each request is the conversation up to an answer, with ids that answers and results share."""
    calls = [
        {"index": 0, "id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"order": 7}'}},
        {"index": 1, "id": "call_2_1", "type": "function", "function": {"name": "wave", "arguments": "{o"}},
    ]
    opening = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Where is my order 7?"}]
    assert recorded.requests == [
        opening,
        [
            *opening,
            {"role": "assistant", "tool_calls": calls},
            {"role": "tool", "content": "sent", "tool_call_id": "c1"},
        ],
    ]
    assert recorded.result("c1") == {"role": "tool", "tool_call_id": "c1", "content": "sent"}


def test_a_question_without_an_answer_is_asked_too() -> None:
    """A conversation that ends with a failed call has a last request, which the model refuses."""
    assert RecordedModel(MESSAGES[:2]).requests == [MESSAGES[:2]]
    assert RecordedModel([]).requests == []


def test_a_result_without_an_id_answers_the_call_before_it() -> None:
    """Calls and results without ids are paired in their order."""
    calls = [{"name": "a", "arguments": {}}, {"name": "b", "arguments": {}}]
    results = [{"role": "tool", "content": text, "toolCalls": [{"name": text}]} for text in "ab"]
    model = RecordedModel([{"role": "tool", "content": "", "toolCalls": calls}, *results])
    (_, request) = model.requests
    made, *answered = request
    assert [call["id"] for call in made["tool_calls"]] == [result["tool_call_id"] for result in answered]


def test_it_streams_where_it_is_asked_to(client: openai.OpenAI) -> None:
    """The same answers, as the SDK puts them together from the chunks."""
    messages = []
    for _ in range(2):
        with client.chat.completions.stream(model="m", messages=ASKED) as stream:
            messages.append(stream.get_final_completion().choices[0].message)
    assert [call.function.name for call in messages[0].tool_calls or []] == ["look_up", "wave"]
    assert messages[1].content == "It is sent."


def test_it_says_no_more_than_it_said(client: openai.OpenAI) -> None:
    """A call too many, or of another endpoint, is refused with the reason."""
    with pytest.raises(openai.BadRequestError, match="no recorded answer is left"):
        client.responses.create(model="m", input="?")
    for _ in range(2):
        client.chat.completions.create(model="m", messages=ASKED)
    with pytest.raises(openai.BadRequestError, match="no recorded answer is left"):
        client.chat.completions.create(model="m", messages=ASKED)


def test_it_knows_the_other_side(recorded: RecordedModel) -> None:
    """What the app is to ask, with which tools' results, and what all of it was."""
    assert recorded.model == "gpt-4o"
    assert recorded.opening == [{"role": "system", "content": "Be kind."}]
    assert recorded.questions == ["Where is my order 7?"]
    assert recorded.result("c1") == {"role": "tool", "tool_call_id": "c1", "content": "sent"}
    with pytest.raises(KeyError, match="c2"):
        recorded.result("c2")
    assert recorded.tool_calls == [("look_up", {"order": 7}), ("wave", "{o")]
    assert recorded.said == [(message["role"], message["content"]) for message in MESSAGES]
