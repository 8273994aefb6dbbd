"""New messages of a call: histories that grow, shrink, are edited or retried, or come from another process."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.history.talk import Chat, Message, answered, assistant, call, result, system, user

if TYPE_CHECKING:
    from collections.abc import Callable

S = system("Be kind.")

# -- growing ---------------------------------------------------------------------------------------------------------


def test_a_growing_list_is_recorded_once() -> None:
    """Ten turns that resend everything become twenty messages and one system text."""
    chat, history, lines = Chat(), [S], []
    for n in range(10):
        history.append(user(f"question {n}"))
        lines += chat.ask(history, f"answer {n}")
        history.append(assistant(f"answer {n}"))
    expected = ["0 system: Be kind."]
    for n in range(10):
        expected += [f"{2 * n + 1} user: question {n}", f"{2 * n + 2} assistant: answer {n}"]
    assert lines == expected


def test_the_same_words_twice_are_two_turns() -> None:
    """A "yes" that a user writes three times is three turns, even if the assistant repeats itself too."""
    chat, history, lines = Chat(), [S], []
    for _ in range(3):
        history.append(user("yes"))
        lines += chat.ask(history, "Go on?")
        history.append(assistant("Go on?"))
    assert lines == [
        "0 system: Be kind.",
        "1 user: yes",
        "2 assistant: Go on?",
        "3 user: yes",
        "4 assistant: Go on?",
        "5 user: yes",
        "6 assistant: Go on?",
    ]


def test_two_messages_of_a_user_in_a_row_are_two_turns() -> None:
    """Two messages of one side without an answer between them stay two, also when they say the same."""
    chat = Chat()
    assert chat.ask([user("a"), user("a")], "b") == ["0 user: a", "1 user: a", "2 assistant: b"]
    assert chat.ask([user("a"), user("a"), assistant("b"), user("a"), user("a")], "c") == [
        "3 user: a",
        "4 user: a",
        "5 assistant: c",
    ]


def test_an_app_that_never_resends_answers() -> None:
    """Questions that pile up without their answers are new once."""
    chat = Chat()
    assert chat.ask([S, user("a")], "A") == ["0 system: Be kind.", "1 user: a", "2 assistant: A"]
    assert chat.ask([S, user("a"), user("b")], "B") == ["3 user: b", "4 assistant: B"]
    assert chat.ask([S, user("a"), user("b"), user("c")], "C") == ["5 user: c", "6 assistant: C"]


def test_a_stateless_app_that_sends_only_the_question() -> None:
    """With the system text and one question in each call, each question and each answer is a turn."""
    chat = Chat()
    assert chat.ask([S, user("a")], "A") == ["0 system: Be kind.", "1 user: a", "2 assistant: A"]
    assert chat.ask([S, user("b")], "B") == ["3 user: b", "4 assistant: B"]
    assert chat.ask([S, user("c")], "C") == ["5 user: c", "6 assistant: C"]


def test_tuples_and_lists_are_the_same() -> None:
    """A history may come in any sequence."""
    chat = Chat()
    chat.ask((S, user("a")), "A")
    assert chat.ask((S, user("a"), assistant("A"), user("b")), "B") == ["3 user: b", "4 assistant: B"]
    assert chat.ask([S, user("a"), assistant("A"), user("b"), assistant("B"), user("c")], "C") == [
        "5 user: c",
        "6 assistant: C",
    ]


ROUND_TRIPS: dict[str, Callable[[Message], Message]] = {
    "nulls are added": lambda m: m | {"refusal": None, "tool_calls": None, "audio": None, "function_call": None},
    "empty lists are added": lambda m: m | {"annotations": []},
    "ids are added": lambda m: m | {"id": "msg_1"},
    "the order of fields changes": lambda m: dict(reversed(m.items())),
    "content becomes parts": lambda m: m | {"content": [{"type": "text", "text": m["content"]}]},
    "white space is trimmed or added": lambda m: m | {"content": m["content"] + "\n "},
    "everything is rebuilt": lambda m: json.loads(json.dumps(m)),
}


@pytest.mark.parametrize("change", ROUND_TRIPS.values(), ids=ROUND_TRIPS.keys())
def test_messages_that_are_rebuilt_are_still_the_same(change: Callable[[Message], Message]) -> None:
    """What a round trip through JSON or SDK objects adds, drops or reorders does not make a message new."""
    chat = Chat()
    history = [S, user("a"), assistant("A"), user("b")]
    chat.ask(history, "B")
    resent = [*map(change, [*history, assistant("B")]), user("c")]
    assert chat.ask(resent, "C") == ["5 user: c", "6 assistant: C"]
    assert chat.ask([*map(change, [*history, assistant("B"), user("c"), assistant("C")]), user("d")], "D") == [
        "7 user: d",
        "8 assistant: D",
    ]


def test_a_caller_who_changes_the_list_during_the_call() -> None:
    """What counts is what was sent: appending, clearing or rewriting afterwards changes nothing."""
    chat = Chat()
    history = [S, user("a")]
    snapshot = chat.begin(history)
    history[1]["content"] = "rewritten"
    history.append(user("too late"))
    assert chat.end(snapshot, "A") == ["0 system: Be kind.", "1 user: a", "2 assistant: A"]
    again = [S, user("a"), assistant("A"), user("a")]
    snapshot = chat.begin(again)
    again[3]["content"] = "rewritten, though its words were known"
    again.clear()
    assert chat.end(snapshot, "B") == ["3 user: a", "4 assistant: B"]


# -- windows ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("first", [[], [S]], ids=["without system", "with system"])
def test_a_window_that_slides_along_the_chat(width: int, first: list[dict[str, str]]) -> None:
    """An app that sends the last few messages only has each of them recorded once."""
    chat, history, lines = Chat(), [], []
    for n in range(12):
        history.append(user(f"q{n}"))
        lines += chat.ask([*first, *history[-width:]], f"a{n}")
        history.append(assistant(f"a{n}"))
    source = [line.split(" ", 1)[1] for line in lines]
    talk = [words for n in range(12) for words in (f"user: q{n}", f"assistant: a{n}")]
    assert source == (["system: Be kind."] if first else []) + talk


def test_a_window_over_words_that_repeat() -> None:
    """A short window over "yes", "Go on?", "yes", "Go on?" still ends where the chat stands."""
    chat, history, lines = Chat(), [], []
    for n in range(4):
        history.append(user(f"yes {n % 2}"))
        lines += chat.ask([S, *history[-4:]], "Go on?")
        history.append(assistant("Go on?"))
    source = [line.split(" ", 1)[1] for line in lines]
    turns = [words for n in range(4) for words in (f"user: yes {n % 2}", "assistant: Go on?")]
    assert source == ["system: Be kind.", *turns]


def test_a_middle_that_is_left_out() -> None:
    """Keeping the first and the last messages and dropping the middle repeats nothing."""
    chat, history = Chat(), [S]
    for n in range(6):
        history += [user(f"q{n}")]
        chat.ask(history, f"a{n}")
        history += [assistant(f"a{n}")]
    assert chat.ask([*history[:3], *history[-2:], user("new")], "N") == ["13 user: new", "14 assistant: N"]
    whole = [*history, user("new"), assistant("N"), user("all of it again")]
    assert chat.ask(whole, "M") == ["15 user: all of it again", "16 assistant: M"]


def test_a_summary_in_place_of_the_beginning() -> None:
    """A summary is a message of its own, recorded once, and what it stands for is not repeated."""
    chat, history = Chat(), [S]
    for n in range(3):
        history += [user(f"q{n}")]
        chat.ask(history, f"a{n}")
        history += [assistant(f"a{n}")]
    short = [S, system("So far: q0, a0."), *history[3:], user("q3")]
    assert chat.ask(short, "a3") == ["7 system: So far: q0, a0.", "8 user: q3", "9 assistant: a3"]
    assert chat.ask([*short, assistant("a3"), user("q4")], "a4") == ["10 user: q4", "11 assistant: a4"]


def test_a_summary_that_a_user_says() -> None:
    """A summary in the role of the user says whose place it took."""
    chat = Chat()
    chat.ask([S, user("q0")], "a0")
    chat.ask([S, user("q0"), assistant("a0"), user("q1")], "a1")
    lines = chat.ask([S, user("So far: q0, a0."), user("q1"), assistant("a1"), user("q2")], "a2")
    assert lines == ["5 user: So far: q0, a0. (replaces 1)", "6 user: q2", "7 assistant: a2"]


# -- branches --------------------------------------------------------------------------------------------------------


def test_an_edited_question_is_a_branch() -> None:
    """A question that is asked otherwise says which one it replaces, and then goes on as a chat of its own."""
    chat = Chat()
    chat.ask([S, user("a")], "A")
    chat.ask([S, user("a"), assistant("A"), user("b")], "B")
    branch = [S, user("a"), assistant("A"), user("b, but other")]
    assert chat.ask(branch, "B2") == ["5 user: b, but other (replaces 3)", "6 assistant: B2"]
    assert chat.ask([*branch, assistant("B2"), user("c")], "C") == ["7 user: c", "8 assistant: C"]


def test_going_back_to_the_first_branch() -> None:
    """Whoever returns to what was replaced goes on there; nothing of it is recorded again, nothing is replaced."""
    chat = Chat()
    first = [S, user("a"), assistant("A"), user("b")]
    chat.ask(first[:2], "A")
    chat.ask(first, "B")
    chat.ask([*first[:3], user("b2")], "B2")
    assert chat.ask([*first, assistant("B"), user("c")], "C") == ["7 user: c", "8 assistant: C"]


def test_editing_twice() -> None:
    """Each new version replaces the one before it."""
    chat = Chat()
    chat.ask([S, user("a")], "A")
    history = [S, user("a"), assistant("A")]
    assert chat.ask([*history, user("b1")], "B1") == ["3 user: b1", "4 assistant: B1"]
    assert chat.ask([*history, user("b2")], "B2") == ["5 user: b2 (replaces 3)", "6 assistant: B2"]
    assert chat.ask([*history, user("b3")], "B3") == ["7 user: b3 (replaces 5)", "8 assistant: B3"]


def test_an_answer_that_is_asked_for_again() -> None:
    """The same request again brings a second answer, which replaces the first; going on with either repeats nothing."""
    chat = Chat()
    assert chat.ask([S, user("a")], "A1") == ["0 system: Be kind.", "1 user: a", "2 assistant: A1"]
    assert chat.ask([S, user("a")], "A2") == ["3 assistant: A2 (replaces 2)"]
    assert chat.ask([S, user("a")], "A3") == ["4 assistant: A3 (replaces 3)"]
    assert chat.ask([S, user("a"), assistant("A1"), user("b")], "B1") == ["5 user: b", "6 assistant: B1"]
    assert chat.ask([S, user("a"), assistant("A3"), user("c")], "C1") == ["7 user: c", "8 assistant: C1"]


def test_the_same_answer_again() -> None:
    """An answer is always new, even in the words of the one that it replaces."""
    chat = Chat()
    chat.ask([user("a")], "A")
    assert chat.ask([user("a")], "A") == ["2 assistant: A (replaces 1)"]
    assert chat.ask([user("a"), assistant("A"), user("b")], "B") == ["3 user: b", "4 assistant: B"]


def test_an_answer_that_the_user_rewrote() -> None:
    """An answer in other words is recorded, once, in the place of the real one."""
    chat = Chat()
    chat.ask([user("a")], "A")
    rewritten = [user("a"), assistant("something else entirely"), user("b")]
    assert chat.ask(rewritten, "B") == [
        "2 assistant: something else entirely (replaces 1)",
        "3 user: b",
        "4 assistant: B",
    ]
    assert chat.ask([*rewritten, assistant("B"), user("c")], "C") == ["5 user: c", "6 assistant: C"]


def test_an_early_edit_that_keeps_what_follows() -> None:
    """A typo that is corrected in the first question is one new message; the rest is where it was."""
    chat = Chat()
    chat.ask([user("helo")], "Hi")
    chat.ask([user("helo"), assistant("Hi"), user("b")], "B")
    edited = [user("hello"), assistant("Hi"), user("b"), assistant("B"), user("c")]
    assert chat.ask(edited, "C") == ["4 user: hello (replaces 0)", "5 user: c", "6 assistant: C"]


# -- failures --------------------------------------------------------------------------------------------------------


def test_a_call_that_fails_and_is_retried() -> None:
    """The request stands when the call fails; the retry adds the answer alone."""
    chat = Chat()
    assert chat.fail([S, user("a")]) == ["0 system: Be kind.", "1 user: a"]
    assert chat.fail([S, user("a")]) == []
    assert chat.ask([S, user("a")], "A") == ["2 assistant: A"]
    assert chat.fail([S, user("a"), assistant("A"), user("b")]) == ["3 user: b"]
    assert chat.ask([S, user("a"), assistant("A"), user("b")], "B") == ["4 assistant: B"]


def test_a_retry_with_a_shorter_history() -> None:
    """After "context length exceeded", the retry with less history repeats nothing."""
    chat, history = Chat(), [S]
    for n in range(3):
        history += [user(f"q{n}")]
        chat.ask(history, f"a{n}")
        history += [assistant(f"a{n}")]
    assert chat.fail([*history, user("q3")]) == ["7 user: q3"]
    assert chat.ask([S, *history[-2:], user("q3")], "a3") == ["8 assistant: a3"]


def test_a_failed_question_that_is_given_up() -> None:
    """A question without an answer stays, and the next one follows it."""
    chat = Chat()
    chat.ask([user("a")], "A")
    assert chat.fail([user("a"), assistant("A"), user("b")]) == ["2 user: b"]
    assert chat.ask([user("a"), assistant("A"), user("c")], "C") == ["3 user: c (replaces 2)", "4 assistant: C"]


# -- side by side ----------------------------------------------------------------------------------------------------


def test_calls_that_overlap_in_one_conversation() -> None:
    """Two calls that begin on the same history and end one after the other repeat nothing and replace nothing."""
    chat = Chat()
    chat.ask([S, user("a")], "A")
    history = [S, user("a"), assistant("A")]
    left, right = chat.begin([*history, user("left")]), chat.begin([*history, user("right")])
    assert chat.end(right, "R") == ["3 user: right", "4 assistant: R"]
    assert chat.end(left, "L") == ["5 user: left", "6 assistant: L"]
    shared = [*history, user("left"), assistant("L"), user("right"), assistant("R"), user("both")]
    assert chat.ask(shared, "B") == ["7 user: both", "8 assistant: B"]


def test_the_same_call_twice_at_the_same_time() -> None:
    """Two drafts of one answer that are asked for at once are both recorded, and neither replaces the other."""
    chat = Chat()
    one, two = chat.begin([user("a")]), chat.begin([user("a")])
    assert chat.end(one, "A1") == ["0 user: a", "1 assistant: A1"]
    assert chat.end(two, "A2") == ["2 assistant: A2"]


def test_a_call_that_began_before_another_and_ended_after_it() -> None:
    """A slow call that ends late finds its history recorded."""
    chat = Chat()
    slow = chat.begin([S, user("a")])
    assert chat.ask([S, user("a")], "fast") == ["0 system: Be kind.", "1 user: a", "2 assistant: fast"]
    assert chat.ask([S, user("a"), assistant("fast"), user("b")], "B") == ["3 user: b", "4 assistant: B"]
    assert chat.end(slow, "slow") == ["5 assistant: slow"]


ROUTER, JUDGE = system("Answer with one word: sales or support."), system("Is this safe? Answer yes or no.")


def test_a_router_has_a_thread_of_its_own() -> None:
    """A side call that shares only the user's words is kept apart; the words are recorded once."""
    chat = Chat()
    assert chat.ask([S, user("a")], "A") == ["0 system: Be kind.", "1 user: a", "2 assistant: A"]
    assert chat.ask([ROUTER, user("b")], "sales") == [
        f"3 system: {ROUTER['content']} (thread 1)",
        "4 user: b (thread 1)",
        "5 assistant: sales (thread 1)",
    ]
    assert chat.ask([S, user("a"), assistant("A"), user("b")], "B") == ["6 assistant: B"]
    assert chat.ask([ROUTER, user("c")], "sales") == ["7 user: c (thread 1)", "8 assistant: sales (thread 1)"]
    assert chat.ask([S, user("a"), assistant("A"), user("b"), assistant("B"), user("c")], "C") == ["9 assistant: C"]


