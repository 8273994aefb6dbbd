"""A support chat with a tool call and a streamed answer, recorded turn by turn.

With a Converra key in CONVERRA_API_KEY and an OpenAI key in OPENAI_API_KEY: `python examples/quickstart.py`.
Without keys: `make demo`.
"""

from __future__ import annotations

import json
from typing import Any

from openai import OpenAI

import converra

converra.instrument()

client = OpenAI()
MODEL = "gpt-4o-mini"
LOOK_UP_ORDER: Any = {
    "type": "function",
    "function": {
        "name": "look_up_order",
        "description": "Where an order is and when it arrives.",
        "parameters": {
            "type": "object",
            "properties": {"order_id": {"type": "string"}},
            "required": ["order_id"],
        },
    },
}


def look_up_order(order_id: str) -> dict[str, str]:
    """Query the shop's system; in this example it knows every order."""
    return {"order_id": order_id, "status": "in transit", "arrives": "Thursday"}


def answer(history: list[Any], question: str) -> str:
    """Ask the model and run the tools that it calls, until it answers in words."""
    history.append({"role": "user", "content": question})
    while True:
        completion = client.chat.completions.create(model=MODEL, messages=history, tools=[LOOK_UP_ORDER])
        message: Any = completion.choices[0].message
        history.append(message)
        if not message.tool_calls:
            return message.content or ""
        for call in message.tool_calls:
            result = look_up_order(**json.loads(call.function.arguments))
            history.append({"role": "tool", "tool_call_id": call.id, "content": json.dumps(result)})


def stream_answer(history: list[Any], question: str) -> str:
    """Ask the model and print its answer as it streams."""
    history.append({"role": "user", "content": question})
    stream = client.chat.completions.create(
        model=MODEL, messages=history, stream=True, stream_options={"include_usage": True}
    )
    text = ""
    for chunk in stream:
        for choice in chunk.choices:
            text += choice.delta.content or ""
            print(choice.delta.content or "", end="", flush=True)
    print()
    history.append({"role": "assistant", "content": text})
    return text


def main() -> None:
    """Run three turns of one conversation; each resends the history, which is recorded once."""
    history: list[Any] = [{"role": "system", "content": "You are the support assistant of a shop for tents."}]
    with converra.conversation("prompt_support", metadata={"channel": "web"}):
        print(answer(history, "Hello, where is my order 4711?"))
        stream_answer(history, "Can my neighbour take it in on Thursday?")
        print(answer(history, "Great, that is all. Thank you!"))


if __name__ == "__main__":
    main()
