"""Which messages of a call are new: tool calls and their results, and what frameworks do to them."""

from __future__ import annotations

from typing import Any

import pytest

from converra.history.turn import SourceMessage, SourceToolCall
from tests.history.talk import Chat, Message, assistant, call, result, system, user

S = system("Use the tools.")
ASKED = [S, user("Where is my parcel?")]

# -- loops -----------------------------------------------------------------------------------------------------------


def test_a_tool_loop_is_recorded_once() -> None:
    """Calls, results and answers of an agent that resends everything at each step are each recorded once."""
    chat = Chat()
    assert chat.ask(ASKED, call("c1", "find")) == [
        "0 system: Use the tools.",
        "1 user: Where is my parcel?",
        "2 assistant: [c1/find]",
    ]
    one = [*ASKED, assistant(None, call("c1", "find")), result("c1", "in Rome")]
    assert chat.ask(one, "One moment.", call("c2", "ask")) == [
        "3 tool c1/find: in Rome",
        "4 assistant: One moment. [c2/ask]",
    ]
    two = [*one, assistant("One moment.", call("c2", "ask")), result("c2", "tomorrow")]
    assert chat.ask(two, "Tomorrow.") == ["5 tool c2/ask: tomorrow", "6 assistant: Tomorrow."]
    assert chat.ask([*two, assistant("Tomorrow."), user("Thanks")], "Bye") == ["7 user: Thanks", "8 assistant: Bye"]


@pytest.mark.parametrize("width", [2, 3, 4, 6])
def test_a_window_over_a_tool_loop(width: int) -> None:
    """An agent that keeps only its latest steps has each of them recorded once, text or no text."""
    chat = Chat()
    steps: list[Message] = []
    lines: list[str] = []
    for n in range(8):
        source, made = f"Step {n}." if n % 2 else "", call(f"c{n}", "go")
        lines += chat.ask([*ASKED, *steps[-width:]], source, made)
        steps += [assistant(source or None, made), result(f"c{n}", "done")]
    texts = [line.split(" ", 1)[1] for line in lines]
    expected = ["system: Use the tools.", "user: Where is my parcel?"]
    for n in range(8):
        expected.append(f"assistant:{' Step ' + str(n) + '.' if n % 2 else ''} [c{n}/go]")
        expected += [f"tool c{n}/go: done"] if n < 7 else []
    assert texts == expected


def test_parallel_results_in_another_order() -> None:
    """Results are known by the ids of their calls, so their order means nothing."""
    chat = Chat()
    chat.ask(ASKED, call("c1"), call("c2"), call("c3"))
    made = assistant(None, call("c1"), call("c2"), call("c3"))
    some = [*ASKED, made, result("c3", "3"), result("c1", "1"), result("c2", "2")]
    assert chat.ask(some, "A") == [
        "3 tool c3/search: 3",
        "4 tool c1/search: 1",
        "5 tool c2/search: 2",
        "6 assistant: A",
    ]
    other = [*ASKED, made, result("c1", "1"), result("c2", "2"), result("c3", "3"), assistant("A"), user("b")]
    assert chat.ask(other, "B") == ["7 user: b", "8 assistant: B"]


def test_results_that_arrive_one_by_one() -> None:
    """Each result of parallel calls is recorded when it is first sent."""
    chat = Chat()
    made = assistant(None, call("c1"), call("c2"))
    chat.ask(ASKED, call("c1"), call("c2"))
    assert chat.ask([*ASKED, made, result("c1", "1")], "Half.") == ["3 tool c1/search: 1", "4 assistant: Half."]
    assert chat.ask([*ASKED, made, result("c1", "1"), result("c2", "2")], "Whole.") == [
        "5 tool c2/search: 2",
        "6 assistant: Whole.",
    ]


def test_four_calls_that_come_back_as_the_first_one() -> None:
    """A framework that carries out only the first of four calls repeats nothing, whichever way it resends them."""
    chat = Chat()
    calls = [call(f"c{n}") for n in range(4)]
    chat.ask(ASKED, *calls)
    first = [*ASKED, assistant(None, calls[0]), result("c0", "0")]
    assert chat.ask(first, "A") == ["3 tool c0/search: 0", "4 assistant: A"]
    single = [*ASKED, *[m for n, c in enumerate(calls) for m in (assistant(None, c), result(f"c{n}", str(n)))]]
    assert chat.ask(single, "B") == [
        "5 tool c1/search: 1",
        "6 tool c2/search: 2",
        "7 tool c3/search: 3",
        "8 assistant: B",
    ]


