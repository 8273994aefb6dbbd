"""Chats without a block around them: each call finds its own conversation again."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from converra.capture import implicit
from converra.capture.registry import Registry
from converra.capture.routing import Router
from converra.config import Config
from converra.history.turn import Request
from converra.integrations.openai.chat import CHAT
from converra.process.jobs import JobQueue
from tests.history.talk import Message, answered, assistant, call, result, system, user
from tests.queues import MemoryQueue, as_it_is

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from converra.capture.open_call import OpenCall
    from converra.capture.recording import Recording
    from converra.delivery.header import Header

S = system("Be kind.")


class Process:
    """One process with a prompt set, and its implicit conversations."""

    def __init__(self, prompt_id: Any = "prompt") -> None:
        self.recordings: list[Recording] = []
        self.jobs = JobQueue()
        self.started = True
        self.registry = Registry(self.jobs, 300.0)
        delivery: Any = self
        self.router = Router(Config(prompt_id=prompt_id), self.registry, delivery, as_it_is)

    def open(self, header: Header) -> MemoryQueue:
        """Open a queue for one of the recordings of this process."""
        return MemoryQueue(header)

    @property
    def queues(self) -> list[Any]:
        """The queues of all recordings, in the order in which they began."""
        return [recording._open_queue() for recording in self.recordings]

    def submit(self, at: float, weight: int, call: Callable[..., None], *args: Any, wake: bool = False) -> None:
        """Leave it to a worker, who never comes: whoever needs the result does it."""
        self.jobs.add(at, weight, call, args)

    def begin(self, messages: Sequence[Any], previous: str | None = None) -> OpenCall:
        request = Request(dialect=CHAT, messages=messages, previous=previous)
        return self.begin_request(request)

    def begin_request(self, request: Request) -> OpenCall:
        recording, fingerprints = self.router.for_call(request)
        assert recording is not None
        if recording not in self.recordings:
            self.recordings.append(recording)
        return recording.begin(request, fingerprints)

    def ask(
        self, messages: Sequence[Any], *answer: str | Message, previous: str | None = None, named: str | None = None
    ) -> None:
        self.begin(messages, previous).end(answered(*answer, response_id=named))

    def fail(self, messages: Sequence[Any], previous: str | None = None) -> None:
        self.begin(messages, previous).fail(ValueError())

    def break_off(self, messages: Sequence[Any], text: str) -> None:
        """Fail amid the answer."""
        self.begin(messages).fail(ValueError(), answered(text))

    def talks(self) -> list[list[str]]:
        """What each conversation holds."""
        self.jobs.work()
        return [queue.talk() for queue in self.queues]


def talk(history: Sequence[Message]) -> list[str]:
    """A history as a conversation holds it."""
    return [f"{m['role']}: {m['content']}" for m in history]


def test_a_chat_is_one_conversation() -> None:
    """Each call goes on with the conversation whose answers it resends."""
    process, history = Process(), [S]
    for n in range(5):
        history.append(user(f"q{n}"))
        process.ask(history, f"a{n}")
        history.append(assistant(f"a{n}"))
    assert process.talks() == [talk(history)]


def test_two_chats_with_the_same_opening_words_stay_two() -> None:
    """The same question, even with the same answer, is a conversation of its own; each goes on by itself."""
    process = Process()
    opening = [S, user("Hi")]
    process.ask(opening, "Hello!")
    process.ask(opening, "Hello!")
    first = [*opening, assistant("Hello!"), user("one")]
    second = [*opening, assistant("Hello!"), user("two")]
    process.ask(first, "1")
    process.ask(second, "2")
    process.ask([*first, assistant("1"), user("more")], "11")
    process.ask([*second, assistant("2"), user("more")], "22")
    assert process.talks() == [
        [*talk(first), "assistant: 1", "user: more", "assistant: 11"],
        [*talk(second), "assistant: 2", "user: more", "assistant: 22"],
    ]


def test_identical_chats_side_by_side_stay_apart() -> None:
    """Their calls are under way at the same time: each goes on with the chat that has no call under way."""
    process, history = Process(), [S, user("Hi")]
    for answer in ("Hello!", "Fine.", "Bye."):
        calls = [process.begin(history) for _ in range(3)]
        for open_call in calls:
            open_call.end(answered(answer))
        history += [assistant(answer), user(f"After {answer}")]
    assert process.talks() == [talk(history[:-1])] * 3


def test_identical_chats_stay_apart() -> None:
    """Three chats in which exactly the same is said are three whole conversations."""
    process, history = Process(), [S]
    for _ in range(4):
        history.append(user("yes"))
        for _ in range(3):
            process.ask(history, "Go on?")
        history.append(assistant("Go on?"))
    assert process.talks() == [talk(history)] * 3


GREETING = (assistant("Hello! How can I help?"),)
EXAMPLES = (
    *(user("2 + 2?"), assistant("4"), user("In Paris?"), assistant(None, call("call_0", "weather"))),
    *(result("call_0", "sunny"), assistant("Sunny.")),
)


@pytest.mark.parametrize("opening", [GREETING, EXAMPLES], ids=["a greeting", "examples"])
def test_chats_that_are_given_the_same_answers_to_begin_with_stay_apart(opening: Sequence[Message]) -> None:
    """A greeting or examples that every chat of an app opens with are no answers of a model: they tell nothing."""
    process = Process()
    chats = [[S, *opening, user("Where is it?")] for _ in range(3)]
    for _ in range(3):
        for number, history in enumerate(chats):
            answer = f"Answer {number} of {len(history)}."
            process.ask(history, answer)
            history += [assistant(answer), user("Sure?")]
    assert len(process.talks()) == 3
    assert [len(talk) for talk in process.talks()] == [len(history) - 1 for history in chats]


def test_a_chat_that_went_on_from_given_answers_is_found_by_its_own() -> None:
    """Also when a window has lost the beginning, and when a failed first call is retried."""
    process = Process()
    history = [S, *GREETING, user("Where is it?")]
    process.fail(history)
    process.ask(history, "Here.")
    process.ask([assistant("Here."), user("Sure?")], "Yes.")
    assert len(process.talks()) == 1


def test_calls_at_the_same_time_are_chats_of_their_own() -> None:
    """Two first calls that overlap in time do not fall together."""
    process = Process()
    one, two = process.begin([S, user("Hi")]), process.begin([S, user("Hi")])
    two.end(answered("A"))
    one.end(answered("B"))
    process.ask([S, user("Hi"), assistant("B"), user("b")], "BB")
    assert process.talks() == [
        ["system: Be kind.", "user: Hi", "assistant: B", "user: b", "assistant: BB"],
        ["system: Be kind.", "user: Hi", "assistant: A"],
    ]


CHANGES: dict[str, Callable[[list[Message]], list[Message]]] = {
    "as it was": lambda history: history,
    "with nulls": lambda history: [m | {"refusal": None, "tool_calls": None} for m in history],
    "a window": lambda history: [history[0], *history[-5:]],
    "a narrow window": lambda history: [history[0], *history[-2:]],
    "another system text": lambda history: [system(f"Turn {len(history)}."), *history[1:]],
    "answers with thinking": lambda history: [
        m | {"content": f"<think>hm</think>{m['content']}"} if m["role"] == "assistant" else m for m in history
    ],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_two_hundred_interleaved_chats(change: Callable[[list[Message]], list[Message]]) -> None:
    """Any number of chats in any order: each is reconstructed exactly, however its app resends it."""
    process, order = Process(), random.Random(7)
    histories: list[list[Message]] = [[S] for _ in range(200)]
    turns = [n for n in range(200) for _ in range(order.randint(1, 6))]
    order.shuffle(turns)
    for n in turns:
        history = histories[n]
        history.append(user("Hi" if len(history) == 1 else f"chat {n}, message {len(history)}"))
        process.ask(change(list(history)), f"answer {len(history)} in {n}")
        history.append(assistant(f"answer {len(history)} in {n}"))
    found = [[line for line in lines if not line.startswith("system")] for lines in process.talks()]
    assert sorted(found) == sorted(talk(history[1:]) for history in histories if len(history) > 1)


def test_two_hundred_chats_in_few_words() -> None:
    """Where everybody says "yes" and "no" and hears "Go on?" or "Stop?", growing chats still do not mix."""
    process, order = Process(), random.Random(8)
    histories: list[list[Message]] = [[S] for _ in range(200)]
    turns = [n for n in range(200) for _ in range(order.randint(1, 8))]
    order.shuffle(turns)
    for n in turns:
        histories[n].append(user(order.choice(["yes", "no"])))
        answer = order.choice(["Go on?", "Stop?"])
        process.ask(list(histories[n]), answer)
        histories[n].append(assistant(answer))
    assert sorted(process.talks()) == sorted(talk(history) for history in histories if len(history) > 1)


def test_a_tool_loop_is_one_conversation() -> None:
    """Calls without a word, and a dozen results after them, lead back to the conversation."""
    process = Process()
    calls = [call(f"c{n}") for n in range(12)]
    history = [S, user("Go")]
    process.ask(history, *calls)
    history += [assistant(None, *calls), *(result(f"c{n}", str(n)) for n in range(12))]
    process.ask(history, "Done.")
    dressed = [m | {"annotations": []} for m in [*history, assistant("Done."), user("Thanks")]]
    process.ask(dressed, "Bye.")
    assert process.talks() == [
        [
            "system: Be kind.",
            "user: Go",
            "tool: " + " ".join(["search"] * 12),
            *(f"tool: {n}" for n in range(12)),
            "assistant: Done.",
            "user: Thanks",
            "assistant: Bye.",
        ]
    ]


def test_the_retry_of_a_first_call() -> None:
    """A first call that failed is retried in its own conversation."""
    process = Process()
    process.fail([S, user("Hi")])
    process.ask([S, user("Hi")], "Hello!")
    process.ask([S, user("Hi")], "Hello!")
    assert process.talks() == [["system: Be kind.", "user: Hi", "assistant: Hello!"]] * 2


def test_the_retry_of_a_broken_answer() -> None:
    """A call that failed amid its answer is retried in its own conversation; whoever goes on with it finds it, too."""
    process = Process()
    opening = [S, user("Hi")]
    process.ask(opening, "Hello!")
    again = [*opening, assistant("Hello!"), user("again")]
    for history in (opening, again):
        process.break_off(history, "It bro")
        process.ask(history, "It is whole.")
    process.ask([*again, assistant("It is whole."), user("more")], "M")
    process.break_off([user("x")], "It bro")
    process.ask([user("x"), assistant("It bro"), user("Go on.")], "ke.")
    process.ask([user("x")], "X")
    whole = ["assistant: It bro", "assistant: It is whole."]
    assert process.talks() == [
        [*talk([*opening, assistant("Hello!"), user("again")]), *whole, "user: more", "assistant: M"],
        [*talk(opening), *whole],
        ["user: x", "assistant: It bro", "user: Go on.", "assistant: ke."],
        ["user: x", "assistant: X"],
    ]


def test_the_retry_of_a_later_call() -> None:
    """Of two chats that are alike so far, the one whose call failed gets the retry."""
    process = Process()
    opening = [S, user("Hi")]
    process.ask(opening, "Hello!")
    process.ask(opening, "Hello!")
    again = [*opening, assistant("Hello!"), user("again")]
    process.fail(again)
    process.ask(again, "A")
    process.ask(again, "B")
    assert process.talks() == [[*talk(again), "assistant: A"], [*talk(again), "assistant: B"]]


def test_a_branch_finds_its_conversation() -> None:
    """An edited question, a regenerated answer and a return to an old branch stay in the conversation."""
    process = Process()
    history = [S, user("a"), assistant("A"), user("b"), assistant("B")]
    process.ask(history[:2], "A")
    process.ask(history[:4], "B")
    process.ask([*history, user("c")], "C")
    process.ask([*history[:3], user("b2")], "B2")
    process.ask(history[:4], "B3")
    process.ask([*history, user("c"), assistant("C"), user("d")], "D")
    assert process.talks() == [
        [
            *talk(history),
            "user: c",
            "assistant: C",
            "user: b2",
            "assistant: B2",
            "assistant: B3",
            "user: d",
            "assistant: D",
        ]
    ]


def test_a_late_return_to_the_beginning() -> None:
    """However long a chat has become, it is found by its latest turns; forgotten ones cost no memory."""
    process, history = Process(), [S]
    for n in range(40):
        history.append(user(f"q{n}"))
        process.ask(history, f"a{n}")
        history.append(assistant(f"a{n}"))
    process.ask([*history[:-6], user("another way")], "A")
    assert process.talks() == [[*talk(history), "user: another way", "assistant: A"]]
    found = process.registry.implicit
    assert len(found._index) < 5 * implicit.RECENT_TURNS


def test_answers_by_name() -> None:
    """With `previous_response_id` the answer's name leads to its conversation; one never heard of opens a new one."""
    process = Process()
    process.ask([user("a")], "A", named="r1")
    process.ask([user("a")], "A", named="r2")
    process.ask([user("b")], "B", previous="r2", named="r3")
    process.ask([user("c")], "C", previous="r1", named="r4")
    process.ask([user("d")], "D", previous="r3")
    process.ask([user("e")], "E", previous="unknown")
    assert process.talks() == [
        ["user: a", "assistant: A", "user: c", "assistant: C"],
        ["user: a", "assistant: A", "user: b", "assistant: B", "user: d", "assistant: D"],
        ["user: e", "assistant: E"],
    ]


