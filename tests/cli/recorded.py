"""Conversations in a file of `converra dev`, put there through the API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from click.testing import CliRunner

from converra import Converra
from converra.cli.group import commands
from converra.server.run import serve

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from click.testing import Result

CALL = {"id": "c1", "name": "look_up", "arguments": {"order": 7}}

CHAT: list[Any] = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Where is my order?", "metadata": {"messageId": "m2"}},
    {
        "role": "tool",
        "content": "",
        "toolCalls": [CALL],
        "model": "gpt-4o",
        "usage": {"promptTokens": 20, "completionTokens": 5},
        "latencyMs": 812.4,
    },
    {"role": "tool", "content": "sent", "toolCalls": [{"id": "c1", "name": "look_up"}]},
    {"role": "assistant", "content": "It is sent.", "model": "gpt-4o", "latencyMs": 90},
    {"role": "user", "content": "Thanks!"},
    {"role": "assistant", "content": "You are welcome."},
]


def record(
    path: Path,
    messages: Sequence[Any] = CHAT,
    *,
    prompt_id: str = "prompt_1",
    status: Any = "completed",
    user_id: str | int | None = None,
) -> str:
    """Record a conversation as the recorder does; its id."""
    with serve(path=path) as server, Converra(api_key="dev", base_url=server.base_url) as client:
        whole = len(messages) == 1
        made = client.conversations.create(
            prompt_id=prompt_id, content=messages[:1], status=status if whole else "active", llm_model="gpt-4o"
        )
        if whole:
            return made.id
        user = {} if user_id is None else {"userId": user_id}
        ends: Any = "completed" if status == "completed" else None
        client.conversations.append_messages(
            made.id, messages=messages[1:], status=ends, metadata={"channel": "web", "sessionId": "s1"} | user
        )
        return made.id


def ran(*arguments: str) -> Result:
    """A command, in this process."""
    return CliRunner().invoke(commands, list(arguments))


def printed(*arguments: str) -> str:
    """What a command prints that ends well."""
    result = ran(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout
