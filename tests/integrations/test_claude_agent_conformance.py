"""The claude-agent-sdk integration keeps the promises of every integration."""

from __future__ import annotations

from typing import Any

from claude_agent_sdk._internal.query import Query

from converra.integrations.claude_agent import INTEGRATION
from tests.integrations.claude_agent_shapes import SHAPES, serve
from tests.integrations.conformance import Conformance, Subject


def functions() -> list[tuple[Any, str]]:
    return [(Query, name) for name in ("start", "receive_messages", "close")]


class TestClaudeAgent(Conformance):
    """With a transport that stands for the CLI."""

    subject = Subject(INTEGRATION, functions, SHAPES, serve)