def test_text_and_calls_of_one_answer() -> None:
    """An answer of text and calls is known again whole, without its text, without its calls, and cut in two."""
    answer = ("Let me see.", call("c1"))
    for again in (
        [assistant(*answer)],
        [assistant(None, call("c1"))],
        [assistant("Let me see."), assistant(None, call("c1"))],
    ):
        chat = Chat()
        chat.ask(ASKED, *answer)
        assert chat.ask([*ASKED, *again, result("c1", "x")], "A") == ["3 tool c1/search: x", "4 assistant: A"]


def test_a_call_that_the_app_adds_to_an_answer() -> None:
    """Of an answer that comes back with one call more, that call alone is new; so is a text put to old calls."""
    chat = Chat()
    chat.ask(ASKED, "Let me see.", call("c1"))
    more = [*ASKED, assistant("Let me see.", call("c1"), call("x9", "other")), result("c1", "1"), result("x9", "9")]
    assert chat.ask(more, "A") == [
        "3 assistant: [x9/other]",
        "4 tool c1/search: 1",
        "5 tool x9/other: 9",
        "6 assistant: A",
    ]
    chat = Chat()
    chat.ask(ASKED, call("c1"))
    text = [*ASKED, assistant("Calling search.", call("c1")), result("c1", "1")]
    assert chat.ask(text, "A") == ["3 assistant: Calling search.", "4 tool c1/search: 1", "5 assistant: A"]


def test_a_result_that_was_shortened_later() -> None:
    """A result is known by its id: clearing old ones to save tokens records nothing."""
    chat = Chat()
    chat.ask(ASKED, call("c1"))
    made = [*ASKED, assistant(None, call("c1"))]
    assert chat.ask([*made, result("c1", "a long page")], "A") == ["3 tool c1/search: a long page", "4 assistant: A"]
    assert chat.ask([*made, result("c1", "[cleared]"), assistant("A"), user("b")], "B") == [
        "5 user: b",
        "6 assistant: B",
    ]


def test_arguments_that_a_human_has_corrected() -> None:
    """A call is known by its id and name, whatever became of its arguments."""
    chat = Chat()
    chat.ask(ASKED, call("c1", "pay", '{"amount": 100}'))
    corrected = [*ASKED, assistant(None, call("c1", "pay", '{"amount": 10}')), result("c1", "paid")]
    assert chat.ask(corrected, "A") == ["3 tool c1/pay: paid", "4 assistant: A"]


# -- ids -------------------------------------------------------------------------------------------------------------


def test_an_id_that_is_used_again() -> None:
    """Providers that number calls from `call_0` in every turn lose no call and no result, in a growing list."""
    chat, history = Chat(), [*ASKED]
    chat.ask(history, call("call_0", "find"))
    history += [assistant(None, call("call_0", "find")), result("call_0", "Rome")]
    assert chat.ask(history, call("call_0", "find")) == ["3 tool call_0/find: Rome", "4 assistant: [call_0/find]"]
    history += [assistant(None, call("call_0", "find")), result("call_0", "Rome")]
    assert chat.ask(history, call("call_0", "pay")) == ["5 tool call_0/find: Rome", "6 assistant: [call_0/pay]"]
    history += [assistant(None, call("call_0", "pay")), result("call_0", "paid")]
    assert chat.ask(history, "A") == ["7 tool call_0/pay: paid", "8 assistant: A"]
    assert chat.ask([*history, assistant("A"), user("b")], "B") == ["9 user: b", "10 assistant: B"]


