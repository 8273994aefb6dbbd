"""A chat as an app drives it, and everything that apps do with a history: a model to hold a record against."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any, Protocol

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from tests.history.talk import Message, assistant, call, result, system, user

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Words = tuple[str, str, tuple[str, ...]]
    Draw = Callable[[Any], Any]

DRESSES: tuple[Callable[[Message], Message], ...] = (
    lambda m: m,
    lambda m: json.loads(json.dumps(m)),
    lambda m: m | {"refusal": None, "annotations": []},
    lambda m: dict(reversed(m.items())),
    lambda m: m | {"content": (m["content"] or "") + " "},
)


class Talk(Protocol):
    """One conversation, in which a chat makes its calls."""

    def call(self, messages: Sequence[Message], answer: Message | None) -> None:
        """Make a call that brings this answer; None: it fails."""

    def side_by_side(self, requests: Sequence[Sequence[Message]], answers: Sequence[Message], first: int) -> None:
        """Make two calls that are under way at the same time; one of them is answered first."""


class Node:
    """One message of a chat. It is told from others by identity, not by its words."""

    def __init__(self, message: Message, parent: Node | None) -> None:
        self.message = message
        self.parent = parent
        self.recorded = False

    def path(self) -> list[Node]:
        before = self.parent.path() if self.parent else []
        return [*before, self]


def words(message: Message) -> Words:
    """What identifies a message in the record: its role, its words, the ids of its calls or of the call it answers."""
    ids = [c["id"] for c in message.get("tool_calls") or ()] or [message.get("tool_call_id")]
    return message["role"], message["content"] or "", tuple(str(i) for i in ids if i)


class ModelChat:
    """A chat in a talk. `expected` is what has to be recorded of it, in order.

    One that is `found` by its history alone always resends an answer, once there was one.
    """

    def __init__(
        self,
        talk: Talk,
        numbers: Iterator[int] | None = None,
        *,
        found: bool = False,
        repeats: bool = False,
        one_id: bool = False,
    ) -> None:
        self.talk = talk
        self.numbers = numbers or itertools.count()
        self._found = found
        self._repeats = repeats
        self._one_id = one_id
        self.expected: list[Words] = []
        self.first = Node(system("Rules."), None)
        self.here = self.first
        """The last message of the branch that the user looks at."""
        self.ends: list[Node] = [self.first]
        """The last messages of all branches."""
        self.go_on(0)

    def expected_words(self) -> list[Words]:
        """As the API stores them: an answer that only calls tools is a tool's message (contract, section 3)."""
        return [("tool" if role == "assistant" and not text else role, text, ids) for role, text, ids in self.expected]

    def word(self) -> str:
        number = next(self.numbers)
        return ("yes", "no", "yes")[number % 3] if self._repeats else f"words {number}"

    def call_id(self) -> str:
        return "call_0" if self._one_id else f"call_{next(self.numbers)}"

    # -- one call ----------------------------------------------------------------------------------------------------

    def record_tool_result(self, message: Message) -> None:
        self.here = Node(message, self.here)

    def ask(self, answer: Message | None, sent: Sequence[Node] | None = None, dress: int = 0) -> None:
        """Make a call that sends these messages and brings this answer; None: it fails."""
        path = list(sent or self.here.path())
        if self._found and sum(node.message["role"] == "assistant" for node in path) == 0:
            path = self.here.path()
        self.talk.call(
            [DRESSES[dress](node.message) if node is not path[-1] else node.message for node in path], answer
        )
        self.expected += [words(node.message) for node in path if not node.recorded]
        for node in path:
            node.recorded = True
        if answer is not None:
            self.expected.append(words(answer))
            self.here = Node(answer, path[-1])
            self.here.recorded = True
            self.ends.append(self.here)

    # -- what users and apps do with a growing list ------------------------------------------------------------------

    def go_on(self, dress: int) -> None:
        self.record_tool_result(user(self.word()))
        self.ask(assistant(self.word()), dress=dress)

    def use_tools(self, dress: int, count: int, *, silent: bool, draw: Draw) -> None:
        calls = [call(self.call_id(), draw(st.sampled_from(["find", "pay"]))) for _ in range(count)]
        self.record_tool_result(user(self.word()))
        self.ask(assistant(None if silent else self.word(), *calls), dress=dress)
        for made in draw(st.permutations(calls)):
            self.record_tool_result(result(made["id"], self.word()))
        self.ask(assistant(self.word()), dress=dress)

    def fail_and_retry(self, times: int) -> None:
        self.record_tool_result(user(self.word()))
        for _ in range(times):
            self.ask(None)
        self.ask(assistant(self.word()))

    def write_twice(self) -> None:
        self.record_tool_result(user(self.word()))
        self.record_tool_result(user(self.word()))
        self.ask(assistant(self.word()))

    # -- windows, branches, side calls: each text is said once, so that everything can be told apart -----------------

    def window(self, keep: int, *, fails: bool) -> None:
        self.record_tool_result(user(self.word()))
        sent = self.here.path()
        sent = [sent[0], *sent[1:][-keep:]]
        if fails:
            self.ask(None, sent)
        self.ask(assistant(self.word()), sent)

    def leave_out(self, draw: Draw) -> None:
        """Whole turns are left out: from a question to the last word before the next one."""
        self.record_tool_result(user(self.word()))
        sent: list[Node] = []
        kept = True
        for node in self.here.path():
            if node.message["role"] == "user":
                kept = node is self.here or draw(st.booleans())
            sent += [node] if kept else []
        self.ask(assistant(self.word()), sent)

    def regenerate(self) -> None:
        question = self.here.parent
        if question is not None and self._is_findable(question):
            self.here = question
            self.ask(assistant(self.word()))

    def edit(self, draw: Draw) -> None:
        questions = [node for node in self.here.path() if node.message["role"] == "user"]
        questions = [node for node in questions if self._is_findable(node)]
        if questions:
            question = draw(st.sampled_from(questions))
            self.here = question.parent
            self.go_on(0)

    def _is_findable(self, question: Node) -> bool:
        return not self._found or any(node.message["role"] == "assistant" for node in question.path())

    def go_back(self, draw: Draw) -> None:
        self.here = draw(st.sampled_from(self.ends[1:]))
        self.go_on(0)

    def side_by_side(self, *, both: bool, turned: bool) -> None:
        start = self.here
        sides = [Node(user(self.word()), start) for _ in range(2)]
        answers = [assistant(self.word()) for _ in sides]
        self.talk.side_by_side([[node.message for node in side.path()] for side in sides], answers, int(turned))
        for n in (1, 0) if turned else (0, 1):
            self.expected += [words(sides[n].message), words(answers[n])]
        self.here = start
        for side, answer in zip(sides, answers, strict=True):
            for message in (side.message, answer):
                self.record_tool_result(message)
                self.here.recorded = True
            self.here = self.here if both else start
        self.go_on(0)

    def side_call(self, *, share: bool) -> None:
        """A router reads the user's next words before the chat does."""
        here = self.here
        question = Node(user(self.word()), here)
        rules = Node(system(f"Route {next(self.numbers) % 2 + 1}." if share else self.word()), None)
        rules.recorded = words(rules.message) in self.expected
        self.ask(assistant(self.word()), [rules, question])
        self.ends.pop()
        self.here = question
        self.ask(assistant(self.word()))

    def another_system_text(self) -> None:
        self.record_tool_result(user(self.word()))
        self.ask(assistant(self.word()), [Node(system(self.word()), None), *self.here.path()[1:]])


