"""`converra mcp`: the official client of the protocol starts the command and asks it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

mcp = pytest.importorskip("mcp")

from tests.cli.recorded import CHAT, ran, record  # noqa: E402 - after the check for the extra
from tests.patience import LONG  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def asked(arguments: list[str], questions: Callable[[Any], Awaitable[Any]], **environment: str) -> Any:
    """What an agent learns that starts the command with some arguments."""
    command = mcp.StdioServerParameters(
        command=sys.executable, args=["-m", "converra", "mcp", *arguments], env=environment or None
    )

    async def session() -> Any:
        async with mcp.Client(mcp.stdio_client(command, errlog=log)) as client:
            return await questions(client)

    with Path(os.devnull).open("w") as log:  # by default, what was standard error when the SDK was imported
        return asyncio.run(asyncio.wait_for(session(), LONG))


def text(result: Any) -> str:
    return "".join(block.text for block in result.content)


def test_an_agent_reads_what_was_recorded(tmp_path: Path) -> None:
    """It lists, searches and reads conversations of the file, and is told in words what it asks wrongly."""
    db = tmp_path / "kept.db"
    first, second = record(db), record(db, [*CHAT[:2], {"role": "assistant", "content": "Unmistakable."}])

    async def questions(client: Any) -> Any:
        offered = await client.list_tools()
        calls = [
            ("list_conversations", {"limit": 1}),
            ("search_conversations", {"words": "unmistakable"}),
            ("read_conversation", {"conversation_id": first, "last": 2}),
            ("read_insights", {"conversation_id": "last"}),
            ("read_conversation", {"conversation_id": "conv_unknown"}),
            ("list_conversations", {"limit": "many"}),
        ]
        return offered, [await client.call_tool(*call) for call in calls], client.instructions

    offered, results, instructions = asked(["--db", str(db)], questions)
    assert [tool.name for tool in offered.tools] == [
        *("list_conversations", "search_conversations", "read_conversation", "read_insights", "explain_recording")
    ]
    assert all(tool.description for tool in offered.tools)
    assert "explain_recording" in instructions
    listed, searched, read, insights, unknown, wrong = results
    assert json.loads(text(listed))["id"] == second
    assert json.loads(text(searched))["excerpt"] == "Unmistakable."
    assert text(read).splitlines()[2:] == ["user:", "  Thanks!", "", "assistant:", "  You are welcome."]
    assert json.loads(text(insights))["conversationId"] == second
    assert unknown.is_error
    assert "conv_unknown" in text(unknown)
    assert wrong.is_error


def test_an_agent_is_told_what_is_not_recorded() -> None:
    """Of the API there is no search; the doctor's report needs neither key nor network."""

    async def questions(client: Any) -> Any:
        tools = await client.list_tools()
        report = await client.call_tool("explain_recording", {})
        return [tool.name for tool in tools.tools], report, await client.call_tool("list_conversations", {})

    names, report, listed = asked([], questions, CONVERRA_INTEGRATIONS="openai")
    assert "search_conversations" not in names
    checks = json.loads(text(report))["checks"]
    assert {"settings", "versions", "capture"} <= {check["group"] for check in checks}
    assert listed.is_error
    assert "set CONVERRA_API_KEY" in text(listed)


def test_without_the_sdk_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, with what to install."""
    monkeypatch.setitem(sys.modules, "mcp.server.mcpserver", None)
    result = ran("mcp")
    assert result.exit_code == 1
    assert 'pip install "converra[mcp]"' in result.output
