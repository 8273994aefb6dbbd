"""A conversation in the terminal."""

from __future__ import annotations

from datetime import UTC, datetime
from io import StringIO
from typing import Any

from inline_snapshot import snapshot
from rich.console import Console

from converra.api.results import StoredConversation
from converra.cli.chat import chat
from converra.cli.plain import conversation_lines


def _shown(messages: list[dict[str, Any]], width: int = 80, **more: Any) -> str:
    conversation = {"id": "conv_1", "promptId": "prompt_1", "status": "completed", "messages": messages, **more}
    console = Console(file=StringIO(), width=width)
    console.print(chat(StoredConversation.from_dict(conversation)))
    assert isinstance(console.file, StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def test_turns_read_like_a_chat() -> None:
    """Who said what, which tools were called and what they returned, and what each turn cost."""
    shown = _shown(
        [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "Where is my order?"},
            {
                "role": "tool",
                "content": "",
                "toolCalls": [{"id": "c1", "name": "look_up", "arguments": {"order": "4711", "fast": True}}],
                "model": "gpt-4o",
                "usage": {"promptTokens": 20, "completionTokens": 5},
                "latencyMs": 812.4,
            },
            {"role": "tool", "content": "on its way", "toolCalls": [{"id": "c1", "name": "look_up"}]},
            {
                "role": "assistant",
                "content": "It is on its way.",
                "model": "gpt-4o",
                "usage": {"promptTokens": 40, "completionTokens": 6},
                "latencyMs": 900,
                "metadata": {"timeToFirstTokenMs": 312},
            },
        ]
    )
    assert shown == snapshot("""\
conv_1  completed  prompt_1
5 messages · 60 tokens in, 11 out

system     Be kind.

user       Where is my order?

tool       calls look_up(order="4711", fast=true)
           gpt-4o · 20 tokens in, 5 out · 812 ms

tool       look_up returned on its way

assistant  It is on its way.
           gpt-4o · 40 tokens in, 6 out · 900 ms, first token after 312 ms
""")


def test_trouble_shows() -> None:
    """A turn that was cut short or failed says so, and arguments that were no JSON are shown as they came."""
    shown = _shown(
        [
            {
                "role": "assistant",
                "content": "It is",
                "metadata": {"partial": True, "error": {"type": "APITimeoutError"}},
                "toolCalls": [{"id": "c1", "name": "look_up", "arguments": "{order: 47"}, {"name": "wave"}],
            },
            {"role": "narrator", "content": "Later."},
            {"content": "…"},
        ]
    )
    assert shown == snapshot("""\
conv_1  completed  prompt_1
3 messages

assistant  It is
           calls look_up({order: 47)
           calls wave()
           cut short · failed: APITimeoutError

narrator   Later.

?          …
""")


def test_what_was_said_is_only_text() -> None:
    """Words in brackets are words, not markup."""
    assert "[bold]hello[/bold] [link=x]" in _shown([{"role": "user", "content": "[bold]hello[/bold] [link=x]"}])


def test_what_was_said_does_not_steer_the_terminal() -> None:
    """Control characters, escape sequences among them, are shown instead of obeyed."""
    assert "␛[2J␇gone␛]0;mine" in _shown([{"role": "user", "content": "\x1b[2J\agone\x9b]0;mine"}])


def test_a_transcript_reads_like_a_chat_too() -> None:
    """Where the API shows no messages, as its document promises none, the words of the content are shown."""
    assert _shown([], content="User: Hello?\nAssistant: Hello!\nHow can I help?") == snapshot("""\
conv_1  completed  prompt_1
2 messages

user       Hello?

assistant  Hello!
           How can I help?
""")


def test_a_conversation_without_words() -> None:
    """An API that shows neither leaves the head line."""
    assert _shown([]) == snapshot("""\
conv_1  completed  prompt_1
0 messages

""")


def test_results_are_laid_out_and_times_shown() -> None:
    """A tool's JSON with indentation, other results as they came, the local time of a message, thousands apart."""
    at = datetime(2026, 5, 1, 12, 30, 15, tzinfo=UTC)
    shown = _shown(
        [
            {"role": "user", "content": '{"not": "a result"}', "timestamp": at.isoformat()},
            {"role": "tool", "content": '{"order":{"id":4711},"lines":[1,2]}', "toolCalls": [{"name": "look_up"}]},
            {"role": "tool", "content": "[not JSON", "toolCalls": [{"name": "look_up"}]},
            {"role": "assistant", "content": "Yes.", "usage": {"promptTokens": 2024, "completionTokens": 1}},
        ]
    )
    assert f'user       {{"not": "a result"}}\n           {at.astimezone():%H:%M:%S}\n' in shown
    assert 'tool       look_up returned {\n             "order": {\n               "id": 4711\n' in shown
    assert "look_up returned [not JSON" in shown
    assert "4 messages · 2,024 tokens in, 1 out" in shown


def test_the_last_messages_suffice() -> None:
    """The head still counts all of them; more than there are is all."""
    found = StoredConversation.from_dict({"messages": [{"role": "user", "content": f"Word {n}"} for n in range(3)]})
    console = Console(file=StringIO(), width=80)
    console.print(chat(found, 2))
    assert isinstance(console.file, StringIO)
    shown = console.file.getvalue()
    assert ("3 messages" in shown, "Word 0" in shown, "Word 1" in shown, "Word 2" in shown) == (True, False, True, True)
    lines = list(conversation_lines(found, 1))
    assert lines[1:] == ["", "user:", "  Word 2"]
    assert list(conversation_lines(found, 9)) == list(conversation_lines(found))
