"""`converra mcp`: recorded conversations for coding agents, by the Model Context Protocol on standard streams."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import closing
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from converra._version import __version__
from converra.cli.commands.search import found
from converra.cli.failures import explained
from converra.cli.local import recorded
from converra.cli.plain import conversation_lines
from converra.cli.source import Wanted, source_of, source_options
from converra.errors import ConverraError

if TYPE_CHECKING:
    from collections.abc import Callable

    from converra.api.results import StoredConversation

NO_MCP = 'this needs the official SDK of the protocol: pip install "converra[mcp]"'

INSTRUCTIONS = (
    "Conversations that an LLM app had with its users, recorded turn by turn by the Python package converra: messages, "
    "tool calls, token usage, latency. Use explain_recording if calls of the app are missing here."
)

MOST = 100
"""Conversations of one list."""


class Tools:
    """The tools that an agent is offered; their docstrings are what it reads about them."""

    def __init__(self, *, local: bool, db: str | None) -> None:
        self._local = local or db is not None
        self._db = db

    def list_conversations(
        self, limit: int = 20, prompt_id: str | None = None, status: str | None = None
    ) -> list[dict[str, Any]]:
        """List recorded conversations, newest first.

        `limit` is at most 100. `prompt_id` and `status` (active, in_progress, completed, abandoned) filter.
        """
        wanted = Wanted(prompt_id=prompt_id, status=status)  # type: ignore[arg-type]  # an unknown one finds nothing
        with source_of(local=self._local, db=self._db) as source:
            return [_row(each.conversation) for each in source.list(limit=max(1, min(limit, MOST)), wanted=wanted)]

    def search_conversations(self, words: str, limit: int = 20) -> list[dict[str, str]]:
        """Find recorded conversations that have all the words in one message, newest first, with an excerpt."""
        with closing(recorded(self._db)) as store:
            return found(store, words, max(1, min(limit, MOST)))

    def read_conversation(self, conversation_id: str, last: int | None = None) -> str:
        """Read one conversation as text: who said what, tool calls, and what each turn cost.

        `conversation_id` is an id, a part of one that is enough to tell it from others, or "last" for the newest.
        `last` is the number of last messages to show; all by default.
        """
        with source_of(local=self._local, db=self._db) as source:
            return "\n".join(conversation_lines(source.get(conversation_id), last))

    def read_insights(self, conversation_id: str) -> dict[str, Any]:
        """Read what the analysis of a completed conversation found: sentiment, topics, summary, issues."""
        with source_of(local=self._local, db=self._db) as source:
            return source.insights(conversation_id).to_dict()

    def explain_recording(self) -> dict[str, Any]:
        """Explain what is recorded on this machine and what is not: settings, key, versions, libraries, tries."""
        command = [sys.executable, "-m", "converra", "doctor", "--json", "--offline"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)  # noqa: S603 - this program
        report: dict[str, Any] = json.loads(done.stdout)
        return report


def _row(conversation: StoredConversation) -> dict[str, Any]:
    whole = conversation.to_dict()
    names = ("id", "promptId", "status", "title", "createdAt", "hasInsights", "llmModel")
    return {name: whole[name] for name in names if name in whole}


def _readable(tool: Callable[..., Any], failure: type[Exception]) -> Callable[..., Any]:
    """Have an agent read the errors that people read; of any other, it learns only that there was one."""

    @wraps(tool)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return tool(*args, **kwargs)
        except ConverraError as error:
            raise failure(explained(error)) from error
        except click.ClickException as error:
            raise failure(error.message) from error

    return call


@click.command()
@source_options
def mcp(*, local: bool, db: str | None) -> None:
    """Serve recorded conversations to a coding agent, which starts this command and talks to it (MCP, stdio).

    The agent can list, read and, with --local, search conversations, and ask why calls are not recorded.
    """
    try:
        from mcp.server.mcpserver import MCPServer  # noqa: PLC0415 - of an extra
        from mcp.server.mcpserver.exceptions import ToolError  # noqa: PLC0415 - as above
    except ImportError as error:
        raise click.ClickException(NO_MCP) from error
    tools = Tools(local=local, db=db)
    server = MCPServer("converra", version=__version__, instructions=INSTRUCTIONS, log_level="WARNING")
    offered: list[Callable[..., Any]] = [
        tools.list_conversations,
        tools.read_conversation,
        tools.read_insights,
        tools.explain_recording,
    ]
    if local or db:
        offered.insert(1, tools.search_conversations)
    for tool in offered:
        server.add_tool(_readable(tool, ToolError))
    server.run("stdio")
