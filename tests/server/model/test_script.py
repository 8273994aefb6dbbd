"""What the stand-in says: canned answers, tool calls by the words, directives to the letter."""

from __future__ import annotations

import json
from typing import Any

import pytest
from inline_snapshot import snapshot

from converra.server.model.sample import sample
from converra.server.model.script import Asked, Tool, Turn, Use, reply
from converra.server.model.support import ITSELF

LOOK_UP = Tool(
    "get_order_status",
    "Where an order is.",
    {"type": "object", "properties": {"order_id": {"type": "string"}}, "required": ["order_id"]},
)
WEATHER = Tool("getWeather", "", {"type": "object", "properties": {"city": {"type": "string"}}})


def user(text: str, *rest: Turn, **fields: Any) -> Asked:
    return Asked([Turn("system", "You help."), Turn("user", text), *rest], **fields)


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("Hello!", "Hello! How can I help you today?"),
        ("Where is my order 4711?", "Order 4711 is on its way and arrives on Thursday."),
        ("what's the status of the parcel", "Your order is on its way and arrives on Thursday."),
        ("When will it arrive?", "It is due on Thursday, between 9:00 and 13:00."),
        ("Can a neighbor take it?", "Yes, a neighbour can take it in. I have added a note for the driver."),
        (
            "I want a refund",
            "You can return it within 30 days. I have sent you a label, and the refund follows within five days.",
        ),
        ("please cancel", "I have cancelled it. You will get a confirmation by e-mail."),
        ("Thanks a lot", "You are welcome. Is there anything else that I can do for you?"),
        ("bye", "Goodbye, and thank you for writing to us."),
        ("Are you real?", ITSELF),
        ("Prove Fermat's\nlast  theorem.", f'{ITSELF} You said: "Prove Fermat\'s last theorem."'),
        ("x" * 300, f'{ITSELF} You said: "{"x" * 199}…"'),
        ("", f'{ITSELF} You said: ""'),
    ],
)
def test_the_desk_answers_and_else_says_what_it_is(said: str, answer: str) -> None:
    """A support chat gets sensible answers; anything else gets the truth about the stand-in."""
    assert reply(user(said)).text == answer


@pytest.mark.parametrize(
    ("result", "answer"),
    [
        (
            '{"order_id": "4711", "status": "in transit", "arrives": "Thursday"}',
            "Order 4711 is in transit and arrives on Thursday.",
        ),
        ('{"status": "lost"}', "Your order is lost."),
        ('{"tempCelsius": 21, "sky_state": "clear"}', "Here is what I found: temp celsius 21, sky state clear."),
        ("[1, 2]", "The tool says: [1, 2]"),
        ("plain words", "The tool says: plain words"),
    ],
)
def test_tool_results_are_retold(result: str, answer: str) -> None:
    """After a tool has answered, its result is put into a sentence."""
    asked = user("Where is my order?", Turn("assistant", ""), Turn("tool", result), tools=[LOOK_UP])
    assert reply(asked).text == answer


def test_a_tool_is_called_where_the_words_ask_for_it() -> None:
    """A word shared by the message and the tool's name or description calls it, with arguments from the message."""
    asked = user("Hello, where is my order 4711?", tools=[WEATHER, LOOK_UP])
    assert reply(asked).uses == [Use("get_order_status", '{"order_id": "4711"}')]
    assert reply(user("what is the weather in Paris today?", tools=[WEATHER, LOOK_UP])).uses == [
        Use("getWeather", '{"city": "Paris"}')
    ]
    assert reply(user("Great, that is all. Thank you!", tools=[WEATHER, LOOK_UP])).uses == []


def test_tool_choice_is_obeyed() -> None:
    """`none` forbids, `required` forces the first, a name forces that one."""
    assert reply(user("my order 7", tools=[LOOK_UP], forced="none")).uses == []
    assert reply(user("bye", tools=[WEATHER, LOOK_UP], forced="required")).uses == [
        Use("getWeather", '{"city": "bye"}')
    ]
    assert reply(user("bye", tools=[WEATHER, LOOK_UP], forced="get_order_status")).uses == [
        Use("get_order_status", '{"order_id": "bye"}')
    ]


def test_a_tool_is_not_called_twice_for_one_question() -> None:
    """Once the model has answered, the question is not asked of the tool again."""
    asked = user("my order 7", Turn("assistant", "done"), tools=[LOOK_UP])
    assert reply(asked).uses == []


@pytest.mark.parametrize(
    ("text", "uses"),
    [
        ('[[tool:a {"x": [[1]], "y": {"z": []}}]]', [Use("a", '{"x": [[1]], "y": {"z": []}}')]),
        ('[[tool:a {"x": "]]"}]] [[tool:b]]', [Use("a", '{"x": "]]"}'), Use("b", "{}")]),
        ("[[tool:a {broken]]", [Use("a", "{broken")]),
        ("[[custom:shell ls -l]]", [Use("shell", "ls -l", "custom")]),
        ("[[function:a {}]]", [Use("a", "{}", "legacy")]),
        ("[[tool:a", []),
        ("[[unknown:a]]", []),
    ],
)
def test_directives_call_tools(text: str, uses: list[Use]) -> None:
    """Arguments are passed on to the letter, brackets and broken JSON included."""
    assert reply(user(text)).uses == uses


