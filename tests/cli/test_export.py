"""`converra export`: files that others can use."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from converra import Converra
from converra.server.run import serve
from converra.transcript import parse
from tests import warm
from tests.cli.recorded import CHAT, printed, ran, record
from tests.terminal import in_a_terminal

if TYPE_CHECKING:
    from pathlib import Path

ENDED = {"role": "system", "content": "Conversation ended."}


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "kept.db"


def exported(db: Path, style: str, *more: str) -> str:
    return printed("export", "--format", style, "--db", str(db), *more)


def test_json_is_what_the_api_answers(db: Path) -> None:
    """One object for one conversation, a list for several, a line each as JSONL; oldest first for all."""
    first, second = record(db), record(db, prompt_id="prompt_2")
    one = json.loads(exported(db, "json"))
    assert (one["id"], one["messages"]) == (second, CHAT)
    assert [each["id"] for each in json.loads(exported(db, "json", "--all"))] == [first, second]
    lines = exported(db, "jsonl", second, first).splitlines()
    assert [json.loads(line)["id"] for line in lines] == [second, first]
    assert len(exported(db, "jsonl", "--all", "--prompt-id", "prompt_2").splitlines()) == 1


def test_examples_to_train_with(db: Path) -> None:
    """Calls, results that are empty, tools by name; without what a recorder adds, nor what no answer follows."""
    asks = [{"id": "c1", "name": "look_up", "arguments": {"order": 7}}, {"id": "c2", "name": "log", "arguments": "x"}]
    chat = [
        *CHAT[:2],
        {"role": "tool", "content": "", "toolCalls": asks},
        {"role": "tool", "content": "sent", "toolCalls": [{"id": "c1", "name": "look_up"}]},
        {"role": "tool", "content": "", "toolCalls": [{"id": "c2", "name": "log"}]},
        *CHAT[4:],
        {"role": "system", "content": "Feedback (user): 1", "metadata": {"feedback": {"user": {"score": 1}}}},
        {"role": "user", "content": "Bye"},
        ENDED,
    ]
    with serve(path=db) as server, Converra(api_key="dev", base_url=server.base_url) as client:
        made = client.conversations.create(prompt_id="p", content=chat[:1], status="active")
        client.conversations.append_messages(
            made.id, messages=chat[1:], status="completed", metadata={"tools": ["look_up", "log"]}
        )
    called = [
        {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"order":7}'}},
        {"id": "c2", "type": "function", "function": {"name": "log", "arguments": "x"}},
    ]
    assert json.loads(exported(db, "fine-tuning")) == {
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "Where is my order?"},
            {"role": "assistant", "content": None, "tool_calls": called},
            {"role": "tool", "tool_call_id": "c1", "content": "sent"},
            {"role": "tool", "tool_call_id": "c2", "content": ""},
            {"role": "assistant", "content": "It is sent."},
            {"role": "user", "content": "Thanks!"},
            {"role": "assistant", "content": "You are welcome."},
        ],
        "tools": [{"type": "function", "function": {"name": name}} for name in ("look_up", "log")],
    }
    turns = json.loads(exported(db, "sharegpt"))["conversations"]
    assert [turn["from"] for turn in turns] == [
        *("system", "human", "function_call", "function_call", "observation", "observation"),
        *("gpt", "human", "gpt", "human"),
    ]
    assert json.loads(turns[2]["value"]) == {"name": "look_up", "arguments": {"order": 7}}
    record(db, [CHAT[1], ENDED])
    assert len(exported(db, "fine-tuning", "--all").splitlines()) == 1
    assert exported(db, "markdown", made.id).startswith(f"# {made.id}\n\n**system**\n\n> Be kind.\n")


def test_content_can_be_created_again(db: Path) -> None:
    """The structured form, with all that is known."""
    record(db)
    content = json.loads(exported(db, "content"))
    assert content == {"messages": CHAT, "metadata": {"channel": "web", "sessionId": "s1"}}
    assert [message.content for message in parse(json.dumps(content)).messages] == [m["content"] for m in CHAT]


def test_a_transcript_is_text(db: Path) -> None:
    """Each message with its role, calls of tools too; several conversations with an empty line between."""
    record(db, [CHAT[1], CHAT[4]])
    one = "User: Where is my order?\nAssistant: It is sent.\n"
    assert exported(db, "transcript") == one
    record(db, [CHAT[1], CHAT[4]])
    assert exported(db, "transcript", "--all") == f"{one}\n{one}"
    record(db, CHAT[1:5])
    assert exported(db, "transcript").splitlines()[1:3] == ["Tool: calls look_up(order=7)", "Tool: sent"]


def test_a_terminal_is_not_steered_by_what_was_said(db: Path) -> None:
    """A file gets every character as it is, a terminal the pictures of those that it would obey."""
    record(db, [{"role": "user", "content": "\x1b[2Jgone"}, CHAT[4]])
    assert exported(db, "transcript").startswith("User: \x1b[2Jgone\n")
    command = [sys.executable, "-m", "converra", "export", "--format", "transcript", "--db", str(db)]
    assert in_a_terminal(command).screen.startswith("User: ␛[2Jgone\n")


def test_a_page_needs_nothing_and_runs_nothing(db: Path) -> None:
    """One file without scripts or links; whatever was said is shown as text."""
    hostile = "<script>alert(1)</script>\u202e & <img src=x onerror=y>"
    made = record(db, [{"role": "user", "content": hostile}, CHAT[2], CHAT[4]])
    page = exported(db, "html")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\u202e &amp; &lt;img src=x onerror=y&gt;" in page
    assert not any(word in page for word in ("<script", "<img", "<link", "http://", "https://", "url("))
    assert f"<h2>{made} <small>prompt_1 · completed · " in page
    assert '<article class="tool"><h3>tool</h3><p>calls look_up(order=7)\n(gpt-4o' in page
    record(db)
    assert "<title>2 conversations</title>" in exported(db, "html", "--all")


def test_a_test_is_runnable(db: Path, tmp_path: Path) -> None:
    """It passes as it is, and for an app that streams; one that behaves otherwise, by so much as a word, fails it."""
    feedback = {"role": "system", "content": "Feedback (user): 1", "metadata": {"feedback": {"user": {"score": 1}}}}
    record(db, [*CHAT, feedback, ENDED])
    path = tmp_path / "test_recorded.py"
    printed("export", "--format", "pytest", "--output", str(path), "--db", str(db))
    call = "    for messages in recorded.requests:\n"
    other = path.read_text().replace(call, f'{call}        messages[-1]["content"] += "!"\n')
    (tmp_path / "test_other.py").write_text(other)
    plain = "client.chat.completions.create(model=recorded.model, messages=messages)"
    streamed = (
        "with client.chat.completions.stream(model=recorded.model, messages=messages) as stream:\n"
        "                stream.get_final_completion()"
    )
    assert path.read_text().count(plain) == 1
    (tmp_path / "test_streams.py").write_text(path.read_text().replace(plain, streamed))
    command = [sys.executable, "-m", "pytest", "-p", "converra.testing", "-p", "no:cacheprovider", "-q"]
    environ = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    ended = warm.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, modules=warm.OPENAI)
    assert ended.stdout.splitlines()[-1].startswith("1 failed, 2 passed"), ended.stdout
    assert "FAILED test_other.py::test_the_app_behaves_as_recorded[conv_" in ended.stdout


def _user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def _says(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def _calls(*names: str, ids: bool = True, **more: Any) -> dict[str, Any]:
    calls = [{"name": name, "arguments": {"n": 1}, **({"id": f"c_{name}"} if ids else {})} for name in names]
    return {"role": "tool", "content": "", "toolCalls": calls, **more}


def _result(name: str, text: str, **call: Any) -> dict[str, Any]:
    return {"role": "tool", "content": text, "toolCalls": [{"name": name, **call}]}


FAILED = {"metadata": {"error": {"type": "RateLimitError", "status": 429}}}
SHAPES: dict[str, list[dict[str, Any]]] = {
    "an error, then another question": [{**_user("One?"), **FAILED}, _user("Two?"), _says("Two.")],
    "an error at the end": [_user("One?"), _says("One."), {**_user("Two?"), **FAILED}],
    "nothing but an error": [{**_user("One?"), **FAILED}],
    "regenerated": [_user("One?"), _says("A."), _says("B."), _user("Thanks!"), _says("Welcome.")],
    "regenerated in the same words": [_user("One?"), _says("A."), _says("A.")],
    "the same question twice": [_user("One?"), _says("A."), _user("One?"), _says("A.")],
    "two questions at once": [_user("One?"), _user("One?"), _says("A.")],
    "cut short": [_user("One?"), _says("Half of", metadata={"partial": True}), _user("Go on."), _says("it.")],
    "no text": [_user("One?"), _says("(no text: length)")],
    "a call without a result": [_user("One?"), _calls("a"), _user("Well?"), _says("Sorry.")],
    "a call at the end": [_user("One?"), _calls("a")],
    "one result of two": [_user("One?"), _calls("a", "b"), _result("b", "2", id="c_b"), _says("Done.")],
    "results in another order": [
        *(_user("One?"), _calls("a", "b"), _result("b", "2", id="c_b"), _result("a", "1", id="c_a"), _says("Done."))
    ],
    "calls without ids": [_user("One?"), _calls("a", ids=False), _result("a", "1"), _says("Done.")],
    "the same call twice": [
        *(_user("One?"), _calls("a", ids=False), _result("a", "1")),
        *(_calls("a", ids=False), _result("a", "2"), _says("Done.")),
    ],
    "a result without a call": [_user("One?"), _result("a", "1", id="c_x"), _says("Done.")],
    "an empty result": [_user("One?"), _calls("a"), _result("a", "", id="c_a"), _says("Done.")],
    "text and calls": [_user("One?"), {**_calls("a"), "role": "assistant", "content": "Wait."}, _says("Done.")],
    "arguments that are no object": [
        _user("One?"),
        {"role": "tool", "content": "", "toolCalls": [{"id": "c", "name": "a", "arguments": "{oh"}]},
        _says("Done."),
    ],
    "a system message in between": [
        {"role": "system", "content": "Be kind."},
        *(_user("One?"), _says("One."), {"role": "system", "content": "Be short."}, _user("Two?"), _says("2.")),
    ],
    "an answer first": [_says("How can I help?"), _user("One?"), _says("One.")],
    "an answer alone": [_says("Good morning.")],
    "odd text": [_user(" \u202e\t{x}\n'''\"\\\\ "), _says("\x1b[2J 🏕 {{}}")],
}


def test_whatever_a_conversation_holds_its_test_passes(db: Path, tmp_path: Path) -> None:
    """As it is: after errors, retries, regenerated and cut answers, calls without results and results without calls."""
    made = {record(db, messages): name for name, messages in SHAPES.items()}
    mixed = {"role": "tool", "content": "1", "toolCalls": [{"name": "a", "arguments": {}}]}
    left_out = record(db, [_user("One?"), mixed, _says("Done.")])
    path = tmp_path / "test_recorded.py"
    printed("export", "--all", "--format", "pytest", "--output", str(path), "--db", str(db))
    assert f"# Left out: {left_out} has a tool message with both calls and text.\n" in path.read_text()
    command = [sys.executable, "-m", "pytest", "-p", "converra.testing", "-p", "no:cacheprovider", "-q"]
    environ = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    ended = warm.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, modules=warm.OPENAI)
    failed = [made[line.partition("[")[2].partition("]")[0]] for line in ended.stdout.splitlines() if "FAILED" in line]
    assert failed == [], ended.stdout
    assert ended.stdout.splitlines()[-1].startswith(f"{len(SHAPES)} passed"), ended.stdout


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ({"arguments": {}}, "has a tool call without a name"),
        ({"name": "a", "arguments": [1]}, "has a tool call whose arguments would be read back differently"),
        ({"name": "a", "arguments": '{"n": 1}'}, "has a tool call whose arguments would be read back differently"),
    ],
)
def test_what_cannot_be_replayed_is_left_out(db: Path, call: dict[str, Any], reason: str) -> None:
    """A conversation that no model of chat completions can repeat is refused with the reason."""
    made = record(db, [_user("One?"), {"role": "tool", "content": "", "toolCalls": [call]}, _says("Done.")])
    result = ran("export", "--format", "pytest", "--db", str(db))
    assert (result.exit_code, result.stderr) == (2, f"Error: no test can be made: {made} {reason}\n")


def test_without_messages_there_is_no_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An API that shows only the transcript gives that, and says what it cannot give."""
    with serve() as server, Converra(api_key="dev", base_url=server.base_url) as client:
        monkeypatch.setenv("CONVERRA_BASE_URL", server.base_url)
        monkeypatch.setenv("CONVERRA_API_KEY", "dev")
        made = client.conversations.create(prompt_id="p", content="User: Hello?\nAssistant: Hello!", status="completed")
        server.faults.hide_messages = True
        assert printed("export", "--format", "transcript") == "User: Hello?\nAssistant: Hello!\n"
        content = json.loads(printed("export", "--format", "content"))
        result = ran("export", "--format", "pytest")
    assert content["messages"][1] == {"role": "assistant", "content": "Hello!"}
    expected = f"Error: no test can be made: {made.id} has messages that the API does not show\n"
    assert (result.exit_code, result.stderr) == (2, expected)