def test_a_judge_that_reads_the_whole_chat() -> None:
    """A guardrail's verdict is neither replaced by the real answer nor repeated."""
    chat = Chat()
    history = [user("a"), assistant("A"), user("b")]
    chat.ask([S, user("a")], "A")
    assert chat.ask([JUDGE, *history], "yes") == [f"3 system: {JUDGE['content']}", "4 user: b", "5 assistant: yes"]
    assert chat.ask([S, *history], "B") == ["6 assistant: B"]
    assert chat.ask([JUDGE, *history, assistant("B"), user("c")], "yes") == ["7 user: c", "8 assistant: yes"]
    assert chat.ask([S, *history, assistant("B"), user("c")], "C") == ["9 assistant: C"]


def test_a_title_made_of_the_chat() -> None:
    """A side call whose prompt quotes the chat is recorded as what it is."""
    chat = Chat()
    chat.ask([S, user("a")], "A")
    title = [system("Make a title."), user("User: a\nAssistant: A")]
    assert chat.ask(title, "About a") == [
        "3 system: Make a title. (thread 1)",
        "4 user: User: a\nAssistant: A (thread 1)",
        "5 assistant: About a (thread 1)",
    ]
    assert chat.ask([S, user("a"), assistant("A"), user("b")], "B") == ["6 user: b", "7 assistant: B"]


