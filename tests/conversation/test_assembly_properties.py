"""Whatever an app does with its history: everything that was said is recorded, once, in order."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import hypothesis.strategies as st
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from converra.conversation.assembly import fold
from tests.conversation.talk import Chat, Message, answered, assistant, call, result, system, user

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from converra.conversation.turn import Answer

DRESSES: tuple[Callable[[Message], Message], ...] = (
    lambda m: m,
    lambda m: json.loads(json.dumps(m)),
    lambda m: m | {"refusal": None, "annotations": []},
    lambda m: dict(reversed(m.items())),
    lambda m: m | {"content": (m["content"] or "") + " "},
)


class Node:
    """One message of the model chat. It is told from others by identity, not by its words."""

    def __init__(self, message: Message, parent: Node | None) -> None:
        self.message = message
        self.parent = parent
        self.recorded = False

    def path(self) -> list[Node]:
        before = self.parent.path() if self.parent else []
        return [*before, self]


def words(message: Message) -> tuple[str, str, tuple[str, ...]]:
    """What identifies a message in the record: its role, its words, the ids of its calls or of the call it answers."""
    ids = [c["id"] for c in message.get("tool_calls") or ()] or [message.get("tool_call_id")]
    return message["role"], message["content"] or "", tuple(str(i) for i in ids if i)


class ModelChat(RuleBasedStateMachine):
    """A chat as an app drives it; the record must agree with it after every call."""

    def __init__(self) -> None:
        super().__init__()
        self.chat = Chat()
        self.numbers = iter(range(1_000_000))
        self.first = Node(system("Rules."), None)
        self.here = self.first
        """The last message of the branch that the user looks at."""
        self.ends: list[Node] = [self.first]
        """The last messages of all branches."""
        self.heard: list[tuple[str, str, tuple[str, ...]]] = []
        self.expected: list[tuple[str, str, tuple[str, ...]]] = []

    # -- how words and ids are made -----------------------------------------------------------------------------------

    def word(self) -> str:
        return f"words {next(self.numbers)}"

    def call_id(self) -> str:
        return f"call_{next(self.numbers)}"

    # -- one call -----------------------------------------------------------------------------------------------------

    def say(self, message: Message) -> None:
        self.here = Node(message, self.here)

    def ask(self, answer: Message | None, sent: Sequence[Node] | None = None, dress: int = 0) -> None:
        """Make a call that sends these messages and brings this answer; None: it fails."""
        path = list(sent or self.here.path())
        dressed = [DRESSES[dress](node.message) if node is not path[-1] else node.message for node in path]
        said = None if answer is None else self._answer(answer)
        heard = fold(self.chat.record, self.chat.begin(dressed), said)
        self.heard += [_heard_words(h.said) for h in heard]
        self.expected += [words(node.message) for node in path if not node.recorded]
        for node in path:
            node.recorded = True
        if answer is not None:
            self.expected.append(words(answer))
            self.here = Node(answer, path[-1])
            self.here.recorded = True
            self.ends.append(self.here)

    def _answer(self, message: Message) -> Answer:
        return answered(*filter(None, (message["content"],)), *message.get("tool_calls", ()))

    @invariant()
    def everything_is_recorded_once_and_in_order(self) -> None:
        assert self.heard == self.expected

    # -- what users and apps do ---------------------------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        self.say(user(self.word()))
        self.ask(assistant(self.word()))

    @rule(dress=st.integers(0, len(DRESSES) - 1))
    def go_on(self, dress: int) -> None:
        self.say(user(self.word()))
        self.ask(assistant(self.word()), dress=dress)

    @rule(dress=st.integers(0, len(DRESSES) - 1), count=st.integers(1, 3), silent=st.booleans(), data=st.data())
    def use_tools(self, dress: int, count: int, *, silent: bool, data: st.DataObject) -> None:
        calls = [call(self.call_id(), data.draw(st.sampled_from(["find", "pay"]))) for _ in range(count)]
        self.say(user(self.word()))
        self.ask(assistant(None if silent else self.word(), *calls), dress=dress)
        for made in data.draw(st.permutations(calls)):
            self.say(result(made["id"], self.word()))
        self.ask(assistant(self.word()), dress=dress)

    @rule(times=st.integers(1, 2))
    def fail_and_retry(self, times: int) -> None:
        self.say(user(self.word()))
        for _ in range(times):
            self.ask(None)
        self.ask(assistant(self.word()))

    @rule()
    def write_twice(self) -> None:
        self.say(user(self.word()))
        self.say(user(self.word()))
        self.ask(assistant(self.word()))


class GrowingChat(ModelChat):
    """Only growing lists, so that words and ids may repeat in any way."""

    one_id = False

    @initialize(one_id=st.booleans())
    def begin_again(self, *, one_id: bool) -> None:
        self.one_id = one_id

    def word(self) -> str:
        return ("yes", "no", "yes")[next(self.numbers) % 3]

    def call_id(self) -> str:
        return "call_0" if self.one_id else super().call_id()


class FreeChat(ModelChat):
    """Windows, branches, side calls, parallel calls: each text is said once, so that everything can be told apart."""

    @rule(keep=st.integers(1, 6), fails=st.booleans())
    def window(self, keep: int, *, fails: bool) -> None:
        self.say(user(self.word()))
        sent = self.here.path()
        sent = [sent[0], *sent[1:][-keep:]]
        if fails:
            self.ask(None, sent)
        self.ask(assistant(self.word()), sent)

    @rule(data=st.data())
    def leave_out(self, data: st.DataObject) -> None:
        """Whole turns are left out: from a question to the last word before the next one."""
        self.say(user(self.word()))
        sent: list[Node] = []
        kept = True
        for node in self.here.path():
            if node.message["role"] == "user":
                kept = node is self.here or data.draw(st.booleans())
            sent += [node] if kept else []
        self.ask(assistant(self.word()), sent)

    @rule()
    @precondition(lambda self: self.here.parent)
    def regenerate(self) -> None:
        self.here = self.here.parent  # type: ignore[assignment]  # an answer always has one
        self.ask(assistant(self.word()))

    @rule(data=st.data())
    def edit(self, data: st.DataObject) -> None:
        questions = [node for node in self.here.path() if node.message["role"] == "user"]
        question = data.draw(st.sampled_from(questions))
        self.here = question.parent  # type: ignore[assignment]  # the system text comes first
        self.say(user(self.word()))
        self.ask(assistant(self.word()))

    @rule(data=st.data())
    def go_back(self, data: st.DataObject) -> None:
        self.here = data.draw(st.sampled_from(self.ends[1:]))
        self.say(user(self.word()))
        self.ask(assistant(self.word()))

    @rule(both=st.booleans(), turned=st.booleans())
    def side_by_side(self, *, both: bool, turned: bool) -> None:
        start = self.here
        sides = [Node(user(self.word()), start) for _ in range(2)]
        views = [self.chat.begin([node.message for node in side.path()]) for side in sides]
        answers = [assistant(self.word()) for _ in sides]
        for n in (1, 0) if turned else (0, 1):
            heard = fold(self.chat.record, views[n], self._answer(answers[n]))
            self.heard += [_heard_words(h.said) for h in heard]
            self.expected += [words(sides[n].message), words(answers[n])]
            sides[n].recorded = True
        self.here = start
        for side, answer in zip(sides, answers, strict=True):
            for message in (side.message, answer):
                self.say(message)
                self.here.recorded = True
            self.here = self.here if both else start
        self.say(user(self.word()))
        self.ask(assistant(self.word()))

    @rule(share=st.booleans())
    def side_call(self, *, share: bool) -> None:
        """A router reads the user's next words before the chat does."""
        here = self.here
        question = Node(user(self.word()), here)
        rules = Node(system(f"Route {next(self.numbers) % 2 + 1}." if share else self.word()), None)
        rules.recorded = words(rules.message) in self.heard
        self.ask(assistant(self.word()), [rules, question])
        self.ends.pop()
        self.here = question
        self.ask(assistant(self.word()))

    @rule()
    def another_system_text(self) -> None:
        self.say(user(self.word()))
        self.ask(assistant(self.word()), [Node(system(self.word()), None), *self.here.path()[1:]])