@pytest.mark.parametrize("second", ["Paris", "Rome"])
def test_an_id_that_is_used_again_in_a_window(second: str) -> None:
    """Where the first use has left the window, the result of the second is new, even in the same words."""
    chat, made = Chat(), assistant(None, call("call_0", "find"))
    chat.ask(ASKED, call("call_0", "find"))
    chat.ask([*ASKED, made, result("call_0", "Rome")], call("call_0", "find"))
    window = [*ASKED, made, result("call_0", second)]
    assert chat.ask([S, *window[2:]], "A") == [f"5 tool call_0/find: {second}", "6 assistant: A"]
    assert chat.ask([S, *window[2:], assistant("A"), user("b")], "B") == ["7 user: b", "8 assistant: B"]


def test_an_old_result_whose_id_waits_again() -> None:
    """While a call waits under an id that was used before, the old result in the history stays old."""
    chat, made = Chat(), assistant(None, call("call_0", "find"))
    chat.ask(ASKED, call("call_0", "find"))
    chat.ask([*ASKED, made, result("call_0", "Rome")], "In Rome.")
    chat.ask([*ASKED, made, result("call_0", "Rome"), assistant("In Rome."), user("b")], call("call_0", "find"))
    window = [S, made, result("call_0", "Rome"), assistant("In Rome."), user("b")]
    assert chat.ask([*window, made, result("call_0", "Oslo")], "A") == ["7 tool call_0/find: Oslo", "8 assistant: A"]


def test_calls_without_ids() -> None:
    """Calls without an id are known by name and arguments, results by name and text, both counted."""
    made = {"type": "function", "function": {"name": "find", "arguments": '{"q": 1}'}}
    found = {"role": "tool", "name": "find", "content": "x"}
    chat, history = Chat(), [*ASKED]
    for n in range(3):
        lines = chat.ask(history, made)
        assert lines[-1].endswith('assistant: [-/find{"q": 1}]')
        assert len(lines) == (3 if n == 0 else 2)
        history += [assistant(None, made), found]
    assert chat.ask(history, "A") == ["7 tool /find: x", "8 assistant: A"]


def test_an_id_that_a_framework_invented() -> None:
    """A call that had no id is known again under an invented one, which its result then carries."""
    chat = Chat()
    made = {"function": {"name": "find", "arguments": "{}"}}
    chat.ask(ASKED, made)
    one = [*ASKED, assistant(None, call("invented-1", "find")), result("invented-1", "x")]
    assert chat.ask(one, made) == ["3 tool invented-1/find: x", "4 assistant: [-/find]"]
    two = [*one, assistant(None, call("invented-2", "find")), result("invented-2", "y")]
    assert chat.ask(two, "A") == ["5 tool invented-2/find: y", "6 assistant: A"]
    assert chat.ask([*two, assistant(None, call("own", "find")), result("own", "z")], "B") == [
        "7 assistant: [own/find]",
        "8 tool own/find: z",
        "9 assistant: B",
    ]


@pytest.mark.parametrize(("sent", "resent"), [("", "{}"), ("{}", ""), ('{"a": 1}', '{"a":1}'), ("{ }", "{}")])
def test_arguments_in_another_dress(sent: str, resent: str) -> None:
    """Empty arguments and empty objects are the same, and white space in arguments means nothing."""
    chat = Chat()
    bare: dict[str, Any] = {"function": {"name": "find", "arguments": sent}}
    chat.ask(ASKED, bare)
    again = {"function": {"name": "find", "arguments": resent}}
    history = [*ASKED, assistant("", again), {"role": "tool", "name": "find", "content": "x"}]
    assert chat.ask(history, "A") == ["3 tool /find: x", "4 assistant: A"]


def test_legacy_functions() -> None:
    """`function_call` has no id, and its result is known by the function's name."""
    chat = Chat()
    made = {"role": "assistant", "content": None, "function_call": {"name": "find", "arguments": "{}"}}
    found = {"role": "function", "name": "find", "content": "x"}
    source = SourceMessage("assistant", "", (SourceToolCall(None, "find", "{}"),))
    chat.ask(ASKED, source)
    assert chat.ask([*ASKED, made, found], source) == ["3 tool /find: x", "4 assistant: [-/find]"]
    assert chat.ask([*ASKED, made, found, made, found], "A") == ["5 tool /find: x", "6 assistant: A"]
    assert chat.ask([*ASKED, made, found, made, found, assistant("A"), user("b")], "B") == [
        "7 user: b",
        "8 assistant: B",
    ]


