"""From the Claude Agent SDK to the stored conversation: runs, tools, sub-agents, sessions, failures."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import claude_agent_sdk
import pytest
from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient

from tests.integrations.claude_agent_shapes import InProcess, Lines, client, executable, interrupted, once, run, several
from tests.integrations.stored import recorder_for, stored
from tests.patience import LONG

if TYPE_CHECKING:
    from pathlib import Path

    from converra.capture.recorder import Recorder
    from converra.server.run import LocalServer


CRASH = "ProcessError" if hasattr(claude_agent_sdk, "ResultError") else "Exception"
"""The class of the exception for a program that fails: old versions raise a bare one."""


def _words(found: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(one["role"], one["content"], [call["name"] for call in one.get("toolCalls", ())]) for one in found]


READING: list[tuple[Any, ...]] = [
    ("user", "read: it", []),
    ("assistant", "Let me look.", ["Read", "Read"]),
    ("tool", "green", ["Read"]),
    ("tool", "red", ["Read"]),
    ("assistant", "Green and red.", []),
]


def test_a_run_of_the_real_program(server: LocalServer, recorder: Recorder, tmp_path: Path) -> None:
    """Both ways to ask it, over its standard input and output: prompts, calls, results and answers, once each."""
    options = ClaudeAgentOptions(cli_path=executable(tmp_path), system_prompt="Be brief.", cwd=tmp_path)

    async def main() -> None:
        async for _ in claude_agent_sdk.query(prompt="Hi", options=options):
            pass
        async with ClaudeSDKClient(options) as asked:
            for prompt in ("read: it", "stream: it"):
                await asked.query(prompt)
                async for _ in asked.receive_response():
                    pass

    found = stored(server, recorder, lambda: asyncio.run(main()))
    assert _words(found) == [
        ("system", "Be brief.", []),
        ("user", "Hi", []),
        ("assistant", "Good day.", []),
        *READING,
        ("user", "stream: it", []),
        ("assistant", "Good day.", []),
    ]
    greeting = found[2]
    assert greeting["model"] == "claude-sonnet-5"
    assert greeting["usage"] == {"promptTokens": 303, "completionTokens": 9}
    assert greeting["metadata"]["run"]["costUsd"] == 0.01
    assert found[4]["usage"] == {"promptTokens": 303, "completionTokens": 2}, "the parts of one answer count once"
    assert found[4]["metadata"]["reasoning"] == "I look."


def test_sub_agents_are_side_calls_with_a_name(server: LocalServer, recorder: Recorder) -> None:
    """Their messages form a thread beside the main one; answers say which agent and which call made them."""
    found = stored(server, recorder, lambda: run(client("delegate: it", "Hi"), InProcess(Lines())))
    marks = [
        (one["role"], one["content"], metadata.get("thread"), metadata.get("agent"), metadata.get("runId"))
        for one in found
        for metadata in (one.get("metadata") or {},)
    ]
    assert marks == [
        ("user", "delegate: it", None, None, None),
        ("tool", "", None, None, None),
        ("user", "Find the tent.", 1, None, None),
        ("tool", "", 1, "explorer", "toolu_3"),
        ("tool", "a tent", 1, None, None),
        ("assistant", "It is a tent.", 1, "explorer", "toolu_3"),
        ("tool", "It is a tent.", None, None, None),
        ("assistant", "Found.", None, None, None),
        ("user", "Hi", None, None, None),
        ("assistant", "Good day.", None, None, None),
    ]


def test_an_answer_that_sub_agents_interrupt_counts_once(server: LocalServer, recorder: Recorder) -> None:
    """Its calls are recorded where they were made, and its token usage with the first of them."""
    found = stored(server, recorder, lambda: run(client("parallel: it"), InProcess(Lines())))
    assert [(one["content"], "usage" in one) for one in found if one["role"] != "user"] == [
        ("", True),
        ("", False),
        ("Nothing.", True),
        ("Nothing.", True),
        ("Nothing.", False),
        ("Nothing.", False),
        ("Nothing at all.", True),
    ]


def test_a_sub_agent_in_the_background(server: LocalServer, recorder: Recorder) -> None:
    """It speaks between the last answer of the main agent and the end of the run, whose facts the answer has."""
    found = stored(server, recorder, lambda: run(client("background: it", "Hi"), InProcess(Lines())))
    facts = [(one["content"], one["metadata"]) for one in found if one["role"] == "assistant"]
    assert [(words, one.get("run", {}).get("numTurns"), one.get("agent")) for words, one in facts] == [
        ("It looks.", 2, None),
        ("Good day.", 1, None),
        ("A tent.", None, "explorer"),
    ]


def test_sessions_and_clear(server: LocalServer) -> None:
    """Outside of a block, a session is a conversation; /clear completes it, and the next one has an id of its own."""
    with recorder_for(server, prompt_id="prompt_sessions") as recorder:
        run(client("Hi", "Hi", "/clear", "Thanks"), InProcess(Lines()))
        assert recorder.flush(timeout=LONG)
        found, _ = server.store.conversations(prompt_id="prompt_sessions")
        by_session = {one.metadata["sessionId"]: one for one in found}
        assert sorted(by_session) == ["session-1", "session-2"]
        assert by_session["session-1"].status == "completed"
        assert by_session["session-2"].status != "completed"
    words = {
        name: [each["content"] for each in server.store.messages(one) if each["role"] != "system"]
        for name, one in by_session.items()
    }
    assert words == {
        "session-1": ["Hi", "Good day.", "Hi", "Good day.", "/clear"],
        "session-2": ["Thanks", "Good day."],
    }


def test_failures_and_interrupts(server: LocalServer, recorder: Recorder) -> None:
    """A run that is interrupted, fails, ends early or crashes is recorded as far as it came, with the reason."""

    def talk() -> None:
        run(interrupted, InProcess(Lines()))
        run(client("fail: now", "exhaust: it", "/cost"), InProcess(Lines()))
        run(once("crash: it"), InProcess(Lines()))

    found = stored(server, recorder, talk)
    facts = [
        (one["content"], metadata.get("error", {}).get("type"), metadata.get("partial"))
        for one in found
        if one["role"] != "system"
        for metadata in (one.get("metadata") or {},)
    ]
    assert facts == [
        ("stop: now", None, None),
        ("Good", "error_during_execution", True),
        ("[Request interrupted by user]", None, None),
        ("Hi", None, None),
        ("Good day.", None, None),
        ("fail: now", None, None),
        ("API Error: 529 Overloaded", "overloaded", None),
        ("exhaust: it", None, None),
        ("", "error_max_turns", None),
        ("blue", None, None),
        ("/cost", None, None),
        ("Total cost: $0.01", None, None),
        ("crash: it", None, None),
        ("Good", CRASH, True),
    ]


@pytest.mark.parametrize("prompt", ["read: it", several])
def test_query_with_a_text_and_with_several_prompts(server: LocalServer, recorder: Recorder, prompt: Any) -> None:
    """Prompts that are written at once are answered by a run each."""
    found = stored(server, recorder, lambda: run(once(prompt), InProcess(Lines())))
    greeting: list[tuple[Any, ...]] = [("user", "Hi", []), ("assistant", "Good day.", [])] if prompt is several else []
    assert _words(found) == [*greeting, *READING]