def test_agents_that_take_turns() -> None:
    """Each agent's system text is recorded once, where it first appears; the talk that they share is one."""
    chat = Chat()
    sales, support = system("You are sales."), system("You are support.")
    talk = [user("a")]
    assert chat.ask([sales, *talk], "A") == ["0 system: You are sales.", "1 user: a", "2 assistant: A"]
    talk += [assistant("A"), user("b")]
    assert chat.ask([support, *talk], "B") == ["3 system: You are support.", "4 user: b", "5 assistant: B"]
    talk += [assistant("B"), user("c")]
    assert chat.ask([sales, *talk], "C") == ["6 user: c", "7 assistant: C"]
    talk += [assistant("C"), user("d")]
    assert chat.ask([support, *talk], "D") == ["8 user: d", "9 assistant: D"]


def test_a_system_text_that_changes_with_every_call() -> None:
    """Instructions with the time of day in them are recorded each time, and nothing else twice."""
    chat, talk, lines = Chat(), [], []
    for n in range(3):
        talk.append(user(f"q{n}"))
        lines += chat.ask([system(f"It is {n} o'clock."), *talk], f"a{n}")
        talk.append(assistant(f"a{n}"))
    assert lines == [
        "0 system: It is 0 o'clock.",
        "1 user: q0",
        "2 assistant: a0",
        "3 system: It is 1 o'clock.",
        "4 user: q1",
        "5 assistant: a1",
        "6 system: It is 2 o'clock.",
        "7 user: q2",
        "8 assistant: a2",
    ]


