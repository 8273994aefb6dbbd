"""A support agent on LangGraph: two customers in two threads, tools, and a refund that a human approves.

Each thread is one conversation, recorded turn by turn, with its tool calls. Only `thread_id` identifies it.

In a checkout: `pip install ".[langchain,openai,server]" langchain langchain-openai langgraph`.

With a Converra key in CONVERRA_API_KEY and an OpenAI key in OPENAI_API_KEY: `python examples/support_agent.py`.
Without keys: `converra dev --fake-llm -- python examples/support_agent.py`.
"""

from __future__ import annotations

from typing import Any

from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt

import converra

converra.instrument(prompt_id="prompt_support")


@tool
def look_up_order(order_id: str) -> dict[str, str]:
    """Look up where an order is and when it arrives."""
    return {"order_id": order_id, "status": "in transit", "arrives": "Thursday"}


@tool
def refund(order_id: str) -> dict[str, str]:
    """Refund an order to the customer."""
    agreed = interrupt(f"Refund order {order_id}?")  # the run pauses here until it is resumed with an answer
    return {"order_id": order_id, "status": "refunded" if agreed == "yes" else "not refunded"}


agent: Any = create_agent(
    ChatOpenAI(model="gpt-4o-mini", stream_usage=True),
    [look_up_order, refund],
    system_prompt="You are the support assistant of a shop for tents.",
    checkpointer=InMemorySaver(),
)


def run(thread_id: str, given: Any) -> None:
    """Run a thread once; print the model's words as they stream, and the question of an interrupt."""
    print(f"{thread_id}: ", end="")
    config = {"configurable": {"thread_id": thread_id}}
    for kind, part in agent.stream(given, config, stream_mode=["messages", "updates"]):
        if kind == "messages" and part[0].type == "AIMessageChunk":
            print(part[0].text, end="", flush=True)
        elif kind == "updates" and "__interrupt__" in part:
            print(part["__interrupt__"][0].value, end="")
    print()


def say(thread_id: str, words: str) -> None:
    """Send a customer's message."""
    run(thread_id, {"messages": [("user", words)]})


def main() -> None:
    """Run two chats in alternation."""
    say("ada", "Hello, where is my order 4711?")
    say("ben", "I would like a refund for 1234, please.")
    say("ada", "Can my neighbour take it in on Thursday?")
    run("ben", Command(resume="yes"))
    say("ada", "Great, that is all. Thank you!")
    say("ben", "Thanks!")


if __name__ == "__main__":
    main()