def test_directives_may_script_several_steps() -> None:
    """What follows `[[then]]` is for the next call of the same user turn; after the last step, words decide."""
    text = "[[tool:a {}]] [[tool:b {}]] [[then]] [[tool:c {}]] [[then]] [[say:done]]"
    first = [Turn("assistant", ""), Turn("tool", "1"), Turn("tool", "2")]
    second = [Turn("assistant", ""), Turn("assistant", ""), Turn("tool", "3")]
    answers = [reply(user(text)), reply(user(text, *first)), reply(user(text, *first, *second))]
    assert [([use.name for use in answer.uses], answer.text) for answer in answers] == [
        (["a", "b"], ""),
        (["c"], ""),
        ([], "done"),
    ]
    assert reply(user("[[tool:a {}]]", *first)).text == "The tool says: 1 The tool says: 2"


def test_how_an_answer_is_said_can_be_asked_for() -> None:
    """Refusal, reasoning, nothing at all, so many words, and the two ways to be cut off."""
    assert reply(user("[[refuse]]")).refusal == "I cannot help with that."
    assert reply(user("[[refuse:No.]]")).refusal == "No."
    assert reply(user("[[reasoning]] hello")).reasoning == "Thinking about it."
    assert reply(user("[[reasoning:Hm.]] hello")).text == "Hello! How can I help you today?"
    assert reply(user("[[empty]]")).text == ""
    assert reply(user("[[words:9]]")).text == "lorem ipsum dolor sit amet consectetur adipiscing elit lorem"
    assert reply(user("[[words:many]]")).text == "lorem"
    cut = reply(user("[[say:one two three four]] [[length]]"))
    filtered = reply(user("[[say:one two three four]] [[filter]]"))
    limited = reply(user("[[say:one two three four]]", limit=3))
    assert [(each.text, each.finish) for each in (cut, filtered, limited)] == [
        ("one two", "length"),
        ("one two", "content_filter"),
        ("one two three", "length"),
    ]


def test_usage_counts_words_and_marks() -> None:
    """The stand-in's tokens are its own: words and punctuation, and three for each message."""
    answer = reply(user("[[say:Yes, it is.]] [[reasoning:Hm]]"))
    assert (answer.completion_tokens, answer.prompt_tokens) == (6, 27)


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "city": {"type": "string"},
        "unit": {"enum": ["celsius", "fahrenheit"]},
        "kind": {"const": "report"},
        "count": {"type": "integer"},
        "share": {"type": "number"},
        "exact": {"type": "boolean"},
        "maybe": {"type": ["null", "string"]},
        "nothing": {"type": "null"},
        "only_null": {"type": ["null"]},
        "either": {"anyOf": [{"type": "null"}, {"type": "integer"}]},
        "tags": {"type": "array", "items": {"type": "string"}},
        "untyped": {},
        "list": {"type": "array"},
        "child": {"$ref": "#/$defs/node"},
    },
    "$defs": {
        "node": {
            "properties": {"n": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
            "required": ["n", "next"],
        }
    },
}


def test_a_schema_is_filled_from_the_words() -> None:
    """Numbers and names that were said go where they fit; a schema that refers to itself ends."""
    assert sample(SCHEMA, "Weather for order 42 in New York, in fahrenheit") == snapshot(
        {
            "id": "42",
            "city": "New York",
            "unit": "fahrenheit",
            "kind": "report",
            "count": 42,
            "share": 42.0,
            "exact": True,
            "maybe": "New York",
            "nothing": None,
            "only_null": None,
            "either": 42,
            "tags": ["New York"],
            "untyped": "New York",
            "list": [],
            "child": {"n": 42, "next": {"n": 42, "next": None}},
        }
    )
    wordless = sample(SCHEMA, "hm")
    assert (wordless["count"], wordless["share"], wordless["unit"]) == (1, 1.0, "celsius")


def test_a_schema_without_an_end_is_cut_off() -> None:
    """A schema that demands itself for ever gets a value that is as deep as is reasonable."""
    endless = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}
    assert json.dumps(sample(endless, "x")) == '{"next": ' * 8 + "{}" + "}" * 8
    assert len(json.dumps(sample({"type": "array", "items": {"$ref": "#"}}, "x"))) < 50


def test_an_answer_may_have_to_fit_a_schema() -> None:
    """Structured output is JSON of the schema that was asked for."""
    asked = user("in Berlin", json_schema={"properties": {"city": {"type": "string"}}})
    assert reply(asked).text == '{"city": "Berlin"}'
