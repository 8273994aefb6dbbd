"""Whatever an app does with its history: everything that was said is recorded, once, in order."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import hypothesis.strategies as st
from hypothesis import given, settings
from hypothesis.stateful import initialize, invariant, rule

from converra.history.fold import fold
from tests.effort import examples
from tests.history.model_chat import Free, Growing, ModelChat
from tests.history.talk import Chat, Message, answered, assistant, user

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converra.history.turn import Answer
    from tests.history.model_chat import Words


class FoldedTalk:
    """A talk whose calls are folded into a record."""

    def __init__(self) -> None:
        self.chat = Chat()
        self.new: list[Words] = []

    def call(self, messages: Sequence[Message], answer: Message | None) -> None:
        self._fold(self.chat.begin(messages), answer)

    def side_by_side(self, requests: Sequence[Sequence[Message]], answers: Sequence[Message], first: int) -> None:
        views = [self.chat.begin(messages) for messages in requests]
        for n in (first, 1 - first):
            self._fold(views[n], answers[n])

    def _fold(self, snapshot: Any, answer: Message | None) -> None:
        source = None if answer is None else _answer(answer)
        self.new += [_heard_words(new.source) for new in fold(self.chat.record, snapshot, source)]


def _answer(message: Message) -> Answer:
    return answered(*filter(None, (message["content"],)), *message.get("tool_calls", ()))


def _heard_words(source: Any) -> Words:
    ids = [c.id for c in source.calls] or [source.call_id]
    return source.role, source.text.strip(), tuple(filter(None, ids))


class GrowingChat(Growing):
    """Only growing lists, so that words and ids may repeat in any way."""

    @initialize(one_id=st.booleans())
    def begin(self, *, one_id: bool) -> None:
        self.talk = FoldedTalk()
        self.chats = [ModelChat(self.talk, repeats=True, one_id=one_id)]

    @invariant()
    def everything_is_recorded_once_and_in_order(self) -> None:
        assert self.talk.new == self.chats[0].expected


class FreeChat(Free):
    """Everything, but each text is said once."""

    @initialize()
    def begin(self) -> None:
        self.talk = FoldedTalk()
        self.chats = [ModelChat(self.talk)]

    @rule(share=st.booleans())
    def side_call(self, *, share: bool) -> None:
        self.chats[0].side_call(share=share)

    @invariant()
    def everything_is_recorded_once_and_in_order(self) -> None:
        assert self.talk.new == self.chats[0].expected


TestGrowingChat = GrowingChat.TestCase
TestGrowingChat.settings = settings(max_examples=examples(60), stateful_step_count=12, deadline=None)
TestFreeChat = FreeChat.TestCase
TestFreeChat.settings = settings(max_examples=examples(150), stateful_step_count=12, deadline=None)


# -- words that repeat, in windows -------------------------------------------------------------------------------------


@settings(max_examples=examples(200), deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["yes", "no", "hm"]), st.sampled_from(["Go on?", "Stop?"]), st.integers(1, 7)))
)
def test_a_window_over_repeated_words_neither_doubles_nor_loses_a_text(turns: list[tuple[str, str, int]]) -> None:
    """Where a short window leaves open which "yes" is meant, each text is there, none more often than it was said."""
    chat, new = Chat(), Counter[str]()
    history: list[Message] = []
    for question, answer, width in turns:
        history.append(user(question))
        new.update(h.source.text for h in fold(chat.record, chat.begin(history[-width:]), answered(answer)))
        history.append(assistant(answer))
    source = Counter(message["content"] for message in history)
    assert new <= source
    assert new.keys() == source.keys()


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


@settings(max_examples=examples(300), deadline=None)
@given(st.lists(st.tuples(st.lists(MESSAGES, max_size=6), st.booleans()), max_size=5))
def test_any_json_is_taken(requests: list[tuple[list[Any], bool]]) -> None:
    """No request breaks anything, one that is sent again is not recorded again, and every answer is."""
    chat = Chat()
    for messages, fails in requests:
        fold(chat.record, chat.begin(messages), None)
        again = fold(chat.record, chat.begin(messages), None if fails else answered("yes"))
        assert [h.source.text for h in again] == ([] if fails else ["yes"])


@settings(max_examples=examples(200), deadline=None)
@given(st.lists(MESSAGES, max_size=6), st.lists(MESSAGES, max_size=3), st.booleans())
def test_any_json_is_recognised_when_it_is_resent(first: list[Any], more: list[Any], changed: bool) -> None:
    """Whatever was sent is old when it is sent again with its answer, also after a round trip through JSON."""
    chat = Chat()
    fold(chat.record, chat.begin(first), answered("an answer"))
    resent = json.loads(json.dumps(first)) if changed else first
    assert fold(chat.record, chat.begin([*resent, assistant("an answer")]), None) == []
    assert (
        fold(chat.record, chat.begin([*resent, assistant("an answer"), *more, user("and now?")]), None)[-1].source.text
        == "and now?"
    )