def test_several_system_messages() -> None:
    """System messages anywhere in the request are each recorded once, in order; a doubled one is one."""
    chat = Chat()
    rules, data = system("Rules."), {"role": "developer", "content": [{"type": "text", "text": "Data."}]}
    assert chat.ask([rules, data, rules, user("a")], "A") == [
        "0 system: Rules.",
        "1 system: Data.",
        "2 user: a",
        "3 assistant: A",
    ]
    late = [rules, data, user("a"), assistant("A"), system("Hurry."), user("b")]
    assert chat.ask(late, "B") == ["4 system: Hurry.", "5 user: b", "6 assistant: B"]


def test_instructions_beside_the_messages() -> None:
    """Responses' `instructions` are a system message, once while they are the same."""
    chat = Chat()
    assert chat.ask([user("a")], "A", instructions="I.") == ["0 system: I.", "1 user: a", "2 assistant: A"]
    assert chat.ask([user("a"), assistant("A"), user("b")], "B", instructions="I.") == [
        "3 user: b",
        "4 assistant: B",
    ]
    other = [user("a"), assistant("A"), user("b"), assistant("B"), user("c")]
    assert chat.ask(other, "C", instructions="J.") == ["5 system: J.", "6 user: c", "7 assistant: C"]


# -- beginnings ------------------------------------------------------------------------------------------------------