def test_what_cannot_be_written_is_said(db: Path, tmp_path: Path) -> None:
    """The path and the reason; and options that contradict each other."""
    record(db)
    target = tmp_path / "missing" / "file"
    result = ran("export", "--db", str(db), "--output", str(target))
    assert (result.exit_code, result.stderr) == (1, f"Error: cannot write {target}: No such file or directory\n")
    assert "give either --all or IDs" in ran("export", "--all", "conv_1").stderr
    assert "--prompt-id needs --all" in ran("export", "--prompt-id", "p").stderr


def test_a_file_is_overwritten_only_with_force(db: Path, tmp_path: Path) -> None:
    """What is there stays as it is, and a line says how to replace it."""
    record(db)
    target = tmp_path / "kept.json"
    target.write_text("mine")
    result = ran("export", "--db", str(db), "--output", str(target))
    assert (result.exit_code, result.stderr) == (1, f"Error: {target} exists; --force overwrites it\n")
    assert target.read_text() == "mine"
    printed("export", "--db", str(db), "--output", str(target), "--force")
    assert json.loads(target.read_text())["promptId"] == "prompt_1"


def test_content_in_neither_form_is_shown_as_it_is() -> None:
    """Words without a role are words all the same."""
    from converra.api.results import StoredConversation
    from converra.cli.plain import said

    assert list(said(StoredConversation(content="just words"))) == [("content", "just words")]
    assert list(said(StoredConversation())) == []
