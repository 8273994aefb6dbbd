"""What was seen in recorded traffic of agents and frameworks: each oddity of a resent history, from client to API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import openai
import pytest

from converra.capture.recorder import Recorder
from converra.config import load
from converra.process import guard
from tests.history.recorded_talk import RecordedTalk, World, running
from tests.history.talk import Message, assistant, call, result, system, user
from tests.patience import LONG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

S, Q = system("Be kind."), user("Where is it?")


class Row(NamedTuple):
    """The requests of a chat with their answers (None: the call fails), and what is stored of it.

    A row that is not `findable` has requests that share no answer: without a block they are other chats.
    """

    calls: list[tuple[list[Message], Message | None]]
    stored: list[str]
    findable: bool = True


FOUR = [call(f"c{n}", "find", f'{{"n": {n}}}') for n in range(4)]
THOUGHT = assistant("Thought: I look.\nAction: find")
NAMELESS: Any = {"id": None, "type": "function", "function": {"name": "find", "arguments": "{}"}}

ROWS = {
    "an observation is appended to the assistant's text": Row(
        [
            ([S, Q], THOUGHT),
            ([S, Q, assistant(f"{THOUGHT['content']}\nObservation: 42")], assistant("It is 42.")),
        ],
        [
            "system: Be kind.",
            "user: Where is it?",
            "assistant: Thought: I look.\nAction: find",
            "tool: Observation: 42",
            "assistant: It is 42.",
        ],
    ),
    "JSON in an answer is quoted otherwise": Row(
        [
            ([S, Q], assistant('{"place": "here"}')),
            ([S, Q, assistant("{'place': 'here'}"), user("Sure?")], assistant("Yes.")),
        ],
        [
            "system: Be kind.",
            "user: Where is it?",
            'assistant: {"place": "here"}',
            "user: Sure?",
            "assistant: Yes.",
        ],
    ),
    "thinking is cut out": Row(
        [
            ([Q], assistant("<think>Hm.</think>Here.")),
            ([Q, assistant("Here."), user("Sure?")], assistant("Yes.")),
        ],
        ["user: Where is it?", "assistant: <think>Hm.</think>Here.", "user: Sure?", "assistant: Yes."],
    ),
    "thinking is wrapped around": Row(
        [
            ([Q], assistant("Here.")),
            ([Q, assistant("<think>Hm.</think>\nHere."), user("Sure?")], assistant("Yes.")),
        ],
        ["user: Where is it?", "assistant: Here.", "user: Sure?", "assistant: Yes."],
    ),
    "of four parallel calls the first is carried out": Row(
        [
            ([Q], assistant(None, *FOUR)),
            ([Q, assistant(None, FOUR[0]), result("c0", "Here.")], assistant("It is here.")),
        ],
        [
            "user: Where is it?",
            "tool: [c0 find, c1 find, c2 find, c3 find]",
            "tool: Here. [c0 find]",
            "assistant: It is here.",
        ],
    ),
    "empty arguments come back as an empty object": Row(
        [
            ([Q], assistant(None, call("c1", "find", ""))),
            ([Q, assistant(None, call("c1", "find", "{}")), result("c1", "Here.")], assistant("It is here.")),
        ],
        ["user: Where is it?", "tool: [c1 find]", "tool: Here. [c1 find]", "assistant: It is here."],
    ),
    "a call without an id comes back with an invented one": Row(
        [
            ([Q], assistant(None, NAMELESS)),
            ([Q, assistant(None, call("made_up", "find")), result("made_up", "Here.")], assistant("It is here.")),
        ],
        ["user: Where is it?", "tool: [None find]", "tool: Here. [made_up find]", "assistant: It is here."],
    ),
    "an id is used again for another call": Row(
        [
            ([Q], assistant(None, call("call_0", "find"))),
            (
                [Q, assistant(None, call("call_0", "find")), result("call_0", "a")],
                assistant(None, call("call_0", "pay")),
            ),
            (
                [
                    *(Q, assistant(None, call("call_0", "find")), result("call_0", "a")),
                    *(assistant(None, call("call_0", "pay")), result("call_0", "b")),
                ],
                assistant("Done."),
            ),
        ],
        [
            "user: Where is it?",
            "tool: [call_0 find]",
            "tool: a [call_0 find]",
            "tool: [call_0 pay]",
            "tool: b [call_0 pay]",
            "assistant: Done.",
        ],
    ),
    "the very same input is sent again": Row(
        [([S, Q], assistant("Here.")), ([S, Q], assistant("There."))],
        ["system: Be kind.", "user: Where is it?", "assistant: Here.", "assistant: There. (replaces)"],
        findable=False,
    ),
    "a call is retried": Row(
        [([S, Q], None), ([S, Q], None), ([S, Q], assistant("Here."))],
        ["system: Be kind.", "user: Where is it? (error 503)", "assistant: Here."],
    ),
    "a new question comes without history": Row(
        [([S, Q], assistant("Here.")), ([S, user("And why?")], assistant("So."))],
        ["system: Be kind.", "user: Where is it?", "assistant: Here.", "user: And why?", "assistant: So."],
        findable=False,
    ),
    "a judge looks at the question": Row(
        [
            ([system("Judge."), Q], assistant("harmless")),
            ([S, Q], assistant("Here.")),
            ([S, Q, assistant("Here."), user("Sure?")], assistant("Yes.")),
        ],
        [
            *("system: Judge.", "user: Where is it?", "assistant: harmless"),
            *("system: Be kind. (thread 1)", "assistant: Here. (thread 1)"),
            *("user: Sure? (thread 1)", "assistant: Yes. (thread 1)"),
        ],
        findable=False,
    ),
    "another agent takes over": Row(
        [
            ([S, Q], assistant("I hand over.")),
            ([system("You are sales."), Q, assistant("I hand over.")], assistant("Hello!")),
        ],
        [
            *("system: Be kind.", "user: Where is it?", "assistant: I hand over."),
            *("system: You are sales.", "assistant: Hello!"),
        ],
    ),
    "several system messages, of a developer, and in parts": Row(
        [
            (
                [
                    *(S, {"role": "developer", "content": "Be brief."}),
                    {"role": "system", "content": [{"type": "text", "text": "Be"}, {"type": "text", "text": "true."}]},
                    Q,
                ],
                assistant("Here."),
            ),
            (
                [
                    *(S, {"role": "developer", "content": "Be brief."}),
                    {"role": "system", "content": [{"type": "text", "text": "Be"}, {"type": "text", "text": "true."}]},
                    *(Q, assistant("Here."), user("Sure?")),
                ],
                assistant("Yes."),
            ),
        ],
        [
            *("system: Be kind.", "system: Be brief.", "system: Be\ntrue.", "user: Where is it?"),
            *("assistant: Here.", "user: Sure?", "assistant: Yes."),
        ],
    ),
    "the assistant speaks first": Row(
        [
            ([assistant("Hello!"), Q], assistant("Here.")),
            ([assistant("Hello!"), Q, assistant("Here."), user("Sure?")], assistant("Yes.")),
        ],
        ["assistant: Hello!", "user: Where is it?", "assistant: Here.", "user: Sure?", "assistant: Yes."],
    ),
    "parts are left out": Row(
        [
            ([S, Q], assistant("Here.")),
            ([S, Q, assistant("Here."), user("Sure?")], assistant("Yes.")),
            ([S, assistant("Yes."), user("Thanks.")], assistant("Bye.")),
        ],
        [
            *("system: Be kind.", "user: Where is it?", "assistant: Here.", "user: Sure?", "assistant: Yes."),
            *("user: Thanks.", "assistant: Bye."),
        ],
    ),
    "the same words, meant": Row(
        [
            ([Q], assistant("Here.")),
            ([Q, assistant("Here."), Q], assistant("Here.")),
            ([Q, assistant("Here."), Q, assistant("Here."), Q], assistant("Here.")),
        ],
        3 * ["user: Where is it?", "assistant: Here."],
    ),
}


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with running() as made:
        yield made


@pytest.fixture
def recorder(world: World) -> Iterator[Callable[[str | None], Recorder]]:
    """Makes the recorder of a test."""
    made: list[Recorder] = []

    def make(prompt_id: str | None) -> Recorder:
        given = {"api_key": "k", "base_url": world.server.base_url, "flush_interval": 60.0, "prompt_id": prompt_id}
        made.append(Recorder(load(given, {})))
        made[-1].instrument()
        return made[-1]

    guard.reset_log_limits()
    yield make
    for each in made:
        each.uninstrument()
        each.shutdown(5)


def held(world: World, prompt_id: str) -> list[list[str]]:
    """The lines of each conversation of a prompt, oldest first."""
    store = world.server.store
    found, _ = store.conversations(prompt_id=prompt_id, limit=100)
    assert {conversation.status for conversation in found} == {"completed"}
    return [[_line(message) for message in store.messages(conversation)] for conversation in reversed(found)]


def _line(message: dict[str, Any]) -> str:
    metadata = message.get("metadata") or {}
    calls = ", ".join(f"{c.get('id')} {c.get('name')}" for c in message.get("toolCalls") or ())
    notes = [f"thread {metadata['thread']}"] if "thread" in metadata else []
    notes += ["replaces"] if "replaces" in metadata else []
    notes += [f"error {metadata['error']['status']}"] if "error" in metadata else []
    source = " ".join(filter(None, (message["content"], f"[{calls}]" if calls else "")))
    return f"{message['role']}: {source}" + (f" ({', '.join(notes)})" if notes else "")


@pytest.mark.parametrize("name", ROWS)
def test_in_a_block_it_is_stored_once_and_nothing_is_lost(
    world: World, recorder: Callable[[str | None], Recorder], name: str
) -> None:
    """Whatever came back edited, cut or renamed."""
    used = recorder(None)
    talk = RecordedTalk(world, block=used.conversation(f"block: {name}"))
    for messages, answer in ROWS[name].calls:
        talk.call(messages, answer)
    talk.end()
    assert used.flush(LONG)
    assert held(world, f"block: {name}") == [ROWS[name].stored]


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.findable])
def test_by_its_history_it_is_found_again(world: World, recorder: Callable[[str | None], Recorder], name: str) -> None:
    """Without a block the same is stored, in one conversation; beside another chat that began with the same words."""
    used = recorder(name)
    other, talk = RecordedTalk(world), RecordedTalk(world)
    other.call(ROWS[name].calls[0][0], assistant("Who knows."))
    for messages, answer in ROWS[name].calls:
        talk.call(messages, answer)
    assert used.shutdown(LONG)
    assert sorted(map(len, held(world, name)))[1:] == [len(ROWS[name].stored)]
    assert ROWS[name].stored in held(world, name)


def test_with_an_answers_id_the_input_is_new(world: World, recorder: Callable[[str | None], Recorder]) -> None:
    """`previous_response_id`: a repeated text is said again, and the chain is one conversation beside another."""
    used = recorder("chains")
    with openai.OpenAI(api_key="none", base_url=world.server.openai_url, max_retries=0) as client:

        def ask(previous: str | None) -> str:
            return client.responses.create(model="m", input="[[say:Yes.]]", previous_response_id=previous).id

        first, second = ask(None), ask(None)
        for _ in range(2):
            first, second = ask(first), ask(second)
    assert used.shutdown(LONG)
    assert held(world, "chains") == 2 * [3 * ["user: [[say:Yes.]]", "assistant: Yes."]]