def test_examples_in_the_first_request() -> None:
    """Few-shot examples are part of the conversation, once."""
    chat = Chat()
    shots = [S, user("1+1"), assistant("2"), user("2+2"), assistant("4")]
    assert chat.ask([*shots, user("3+3")], "6") == [
        "0 system: Be kind.",
        "1 user: 1+1",
        "2 assistant: 2",
        "3 user: 2+2",
        "4 assistant: 4",
        "5 user: 3+3",
        "6 assistant: 6",
    ]
    assert chat.ask([*shots, user("3+3"), assistant("6"), user("4+4")], "8") == ["7 user: 4+4", "8 assistant: 8"]


def test_a_chat_that_begins_with_the_assistant() -> None:
    """A greeting that no call has made is recorded with the first request."""
    chat = Chat()
    assert chat.ask([assistant("Welcome!"), user("a")], "A") == ["0 assistant: Welcome!", "1 user: a", "2 assistant: A"]
    assert chat.ask([assistant("Welcome!"), user("a"), assistant("A"), user("b")], "B") == [
        "3 user: b",
        "4 assistant: B",
    ]


def test_joining_a_session_that_another_process_has_begun() -> None:
    """Messages up to the last reply are marked as already known: they are sent only if this process is the opener."""
    chat = Chat(shared=True)
    assert chat.ask([S, user("a"), assistant("A"), user("b")], "B") == [
        "0 system: Be kind. (learned)",
        "1 user: a (learned)",
        "2 assistant: A (learned)",
        "3 user: b",
        "4 assistant: B",
    ]
    assert chat.ask([S, user("a"), assistant("A"), user("b"), assistant("B"), user("c")], "C") == [
        "5 user: c",
        "6 assistant: C",
    ]