ANY_DRESS = st.integers(0, len(DRESSES) - 1)


class Growing(RuleBasedStateMachine):
    """Growing lists, in one chat or in several."""

    chats: list[ModelChat]

    def some(self, data: st.DataObject) -> ModelChat:
        return self.chats[0] if len(self.chats) == 1 else data.draw(st.sampled_from(self.chats))

    @rule(data=st.data(), dress=ANY_DRESS)
    def go_on(self, data: st.DataObject, dress: int) -> None:
        self.some(data).go_on(dress)

    @rule(data=st.data(), dress=ANY_DRESS, count=st.integers(1, 3), silent=st.booleans())
    def use_tools(self, data: st.DataObject, dress: int, count: int, *, silent: bool) -> None:
        self.some(data).use_tools(dress, count, silent=silent, draw=data.draw)

    @rule(data=st.data(), times=st.integers(1, 2))
    def fail_and_retry(self, data: st.DataObject, times: int) -> None:
        self.some(data).fail_and_retry(times)

    @rule(data=st.data())
    def write_twice(self, data: st.DataObject) -> None:
        self.some(data).write_twice()


class Free(Growing):
    """Windows, branches, side calls and parallel calls as well."""

    @rule(data=st.data(), keep=st.integers(1, 6), fails=st.booleans())
    def window(self, data: st.DataObject, keep: int, *, fails: bool) -> None:
        self.some(data).window(keep, fails=fails)

    @rule(data=st.data())
    def leave_out(self, data: st.DataObject) -> None:
        self.some(data).leave_out(data.draw)

    @rule(data=st.data())
    def regenerate(self, data: st.DataObject) -> None:
        self.some(data).regenerate()

    @rule(data=st.data())
    def edit(self, data: st.DataObject) -> None:
        self.some(data).edit(data.draw)

    @rule(data=st.data())
    def go_back(self, data: st.DataObject) -> None:
        self.some(data).go_back(data.draw)

    @rule(data=st.data(), both=st.booleans(), turned=st.booleans())
    def side_by_side(self, data: st.DataObject, *, both: bool, turned: bool) -> None:
        self.some(data).side_by_side(both=both, turned=turned)

    @rule(data=st.data())
    def another_system_text(self, data: st.DataObject) -> None:
        self.some(data).another_system_text()
