"""Results of tools and data that a provider takes as objects: they are recorded as JSON text, whatever they hold."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from converra.integrations.bedrock.blocks import blocks
from converra.integrations.dspy import messages as dspy
from converra.integrations.google_genai.contents import GENERATE
from converra.integrations.langchain.content import content
from converra.integrations.openai.items import read

if TYPE_CHECKING:
    from collections.abc import Callable

ODD = {"half": "x \ud83d", "number": float("nan"), "bytes": b"\x00"}


def _gemini(value: Any) -> str:
    part = {"function_response": {"id": "1", "name": "tool", "response": value}}
    return GENERATE.read({"role": "user", "parts": [part]})[0].text


def _langchain(value: Any) -> str:
    block = {"type": "server_tool_result", "tool_call_id": "1", "output": value}
    return content([block]).hosted[0].text


READERS: dict[str, Callable[[Any], str]] = {
    "bedrock": lambda value: blocks([{"json": value}])[0]["text"],
    "dspy": lambda value: (
        dspy.read(SimpleNamespace(role="user", parts=[SimpleNamespace(type="data", value=value)]))[0].text
    ),
    "google-genai": _gemini,
    "langchain": _langchain,
    "openai": lambda value: read({"type": "function_call_output", "call_id": "1", "output": value})[0].text,
}


@pytest.mark.parametrize("reader", READERS)
def test_half_a_character_costs_no_turn(reader: str) -> None:
    """What JSON cannot hold is replaced, and the rest is recorded."""
    text = READERS[reader](ODD)
    assert "x \ufffd" in text
    assert text.encode()