def test_joining_with_the_result_of_a_tool() -> None:
    """A tool that ran in this process answers a call that another one received."""
    chat = Chat(shared=True)
    lines = chat.ask([user("a"), assistant(None, call("c1")), result("c1", "found")], "A")
    assert lines == [
        "0 user: a (learned)",
        "1 assistant: [c1/search] (learned)",
        "2 tool c1/search: found",
        "3 assistant: A",
    ]


def test_joining_without_history() -> None:
    """Where only the new question is sent, the instructions alone are what the session knows already."""
    assert Chat(shared=True).ask([S, user("b")], "B") == [
        "0 system: Be kind. (learned)",
        "1 user: b",
        "2 assistant: B",
    ]
    assert Chat(shared=True).ask([user("b")], "B", previous="resp_1", instructions="I.") == [
        "0 system: I. (learned)",
        "1 user: b",
        "2 assistant: B",
    ]


def test_a_session_that_moves_between_processes() -> None:
    """What another process answered is its to record; what follows it, and a system text of ours, is ours."""
    chat = Chat(shared=True)
    assert chat.ask([S, user("a")], "A") == ["0 system: Be kind. (learned)", "1 user: a", "2 assistant: A"]
    elsewhere = [
        S,
        user("a"),
        assistant("A"),
        user("b"),
        assistant(None, call("c1")),
        result("c1", "x"),
        assistant("B"),
    ]
    assert chat.ask([*elsewhere, user("c")], "C") == ["7 user: c", "8 assistant: C"]
    late = [system("Hurry."), *elsewhere[1:], user("c"), assistant("C"), user("d")]
    assert chat.ask(late, "D", instructions="I.") == [
        "9 system: I.",
        "10 system: Hurry.",
        "11 user: d",
        "12 assistant: D",
    ]


def test_a_process_that_has_only_called_for_a_tool() -> None:
    """A call that another process received is not ours either; its result is, where it is the newest."""
    chat = Chat(shared=True)
    chat.ask([user("a")], "A")
    history = [user("a"), assistant("A"), user("b"), assistant(None, call("c1")), result("c1", "x")]
    assert chat.ask(history, "B") == ["4 tool c1/search: x", "5 assistant: B"]


# -- previous_response_id --------------------------------------------------------------------------------------------


def test_a_request_that_names_what_it_continues_is_all_new() -> None:
    """With `previous_response_id` the input is new, even where it repeats a text."""
    chat = Chat()
    assert chat.ask([user("again")], "A", response_id="r1", instructions="I.") == [
        "0 system: I.",
        "1 user: again",
        "2 assistant: A",
    ]
    assert chat.ask([user("again")], "B", previous="r1", response_id="r2", instructions="I.") == [
        "3 user: again",
        "4 assistant: B",
    ]
    assert chat.ask([user("again")], "C", previous="r2") == ["5 user: again", "6 assistant: C"]