def _heard_words(said: Any) -> tuple[str, str, tuple[str, ...]]:
    ids = [c.id for c in said.calls] or [said.call_id]
    return said.role, said.text.strip(), tuple(filter(None, ids))


TestGrowingChat = GrowingChat.TestCase
TestGrowingChat.settings = settings(max_examples=60, stateful_step_count=12, deadline=None)
TestFreeChat = FreeChat.TestCase
TestFreeChat.settings = settings(max_examples=150, stateful_step_count=12, deadline=None)


# -- words that repeat, in windows -------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["yes", "no", "hm"]), st.sampled_from(["Go on?", "Stop?"]), st.integers(1, 7)))
)
def test_a_window_over_repeated_words_neither_doubles_nor_loses_a_text(turns: list[tuple[str, str, int]]) -> None:
    """Where a short window leaves open which "yes" is meant, each text is there, none more often than it was said."""
    chat, heard = Chat(), Counter[str]()
    history: list[Message] = []
    for question, answer, width in turns:
        history.append(user(question))
        heard.update(h.said.text for h in fold(chat.record, chat.begin(history[-width:]), answered(answer)))
        history.append(assistant(answer))
    said = Counter(message["content"] for message in history)
    assert heard <= said
    assert heard.keys() == said.keys()


# -- anything at all ---------------------------------------------------------------------------------------------------

