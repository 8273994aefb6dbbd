"""Comparison of conversations from spans with those of our own capture: everything but ids and what only spans tell."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ONLY_ON_SPANS = ("emitter", "provider")
"""Metadata that says where a turn comes from."""


def comparable(conversations: list[Any]) -> list[Any]:
    """Return the conversations without ids that each run makes anew, and without the metadata that only spans have."""
    found = copy.deepcopy(conversations)
    for conversation in found:
        conversation["session"] = conversation["session"] and "a session"
        for message in conversation["messages"]:
            metadata = message.get("metadata", {})
            for name in ONLY_ON_SPANS:
                metadata.pop(name, None)
            if "runId" in metadata:
                metadata["runId"] = "a run"
            if not metadata:
                message.pop("metadata", None)
    return found


def _without_status(conversations: list[Any]) -> list[Any]:
    """Most emitters do not put the HTTP status of a failed call on its span."""
    for conversation in conversations:
        for message in conversation["messages"]:
            message.get("metadata", {}).get("error", {}).pop("status", None)
    return conversations


def _without_questions(conversations: list[Any]) -> list[Any]:
    for conversation in conversations:
        conversation["messages"] = [one for one in conversation["messages"] if one["role"] != "user"]
    return conversations


def _of_anthropic(conversations: list[Any]) -> list[Any]:
    for conversation in conversations:
        conversation["metadata"].pop("tools")
        for message in conversation["messages"]:
            if "error" in message.get("metadata", {}):
                message["metadata"]["error"] = {"type": "overloaded_error", "status": 529}
    return conversations


DIFFERENCES: dict[tuple[str, str], Callable[[list[Any]], list[Any]]] = {
    ("openllmetry", "picture"): _without_questions,
    ("anthropic", "claude"): _of_anthropic,
}
"""Emitter and program → how the conversations from spans differ; docs/how-to/opentelemetry.md lists the same."""


def expected(emitter: str, program: str, captured: list[Any]) -> list[Any]:
    """Return what spans should tell, by what our own capture recorded."""
    whole = _without_status(comparable(captured))
    differs = DIFFERENCES.get((emitter, program))
    return whole if differs is None else differs(whole)