def test_prompts_do_not_mix() -> None:
    """The same words under another prompt are another conversation."""

    def prompt(request: Request) -> str | None:
        return request.model

    process = Process(prompt)

    def ask(model: str, messages: list[Message], answer: str) -> None:
        request = Request(dialect=CHAT, messages=messages, model=model)
        process.begin_request(request).end(answered(answer))

    for model in ("sales", "support"):
        ask(model, [user("a")], "A")
    for model in ("support", "sales"):
        ask(model, [user("a"), assistant("A"), user(model)], "B")
    process.jobs.work()
    assert [(queue.header.prompt_id, queue.talk()[2]) for queue in process.queues] == [
        ("sales", "user: sales"),
        ("support", "user: support"),
    ]


def test_silence_ends_a_conversation() -> None:
    """After `idle_timeout` a conversation is completed, and what would go on with it opens a new one."""
    process = Process()
    implicit = process.registry.implicit
    process.ask([S, user("a")], "A")
    assert implicit.take_silent(60) == []
    process.recordings[0].used -= 61
    assert implicit.take_silent(60) == [process.recordings[0]]
    assert implicit.take_silent(60) == []
    assert not implicit._index
    process.ask([S, user("a"), assistant("A"), user("b")], "B")
    assert len(process.recordings) == 2


