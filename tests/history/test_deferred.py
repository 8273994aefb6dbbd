"""Messages that are parsed by the fold are recorded as those that are read when the call begins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.history.fold import fold
from converra.history.record import Record, put_off, take_snapshot
from converra.history.turn import DeferredMessages, Request
from converra.integrations.openai.chat import CHAT
from tests.history.talk import answered, assistant, call, line, result, system, user

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converra.history.record import Snapshot

Message = dict[str, Any]

A, B, C = user("Where is it?"), user("Thank you!"), user("Where is it?")
WORK = [system("Be brief."), A, assistant(None, call("c1")), result("c1", "late")]
CALLS: tuple[tuple[Sequence[Message], str | Message], ...] = (
    ([system("Be brief."), A], call("c1")),
    (WORK, "It is late."),
    ([*WORK, assistant("It is late."), B], "You are welcome."),
    ([*WORK[:2], assistant("It is late."), user("And now?")], "Still late."),  # trimmed
    ([user("Judge this: late")], "fine"),  # a side call
    ([*WORK, assistant("It is late."), B, assistant("You are welcome."), C], "It is late."),  # said again on purpose
    ([*WORK, assistant("It is late."), user("Thanks.")], "Bye."),  # an edited turn
)


class Talk:
    """One conversation; `deferred` says how its requests are read."""

    def __init__(self, *, deferred: bool) -> None:
        self.record = Record()
        self.loaded: list[int] = []
        self._deferred = deferred
        self._ended = 0

    def begin(self, messages: Sequence[Message]) -> Snapshot:
        if not self._deferred:
            return take_snapshot(self.record, Request(CHAT, messages), turns=self._ended)

        def load() -> Sequence[Message]:
            self.loaded.append(len(messages))
            return messages

        unread = DeferredMessages(load, 99)
        snapshot = put_off(Request(CHAT, unread), unread, self._ended)
        assert snapshot.weight == 99
        return snapshot

    def end(self, snapshot: Snapshot, answer: str | Message) -> list[str]:
        self._ended += 1
        return [line(new) for new in fold(self.record, snapshot, answered(answer))]


def test_one_after_the_other() -> None:
    """Each request is parsed once, by its fold, and brings the same new messages."""
    plain, deferred = Talk(deferred=False), Talk(deferred=True)
    for number, (messages, answer) in enumerate(CALLS):
        snapshot = deferred.begin(messages)
        assert len(deferred.loaded) == number
        assert deferred.end(snapshot, answer) == plain.end(plain.begin(messages), answer)
    assert deferred.loaded == [len(messages) for messages, _ in CALLS]


def test_all_at_once() -> None:
    """Calls that are under way at the same time are recorded in the order of their ends, however they are read."""
    plain, deferred = Talk(deferred=False), Talk(deferred=True)
    lines = []
    for talk in (plain, deferred):
        talk.end(talk.begin([system("Be brief."), A]), "Late.")
        history = [system("Be brief."), A, assistant("Late.")]
        open_calls = [talk.begin([*history, user(f"Question {number}?")]) for number in range(3)]
        open_calls.append(talk.begin(history[:2]))
        lines.append(
            [talk.end(snapshot, f"Answer {number}") for number, snapshot in reversed([*enumerate(open_calls)])]
        )
    assert lines[0] == lines[1]
    assert lines[0][1:] == [
        [f"{at} user: Question {number}?", f"{at + 1} assistant: Answer {number}"]
        for at, number in ((4, 2), (6, 1), (8, 0))
    ]
