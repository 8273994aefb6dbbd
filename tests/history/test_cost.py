"""What a call costs its caller, counted instead of timed: steps of Python, and messages that are read."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.history.talk import Chat, Message, assistant, system, user

if TYPE_CHECKING:
    from collections.abc import Callable

SHORT, LONG = 10, 400


def echoed(answer: str) -> str:
    return answer


def stripped(answer: str) -> str:
    return answer + "\n"


def without_thoughts(answer: str) -> str:
    return f"<think>Hm.</think>{answer}"


def steps(work: Callable[[], Any]) -> int:
    """How many functions of Python run."""
    count = 0

    def note(_: Any, event: str, __: Any) -> None:
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    gc.disable()  # other tests leave finalizers behind, which are functions too
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
        gc.enable()
    return count


@pytest.mark.parametrize("resent", [echoed, stripped, without_thoughts])
def test_call_n_of_a_growing_chat_takes_as_many_steps_as_any_other(resent: Callable[[str], str]) -> None:
    """Of a resent message nothing is done but one look, which is a step of all of them together."""
    chat, history = Chat(), [system("Be kind.")]
    counts: dict[int, int] = {}
    while len(history) <= LONG:
        history.append(user(f"Question {len(history)}?"))
        answer = f"Answer {len(history)}."
        counts[len(history)] = steps(lambda: chat.ask(history, answer))  # noqa: B023 - called at once
        history.append(assistant(resent(answer)))
    assert counts[SHORT] == counts[LONG]


def test_a_window_over_a_long_chat_costs_what_the_window_does() -> None:
    """A record of hundreds of messages makes no call dearer that resends the last few."""
    chat, history = Chat(), [system("Be kind.")]
    counts: dict[int, int] = {}
    while len(history) <= LONG:
        history.append(user(f"Question {len(history)}?"))
        answer = f"Answer {len(history)}."
        counts[len(history)] = steps(lambda: chat.ask([history[0], *history[-5:]], answer))  # noqa: B023 - called at once
        history.append(assistant(answer))
    assert counts[LONG] == counts[SHORT + 10]


def test_only_what_is_new_is_read() -> None:
    """Reading a message takes it apart; those that were recorded are not."""
    chat = Chat()
    read: list[Message] = []

    def reading(message: Message) -> Any:
        read.append(message)
        return whole(message)

    whole = chat.dialect.read
    chat.dialect = chat.dialect._replace(read=reading)
    history = [system("Be kind.")]
    for number in range(LONG // 2):
        history.append(user(f"Question {number}?"))
        chat.ask(history, f"Answer {number}.")
        history.append(assistant(f"Answer {number}."))
    assert read == [history[0], *history[1::2]]