def test_a_call_under_way_is_not_silence() -> None:
    """A conversation in which the model still thinks, or that a call has just found, is not completed."""
    process = Process()
    implicit = process.registry.implicit
    history = [S, user("a"), assistant("A"), user("b")]
    process.ask(history[:2], "A")
    process.recordings[0].used -= 100
    turn = process.begin(history)
    process.recordings[0].used -= 100
    assert implicit.take_silent(60) == []
    turn.end(answered("B"))
    assert implicit.take_silent(60) == []
    process.recordings[0].used -= 100
    fingerprints = CHAT.fingerprint([*history, assistant("B"), user("c")])
    request = Request(dialect=CHAT, messages=[*history, assistant("B"), user("c")])
    assert implicit.find("prompt", request, fingerprints) is process.recordings[0]
    assert implicit.take_silent(60) == []


def test_a_chat_that_was_completed_goes_on_in_a_new_conversation() -> None:
    """Whoever has completed a chat (a handler's `complete()`) and goes on with it loses nothing."""
    process, history = Process(), [S, user("Hi")]
    process.ask(history, "Hello.")
    process.recordings[0].end()
    process.ask([*history, assistant("Hello."), user("more")], "And?")
    assert process.talks() == [
        [*talk(history), "assistant: Hello."],
        [*talk(history), "assistant: Hello.", "user: more", "assistant: And?"],
    ]