def test_a_result_that_nobody_asked_for() -> None:
    """A result without a recorded call is kept, once."""
    chat = Chat()
    assert chat.ask([*ASKED, result("who", "x")], "A") == [
        "0 system: Use the tools.",
        "1 user: Where is my parcel?",
        "2 tool who/: x",
        "3 assistant: A",
    ]
    assert chat.ask([*ASKED, result("who", "x"), assistant("A"), user("b")], "B") == ["4 user: b", "5 assistant: B"]


def test_a_result_without_id_and_name() -> None:
    """A bare tool message is recognised by its words, in their order."""
    chat, bare = Chat(), {"role": "tool", "content": "x"}
    assert chat.ask([*ASKED, bare], "A")[2:] == ["2 tool: x", "3 assistant: A"]
    assert chat.ask([*ASKED, bare, assistant("A"), bare], "B") == ["4 tool: x", "5 assistant: B"]


def test_a_failed_step_of_a_loop() -> None:
    """When the call after a tool fails, its result is recorded once, and the retry brings the answer."""
    chat = Chat()
    chat.ask(ASKED, call("c1"))
    step = [*ASKED, assistant(None, call("c1")), result("c1", "x")]
    assert chat.fail(step) == ["3 tool c1/search: x"]
    assert chat.ask(step, "A") == ["4 assistant: A"]


def test_an_agent_whose_steps_are_asked_for_again() -> None:
    """An answer after a tool result that is regenerated replaces the first one."""
    chat = Chat()
    chat.ask(ASKED, call("c1"))
    step = [*ASKED, assistant(None, call("c1")), result("c1", "x")]
    assert chat.ask(step, "A") == ["3 tool c1/search: x", "4 assistant: A"]
    assert chat.ask(step, "B") == ["5 assistant: B (replaces 4)"]


def test_results_under_a_named_answer() -> None:
    """With `previous_response_id` even a result whose id was answered before is new: the same turn went on twice."""
    chat = Chat()
    chat.ask(ASKED, call("c1"), response_id="r1")
    assert chat.ask([result("c1", "x")], "A", previous="r1") == ["3 tool c1/search: x", "4 assistant: A"]
    assert chat.ask([result("c1", "x")], "B", previous="r1") == ["5 tool c1/search: x", "6 assistant: B"]


# -- ReAct -----------------------------------------------------------------------------------------------------------

STEP_1 = 'Thought: look\nAction: find\nAction Input: {"q": "parcel"}'
STEP_2 = "Thought: I know\nFinal Answer: Rome"


def test_an_observation_appended_to_the_answer() -> None:
    """What a ReAct framework appends to the assistant's text is the result of the tool, and recorded as such, once."""
    chat = Chat()
    chat.ask(ASKED, STEP_1)
    observed = [*ASKED, assistant(f"{STEP_1}\nObservation: in Rome")]
    assert chat.ask(observed, STEP_2) == ["3 tool: Observation: in Rome", f"4 assistant: {STEP_2}"]
    assert chat.ask([*observed, assistant(STEP_2), user("b")], "B") == ["5 user: b", "6 assistant: B"]
    window = [S, observed[2], assistant(STEP_2), user("b"), assistant("B"), user("c")]
    assert chat.ask(window, "C") == ["7 user: c", "8 assistant: C"]


def test_a_scratchpad_in_one_growing_message() -> None:
    """All steps in one message that grows: each observation is recorded once, and no step twice."""
    chat = Chat()
    steps = [f"Thought: {n}\nAction: find" for n in range(4)]
    chat.ask(ASKED, steps[0])
    pad, lines = "", []
    for n in range(3):
        pad += f"{steps[n]}\nObservation: {n}\n"
        lines += chat.ask([*ASKED, assistant(pad)], steps[n + 1])
    assert lines == [
        line
        for n in range(3)
        for line in (f"{2 * n + 3} tool: Observation: {n}", f"{2 * n + 4} assistant: {steps[n + 1]}")
    ]


