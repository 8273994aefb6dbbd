"""Which calls and results are new if a framework rewrites their ids, as for a provider that asks for short ones."""

from __future__ import annotations

import copy

import pytest

from converra.history.turn import SourceMessage, SourceToolCall
from tests.history.talk import Chat, Message, assistant, call, result, system, user

ASKED = [system("Use the tools."), user("Where are my parcels?")]


def rewritten(messages: list[Message], n: int) -> list[Message]:
    """The same history with other ids, as a framework sends it in its n-th request."""
    found = copy.deepcopy(messages)
    for message in found:
        for made in message.get("tool_calls", ()):
            made["id"] = f"x{made['id']}{n}"
        if "tool_call_id" in message:
            message["tool_call_id"] = f"x{message['tool_call_id']}{n}"
    return found


@pytest.mark.parametrize("text", ["same", "other"])
@pytest.mark.parametrize("changing", [True, False], ids=["other ids each time", "the same ids"])
def test_a_history_with_other_ids(text: str, changing: bool) -> None:
    """Calls and results before a recorded text are recorded once, however often they get other ids."""
    chat = Chat()
    history = list(ASKED)
    for n in range(3):
        made = [call(f"c{n}", "find"), call(f"d{n}", "ask")]
        chat.ask(history, *made)
        history += [assistant(None, *made), result(f"d{n}", "late"), result(f"c{n}", text if n else "here")]
        chat.ask(history, f"Answer {n}.")
        history += [assistant(f"Answer {n}."), user(f"Question {n}?")]
    chat.ask(history, "Yes.")
    for n in range(3):
        history += [assistant("Yes."), user(f"More {n}?")]
        lines = [line.split(" ", 1)[1] for line in chat.ask(rewritten(history, n if changing else 0), "Yes.")]
        assert lines == [f"user: More {n}?", "assistant: Yes."]


@pytest.mark.parametrize("changing", [True, False], ids=["other ids each time", "the same ids"])
def test_a_loop_with_other_ids(changing: bool) -> None:
    """The call that was just made comes back with another id: its result alone is new, at each step of the loop."""
    chat = Chat()
    history = list(ASKED)
    lines = chat.ask(history, call("c0", "find"))
    for n in range(4):
        history += [assistant(None, call(f"c{n}", "find")), result(f"c{n}", f"Result {n}.")]
        lines += chat.ask(rewritten(history, n if changing else 0), call(f"c{n + 1}", "find"))
    words = [line.split(": ", 1)[1] for line in lines]
    expected = ["Use the tools.", "Where are my parcels?", "[c0/find]"]
    for n in range(4):
        expected += [f"Result {n}.", f"[c{n + 1}/find]"]
    assert words == expected


def test_a_call_that_was_recorded_without_an_id() -> None:
    """It comes back with an id that a framework makes up, and with another one for the next provider."""
    chat = Chat()
    made = SourceMessage("assistant", "", (SourceToolCall(None, "find", {}),))
    chat.ask(ASKED, made)
    history = [*ASKED, assistant(None, call("x1", "find")), result("x1", "here")]
    assert chat.ask(history, "There.") == ["3 tool x1/find: here", "4 assistant: There."]
    history = [*ASKED, assistant(None, call("z1", "find")), result("z1", "here"), assistant("There."), user("Thanks!")]
    assert chat.ask(history, "Bye.") == ["5 user: Thanks!", "6 assistant: Bye."]


def test_a_call_of_another_tool_is_new() -> None:
    """Neither a call of a tool that was not called, nor one more than were recorded, is taken for a recorded one."""
    chat = Chat()
    chat.ask(ASKED, call("c1", "find"))
    chat.ask([*ASKED, assistant(None, call("c1", "find")), result("c1", "here")], "There.")
    more = assistant(None, call("x1", "find"), call("x2", "find"), call("x3", "ask"))
    results = [result(name, f"by {name}") for name in ("x1", "x2", "x3")]
    lines = chat.ask([*ASKED, more, *results, assistant("There."), user("Thanks!")], "Bye.")
    assert [line.split(" ", 1)[1] for line in lines] == [
        "assistant: [x2/find] [x3/ask]",
        "tool x2/find: by x2",
        "tool x3/ask: by x3",
        "user: Thanks!",
        "assistant: Bye.",
    ]


def test_a_call_by_another_model_is_new() -> None:
    """A call at the end of the request is new if those that are recorded have their results."""
    chat = Chat()
    chat.ask(ASKED, call("c1", "find"))
    chat.ask([*ASKED, assistant(None, call("c1", "find")), result("c1", "here")], "There.")
    history = [*ASKED, assistant("There."), user("And now?"), assistant(None, call("z1", "find")), result("z1", "gone")]
    lines = chat.ask(history, "Gone.")
    assert [line.split(" ", 1)[1] for line in lines] == [
        "user: And now?",
        "assistant: [z1/find]",
        "tool z1/find: gone",
        "assistant: Gone.",
    ]
