"""Calls whose request ends with the beginning of the answer: both are recorded as one message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.integrations.anthropic.messages import prefill
from converra.integrations.payload.fields import items
from converra.integrations.payload.prefill import PrefilledCall

if TYPE_CHECKING:
    from converra.integrations import CapturedCall


def prefilled(call: CapturedCall, body: dict[str, Any]) -> CapturedCall:
    """Return the call of a body, whose answers begin with the body's prefill if it has one."""
    messages = items(body.get("messages"))
    beginning = prefill(messages) if messages else ""
    return PrefilledCall(call, beginning) if beginning else call