TEXTS = st.one_of(st.sampled_from(["", " ", "yes", "Observation: yes"]), st.text(max_size=5))
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-2, 2), st.floats(), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)
PARTS = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": st.one_of(TEXTS, JSON)}),
    st.fixed_dictionaries(
        {"type": st.just("image_url"), "image_url": st.one_of(JSON, st.fixed_dictionaries({"url": TEXTS}))}
    ),
    JSON,
)
CALLS = st.one_of(
    st.fixed_dictionaries(
        {
            "id": st.one_of(st.none(), st.sampled_from(["call_0", "c1"]), JSON),
            "function": st.one_of(
                JSON, st.fixed_dictionaries({"name": st.one_of(TEXTS, JSON), "arguments": st.one_of(TEXTS, JSON)})
            ),
        }
    ),
    JSON,
)
MESSAGES = st.one_of(
    st.fixed_dictionaries(
        {"role": st.one_of(st.sampled_from(["system", "developer", "user", "assistant", "tool", "function"]), JSON)},
        optional={
            "content": st.one_of(TEXTS, st.lists(PARTS, max_size=3), JSON),
            "tool_calls": st.one_of(st.lists(CALLS, max_size=3), JSON),
            "function_call": JSON,
            "tool_call_id": st.one_of(st.sampled_from(["call_0", "c1"]), JSON),
            "name": JSON,
            "refusal": JSON,
            "audio": JSON,
        },
    ),
    JSON,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.lists(MESSAGES, max_size=6), st.booleans()), max_size=5))
def test_any_json_is_taken(requests: list[tuple[list[Any], bool]]) -> None:
    """No request breaks anything, one that is sent again is not recorded again, and every answer is."""
    chat = Chat()
    for messages, fails in requests:
        fold(chat.record, chat.begin(messages), None)
        again = fold(chat.record, chat.begin(messages), None if fails else answered("yes"))
        assert [h.said.text for h in again] == ([] if fails else ["yes"])


@settings(max_examples=200, deadline=None)
@given(st.lists(MESSAGES, max_size=6), st.lists(MESSAGES, max_size=3), st.booleans())
def test_any_json_is_recognised_when_it_is_resent(first: list[Any], more: list[Any], changed: bool) -> None:
    """Whatever was sent is old when it is sent again with its answer, also after a round trip through JSON."""
    chat = Chat()
    fold(chat.record, chat.begin(first), answered("an answer"))
    resent = json.loads(json.dumps(first)) if changed else first
    assert fold(chat.record, chat.begin([*resent, assistant("an answer")]), None) == []
    assert (
        fold(chat.record, chat.begin([*resent, assistant("an answer"), *more, user("and now?")]), None)[-1].said.text
        == "and now?"
    )
