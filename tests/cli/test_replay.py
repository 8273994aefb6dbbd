"""`converra replay`: another model, asked by the real openai client."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from converra import Converra
from converra.server.run import LocalServer, serve
from tests.cli.recorded import CALL, CHAT, printed, ran
from tests.terminal import in_a_terminal

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalServer]:
    """A local API whose stand-in model is asked."""
    with serve() as running:
        monkeypatch.setenv("CONVERRA_BASE_URL", running.base_url)
        monkeypatch.setenv("CONVERRA_API_KEY", "dev")
        monkeypatch.setenv("OPENAI_BASE_URL", running.openai_url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        yield running


def recorded(server: LocalServer, messages: list[Any], **metadata: Any) -> str:
    with Converra(api_key="dev", base_url=server.base_url) as client:
        made = client.conversations.create(prompt_id="p", content=messages[:1], status="active")
        if messages[1:] or metadata:
            client.conversations.append_messages(made.id, messages=messages[1:], metadata=metadata)
        return made.id


def test_each_answer_is_asked_for_again(server: LocalServer) -> None:
    """With the recorded messages before it: a differing answer does not change the next question."""
    chat = [
        CHAT[0],
        {"role": "user", "content": "[[say:First]]"},
        *CHAT[2:5],
        {"role": "user", "content": "[[say:End]]"},
    ]
    chat += [{"role": "assistant", "content": "Bye"}, {"role": "system", "content": "Conversation ended."}]
    name = recorded(server, chat, tools=["look_up"])
    told = json.loads(printed("replay", name, "--model", "other", "--json"))
    assert (told["id"], told["model"]) == (name, "other")
    assert [(each["asked"], each["recorded"], each["new"]) for each in told["answers"]] == [
        ("[[say:First]]", f'{CALL["name"]}({{"order":7}})', "First"),
        ("sent", "It is sent.", "The tool says: sent"),
        ("[[say:End]]", "Bye", "End"),
    ]
    assert all(each["tokens"] > 0 and each["seconds"] >= 0 for each in told["answers"])
    lines = printed("replay", name, "--model", "other").splitlines()
    assert lines[:4] == ["asked:", "  [[say:First]]", "recorded:", '  look_up({"order":7})']
    assert lines[4].startswith("other (")
    assert lines[5:7] == ["  First", ""]


def test_side_by_side_on_a_terminal(server: LocalServer) -> None:
    """What was said does not steer the terminal."""
    name = recorded(
        server, [{"role": "user", "content": "[[say:New]]"}, {"role": "assistant", "content": "\x1b[2JOld"}]
    )
    screen = in_a_terminal([sys.executable, "-m", "converra", "replay", name, "--model", "other"]).screen
    (row,) = (line for line in screen.splitlines() if "Old" in line)
    assert "␛[2JOld" in row
    assert "New" in row


def test_what_cannot_be_replayed_is_said(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer, no key, a model that fails, no openai: one line each."""
    silent = recorded(server, [{"role": "user", "content": "Hello?"}])
    name = recorded(server, [{"role": "user", "content": "[[error:400]]"}, {"role": "assistant", "content": "Hi"}])
    expected = [
        (silent, "has no answer to ask for again"),
        (name, "other: "),
        ("conv_unknown", "Conversation not found"),
    ]
    for asked, problem in expected:
        result = ran("replay", asked, "--model", "other")
        assert result.exit_code != 0
        assert problem in result.output
        assert "Traceback" not in result.output
    monkeypatch.delenv("OPENAI_API_KEY")
    assert "api_key" in ran("replay", name, "--model", "other").output
    monkeypatch.setitem(sys.modules, "openai", None)
    assert 'pip install "converra[openai]"' in ran("replay", name, "--model", "other").output
