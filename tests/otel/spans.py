"""Spans as emitters of the current conventions make them, for tests that say when they come and what is around them."""

from __future__ import annotations

import itertools
import json
from typing import Any

from converra.spans.span import Span

_ids = itertools.count(1)
SECOND = 1_000_000_000


def said(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text}]}


HI = said("user", "Hi")


def span(name: str = "work", **fields: Any) -> Span:
    """A span with an id of its own, of a trace of its own if none is given; it lasts a second."""
    number = next(_ids)
    parent = fields.pop("inside", None)
    if parent is not None:
        fields |= {"trace_id": parent.trace_id, "parent_id": parent.span_id}
    started = fields.pop("at", number) * SECOND
    whole = {"trace_id": f"{number:032x}", "span_id": f"{number:016x}", "started": started, "ended": started + SECOND}
    return Span(name=name, **(whole | fields))


def chat(*messages: dict[str, Any], answer: str | None = "Yes.", attributes: Any = None, **fields: Any) -> Span:
    """A call of a model; without messages, one without content."""
    found: dict[str, Any] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.model": "gpt-4o",
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 2,
    }
    if messages:
        found["gen_ai.input.messages"] = json.dumps(messages)
    if messages and answer is not None:
        found["gen_ai.output.messages"] = json.dumps([{**said("assistant", answer), "finish_reason": "stop"}])
    return span("chat gpt-4o", kind="client", attributes=found | (attributes or {}), **fields)