def test_the_same_observation_twice() -> None:
    """Two tools that say the same are two results."""
    chat = Chat()
    chat.ask(ASKED, "Action: a")
    one = [*ASKED, assistant("Action: a\nObservation: ok")]
    assert chat.ask(one, "Action: b") == ["3 tool: Observation: ok", "4 assistant: Action: b"]
    two = [*one, assistant("Action: b\nObservation: ok")]
    assert chat.ask(two, "Done") == ["5 tool: Observation: ok", "6 assistant: Done"]


@pytest.mark.parametrize(
    ("source", "resent"),
    [
        ("<think>hm</think>Rome", "Rome"),
        ("Rome", "<think>hm</think>\n\nRome"),
        ("<think>hm</think>Rome", "<think>hm, hm</think>Rome"),
        ("""{"city": "Rome"}""", """{'city': 'Rome'}"""),
        ("""{"city": "Rome"}""", """{\\"city\\": \\"Rome\\"}"""),
        ("""{"city": "Rome"}""", """```{"city":"Rome"}```"""),
        ("Rome,\nItaly", "Rome, Italy"),
    ],
)
def test_an_answer_in_another_dress(source: str, resent: str) -> None:
    """Thinking cut out or wrapped in, other quotes and other white space make no new message."""
    chat = Chat()
    chat.ask(ASKED, source)
    assert chat.ask([*ASKED, assistant(resent), user("b")], "B") == ["3 user: b", "4 assistant: B"]


@pytest.mark.parametrize(
    ("source", "resent"),
    [("Yes", "Yesterday"), ("No", "Not at all"), ("👍", "🎉"), ("1.5", "15"), ("Yes", "Yes, gladly"), ("...", "!!!")],
)
def test_an_answer_in_other_words(source: str, resent: str) -> None:
    """An answer that was rewritten is not taken for the old one with something appended."""
    chat = Chat()
    chat.ask(ASKED, source)
    assert chat.ask([*ASKED, assistant(resent), user("b")], "B") == [
        f"3 assistant: {resent} (replaces 2)",
        "4 user: b",
        "5 assistant: B",
    ]


def test_every_answer_edited_in_a_long_chat() -> None:
    """A framework that rewrites all answers on their way back has nothing recorded twice, in whole or in windows."""
    chat, history, lines = Chat(), [S], []
    for n in range(30):
        history.append(user(f"q{n}"))
        resent = history if n % 3 else [S, *history[-9:]]
        lines += chat.ask(resent, f"<think>{n}</think>a {n}")
        history.append(assistant(f"a {n}"))
    assert [line.split(": ", 1)[1] for line in lines[1:]] == [
        words for n in range(30) for words in (f"q{n}", f"<think>{n}</think>a {n}")
    ]


def test_a_thought_that_is_no_answer() -> None:
    """Text parts with thinking in them, and answers resent by reference, are old."""
    chat = Chat()
    chat.ask(ASKED, SourceMessage("assistant", "Rome", metadata={"reasoning": "hm"}))
    parts = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Rome"}]
    by_reference = {"role": "assistant", "audio": {"id": "audio_1"}}
    assert chat.ask([*ASKED, {"role": "assistant", "content": parts}, by_reference, user("b")], "B") == [
        "3 user: b",
        "4 assistant: B",
    ]


# -- attachments -----------------------------------------------------------------------------------------------------


def _pictured(url: str, text: str = "What is this?") -> dict[str, Any]:
    image = {"type": "image_url", "image_url": {"url": url}}
    return {"role": "user", "content": [{"type": "text", "text": text}, image]}


def test_two_pictures_under_the_same_words() -> None:
    """The same question about another picture is another message; about the same one it is the old one."""
    chat = Chat()
    cat, dog = "data:image/png;base64,Y2F0", "data:image/png;base64,ZG9n"
    words = "What is this?\n[image: image/png, 3 bytes]"
    assert chat.ask([_pictured(cat)], "A cat.") == [f"0 user: {words}", "1 assistant: A cat."]
    both = [_pictured(cat), assistant("A cat."), _pictured(dog)]
    assert chat.ask(both, "A dog.") == [f"2 user: {words}", "3 assistant: A dog."]
    assert chat.ask([_pictured(dog), assistant("A dog."), user("Sure?")], "Yes.") == [
        "4 user: Sure?",
        "5 assistant: Yes.",
    ]