def test_a_named_request_that_fails_and_is_retried() -> None:
    """The retry of a failed request brings only its answer, but the same words after it are new."""
    chat = Chat()
    chat.ask([user("a")], "A", response_id="r1")
    assert chat.fail([user("b")], previous="r1") == ["2 user: b"]
    assert chat.fail([user("b")], previous="r1") == []
    assert chat.ask([user("b")], "B", previous="r1", response_id="r2") == ["3 assistant: B"]
    assert chat.ask([user("b")], "B", previous="r2") == ["4 user: b", "5 assistant: B"]
    assert chat.ask([user("b")], "B", previous="r1") == ["6 user: b", "7 assistant: B"]


def test_a_named_request_stays_in_its_thread() -> None:
    """An answer's id says which thread goes on."""
    chat = Chat()
    chat.ask([S, user("a")], "A", response_id="r1")
    chat.ask([ROUTER, user("b")], "sales", response_id="r2")
    assert chat.ask([user("c")], "support", previous="r2") == [
        "6 user: c (thread 1)",
        "7 assistant: support (thread 1)",
    ]
    assert chat.ask([user("d")], "D", previous="r1") == ["8 user: d", "9 assistant: D"]
    assert chat.ask([user("e")], "E", previous="never seen") == ["10 user: e", "11 assistant: E"]


# -- odd input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("odd", [None, 7, "text", [], {}, {"content": "no role"}, {"role": None}, {"role": ["user"]}])
def test_odd_messages_say_nothing(odd: object) -> None:
    """What is no message is passed over, before, between and after messages, and breaks nothing."""
    chat = Chat()
    assert chat.ask([odd, S, odd, user("a"), odd], "A") == ["0 system: Be kind.", "1 user: a", "2 assistant: A"]
    assert chat.ask([odd, S, odd, user("a"), odd, assistant("A"), user("b")], "B") == ["3 user: b", "4 assistant: B"]


def test_no_messages_at_all() -> None:
    """A request without messages (a prompt template) has an answer all the same, and does not replace the last one."""
    chat = Chat()
    assert chat.ask([], "A") == ["0 assistant: A"]
    assert chat.ask([], "B") == ["1 assistant: B"]
    assert chat.ask([user("a")], "C") == ["2 user: a", "3 assistant: C"]


def test_empty_words_are_recorded() -> None:
    """An empty text of a user is recorded; an empty answer is recorded once, and not again when it is resent."""
    chat = Chat()
    assert chat.ask([user("")], "") == ["0 user:", "1 assistant:"]
    assert chat.ask([user(""), assistant(""), user("a")], "A") == ["2 user: a", "3 assistant: A"]
    assert chat.ask([user(""), assistant(None), user("a"), assistant("A"), user("b")], "B") == [
        "4 user: b",
        "5 assistant: B",
    ]


def test_many_histories_side_by_side() -> None:
    """A hundred side calls with system texts of their own leave the chat recognisable."""
    chat = Chat()
    chat.ask([S, user("a")], "A")
    for n in range(100):
        assert len(chat.ask([system(f"Agent {n}."), user(f"task {n}")], f"done {n}")) == 3
    lines = chat.ask([S, user("a"), assistant("A"), user("b")], "B")
    assert lines == ["303 user: b", "304 assistant: B"]
    assert chat.ask([system("Agent 99."), user("task 99"), assistant("done 99"), user("more")], "ok") == [
        "305 user: more (thread 100)",
        "306 assistant: ok (thread 100)",
    ]


def test_looking_records_nothing() -> None:
    """Beginning a call that never ends leaves no trace."""
    chat = Chat()
    chat.begin([S, user("a")])
    assert chat.ask([S, user("a")], "A") == ["0 system: Be kind.", "1 user: a", "2 assistant: A"]


def test_the_answer_is_marked() -> None:
    """Messages of the answer are marked, so that they can be distinguished from those of the request."""
    from converra.history.fold import fold

    chat = Chat()
    new = fold(chat.record, chat.begin([S, assistant("example"), user("a")]), answered("A"))
    assert [(h.source.text, h.answer) for h in new] == [
        ("Be kind.", False),
        ("example", False),
        ("a", False),
        ("A", True),
    ]