def test_the_number_of_open_conversations_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bound, those that have been silent longest are completed, whatever their number of calls."""
    monkeypatch.setattr(implicit, "MAX_OPEN", 3)
    process = Process()
    for n in range(5):
        process.ask([S, user(f"q{n}")], f"a{n}")
    process.ask([S, user("q0"), assistant("a0"), user("more")], "A")
    assert process.registry.implicit.take_silent(60) == process.recordings[1:3]


def test_everything_can_be_taken_out() -> None:
    """The end of the process takes every open conversation, once."""
    process = Process()
    process.ask([user("a")], "A")
    process.ask([user("b")], "B")
    assert process.registry.implicit.take_all() == process.recordings
    assert process.registry.implicit.take_all() == []


@pytest.mark.parametrize("odd", [[], [None], [{"role": "assistant"}], [{}, 7, "x"]])
def test_odd_requests_open_conversations(odd: list[Any]) -> None:
    """A request in which nobody says anything is not lost."""
    process = Process()
    process.ask(odd, "A")
    process.ask([*odd, assistant("A"), user("b")], "B")
    assert process.talks() == [["assistant: A", "user: b", "assistant: B"]]


def test_observations_appended_to_answers() -> None:
    """A ReAct framework's chat is found again though its answers come back with something appended."""
    process = Process()
    for n in range(20):
        process.ask([S, user("Go")], f"Thought: {n}\nAction: find")
    for n in range(20):
        observed = f"Thought: {n}\nAction: find\nObservation: {n}"
        process.ask([S, user("Go"), assistant(observed)], f"Done {n}.")
    thought = ["user: Go", "assistant: Thought: {}\nAction: find", "tool: Observation: {}", "assistant: Done {}."]
    assert process.talks() == [["system: Be kind.", *(line.format(n) for line in thought)] for n in range(20)]
