"""App of the reader, as `docs/how-to/test-conversations.md` assumes it: the page's tests import it as `shop`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from openai import OpenAI

import converra

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionToolParam

converra.instrument()

PARAMETERS: dict[str, object] = {
    "type": "object",
    "properties": {"order_id": {"type": "string"}},
    "required": ["order_id"],
}
TOOL: ChatCompletionToolParam = {
    "type": "function",
    "function": {"name": "look_up_order", "parameters": PARAMETERS},
}


def answer(question: str) -> str | None:
    """Answer a customer, with the help of one tool."""
    client = OpenAI()
    system = {"role": "system", "content": "You are the support assistant of a shop for tents."}
    history: list[Any] = [system, {"role": "user", "content": question}]
    with converra.conversation("prompt_support"):
        message = client.chat.completions.create(model="m", messages=history, tools=[TOOL]).choices[0].message
        assert message.tool_calls
        history += [message, {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "in transit"}]
        return client.chat.completions.create(model="m", messages=history, tools=[TOOL]).choices[0].message.content
