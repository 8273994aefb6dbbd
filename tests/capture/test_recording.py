"""A conversation whose turns are assembled later, by whoever comes to it, is the same as one assembled at once."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from converra.capture.recording import Recording
from converra.capture.spec import ConversationSpec
from converra.delivery.header import Header
from converra.history.turn import Request
from converra.integrations.openai.chat import CHAT
from converra.process.jobs import JobQueue
from tests.history.talk import answered, assistant, call, result, system, user
from tests.queues import MemoryQueue, as_it_is

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from converra.capture.open_call import OpenCall
    from converra.history.draft import Draft, ManualDraft


class Chat:
    """One conversation. How often its turns are assembled is for the test to say."""

    waits_at_end = False

    def __init__(self, *, shared: bool = False) -> None:
        self.jobs = JobQueue()
        self.queue = MemoryQueue(Header(key="key", prompt_id="p"))
        delivery: Any = self
        self.recording = Recording(ConversationSpec("p", "session" if shared else None), delivery, as_it_is)

    def open(self, header: Header) -> MemoryQueue:
        return self.queue

    def submit(self, at: float, weight: int, call: Callable[..., None], *args: Any, wake: bool = False) -> None:
        self.jobs.add(at, weight, call, args)

    def begin(self, messages: Sequence[Any]) -> OpenCall:
        return self.recording.begin(Request(CHAT, messages))

    def told(self) -> list[tuple[Any, ...]]:
        """What it says of every message, with its number in place of its id."""
        self.jobs.work()
        return [_told(draft) for draft in self.queue.drafts]


def _told(draft: Draft | ManualDraft) -> tuple[Any, ...]:
    message = draft.message()
    assert message is not None
    metadata = {name: str(value).rpartition("-")[2] for name, value in (message.metadata or {}).items()}
    return message.role, message.content, message.tool_calls and [c.id for c in message.tool_calls], metadata


class Talk:
    """A chat as apps have them: it grows, is trimmed, edited, asked again, calls tools, fails."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.history: list[Any] = [system("Be kind.")]
        self.calls = 0

    def move(self) -> None:
        """Change the history as an app does before its next call."""
        self.random.choice([self._ask, self._ask, self._ask, self._trim, self._edit, self._again, self._side])()

    def _ask(self) -> None:
        self.history.append(user(self.random.choice(["yes", "no", f"question {len(self.history)}"])))

    def _trim(self) -> None:
        del self.history[1 : self.random.randrange(1, max(2, len(self.history) - 2))]
        self._ask()

    def _edit(self) -> None:
        """In place, as some frameworks do: what was recorded must be what the call had sent."""
        at = self.random.randrange(len(self.history))
        if self.history[at]["role"] == "user":
            self.history[at]["content"] += " (edited)"
            del self.history[at + 1 :]
        else:
            self._ask()

    def _again(self) -> None:
        """The last answer is thrown away, and asked for once more."""
        while len(self.history) > 1 and self.history[-1]["role"] != "user":
            self.history.pop()
        if len(self.history) == 1:
            self._ask()

    def _side(self) -> None:
        self.history[0] = system(self.random.choice(["Be kind.", "Be brief."]))
        self._ask()

    def answer(self) -> Any:
        """What the model says; None where the call fails."""
        kind = self.random.randrange(8)
        if kind == 0:
            return None
        if kind == 1:
            self.calls += 1
            named = call(f"call_{self.calls}")
            self.history += [assistant(None, named), result(f"call_{self.calls}", "found")]
            return answered(named)
        source = self.random.choice(["Yes.", f"answer {len(self.history)}"])
        self.history.append(assistant(source))
        return answered(source)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("seed", range(60))
def test_a_chat_that_is_assembled_later_is_the_same(seed: int, *, shared: bool) -> None:
    """Whether a worker has come by between two calls or not: the same messages, in the same places."""
    at_once, later = Chat(shared=shared), Chat(shared=shared)
    talk, worker = Talk(seed), random.Random(-seed)
    for _ in range(25):
        talk.move()
        turns = [chat.begin(talk.history) for chat in (at_once, later)]
        answer = talk.answer()
        for turn in turns:
            turn.fail(ValueError()) if answer is None else turn.end(answer)
        at_once.jobs.work()
        later.jobs.work(worker.choice([0, 0, 0, 1, 5]))
    assert later.told() == at_once.told()


def test_a_turn_is_not_changed_by_what_the_app_does_after_the_call() -> None:
    """New messages are read while the call begins; nobody sees the list as it is when a worker comes."""
    chat, history = Chat(), [system("Be kind."), user("Hi")]
    turn = chat.begin(history)
    turn.end(answered("Hello."))
    history[1]["content"] = "changed"
    history.clear()
    assert [(role, content) for role, content, *_ in chat.told()] == [
        ("system", "Be kind."),
        ("user", "Hi"),
        ("assistant", "Hello."),
    ]


def test_a_call_after_the_end_is_refused_though_the_end_is_still_to_be_told() -> None:
    """`complete()` holds from the moment it is called."""
    chat = Chat()
    chat.begin([user("Hi")]).end(answered("Hello."))
    chat.recording.end()
    chat.begin([user("more")]).end(answered("No."))
    assert [content for _, content, *_ in chat.told()] == ["Hi", "Hello."]
    assert chat.queue.ends == [False]


def test_an_end_waits_for_the_calls_under_way() -> None:
    """A call that was begun in a conversation is recorded in it, and the end is told after it, once."""
    chat = Chat()
    turn = chat.begin([user("Hi")])
    chat.recording.end()
    chat.jobs.work()
    assert chat.queue.ends == []
    turn.end(answered("Hello."))
    assert [content for _, content, *_ in chat.told()] == ["Hi", "Hello."]
    assert chat.queue.ends == [False]


def test_a_call_that_is_sent_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time begins when it is sent; one that was never sent leaves nothing, and the end does not wait for it."""
    chat, ticks = Chat(), iter([100.0, 200.0, 209.0, 209.5])
    for module in ("recording", "open_call"):
        monkeypatch.setattr(f"converra.capture.{module}.perf_counter", lambda: next(ticks))
    sent, unsent = chat.begin([user("Hi")]), chat.begin([user("Never")])
    chat.recording.end()
    sent.sent()
    sent.end(answered("Hello"))
    waited = not chat.recording.ended
    unsent.unsent()
    unsent.end(answered("Nothing"))
    assert (waited, chat.recording.ended) == (True, True)
    assert [content for _, content, *_ in chat.told()] == ["Hi", "Hello"]
    message = chat.queue.drafts[-1].message()
    assert message is not None
    assert message.latency_ms == 500.0
