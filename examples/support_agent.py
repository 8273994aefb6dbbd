"""A support agent on LangGraph: two customers, each a thread of its own, tools, and a refund that a human approves.

Each thread is one conversation, recorded turn by turn, with its tool calls; nothing here names it but `thread_id`.

With a key of Converra's in CONVERRA_API_KEY and one of OpenAI's in OPENAI_API_KEY: `python examples/support_agent.py`.
Without any: in one terminal `converra dev`, in another the same with the variables that it prints.
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
    """Where an order is and when it arrives."""
    return {"order_id": order_id, "status": "in transit", "arrives": "Thursday"}


@tool
def refund(order_id: str) -> dict[str, str]:
    """Give a customer the money of an order back."""
    agreed = interrupt(f"Refund order {order_id}?")  # the graph stops here until somebody answers
    return {"order_id": order_id, "status": "refunded" if agreed == "yes" else "not refunded"}


agent: Any = create_agent(
    ChatOpenAI(model="gpt-4o-mini", stream_usage=True),
    [look_up_order, refund],
    system_prompt="You are the support assistant of a shop for tents.",
    checkpointer=InMemorySaver(),
)


def run(thread_id: str, given: Any) -> None:
    """One run of a thread; prints the model's words as they come, and what the graph waits for."""
    print(f"{thread_id}: ", end="")
    config = {"configurable": {"thread_id": thread_id}}
    for kind, part in agent.stream(given, config, stream_mode=["messages", "updates"]):
        if kind == "messages" and part[0].type == "AIMessageChunk":
            print(part[0].text, end="", flush=True)
        elif kind == "updates" and "__interrupt__" in part:
            print(part["__interrupt__"][0].value, end="")
    print()


def say(thread_id: str, words: str) -> None:
    """A customer says something."""
    run(thread_id, {"messages": [("user", words)]})


def main() -> None:
    """Two chats at the same time, turn by turn."""
    say("ada", "Hello, where is my order 4711?")
    say("ben", "I would like a refund for 1234, please.")
    say("ada", "Can my neighbour take it in on Thursday?")
    run("ben", Command(resume="yes"))
    say("ada", "Great, that is all. Thank you!")
    say("ben", "Thanks!")


if __name__ == "__main__":
    main()
