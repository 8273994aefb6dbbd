"""A program that plays one run of a thread: `python langchain_thread.py CHECKPOINT ask WORDS | resume ANSWER`.

`static-ask WORDS` and `static-resume -` are the same for an agent with a breakpoint before its tools.

The checkpoint is a file, so that the next process goes on where this one was interrupted.
"""

from __future__ import annotations

import asyncio
import pickle
import sys
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt

import converra


@tool
def refund(order: str) -> str:
    """Refund an order, if a human being agrees."""
    return f"refunded {order}: {interrupt('Refund?')}"


@tool
def check(order: str) -> str:
    """Look up an order."""
    return f"checked {order}"


def loaded(path: Path) -> InMemorySaver:
    """The checkpoints that the last process left."""
    saver = InMemorySaver()
    if path.exists():
        for kept, found in zip(_parts(saver), pickle.loads(path.read_bytes()), strict=True):  # noqa: S301 - our own
            kept.update(found)
    return saver


def _parts(saver: InMemorySaver) -> list[Any]:
    return [saver.storage, saver.writes, saver.blobs]


def main(path: Path, kind: str, words: str) -> None:
    """One run of the thread, as a user of `converra.instrument()` has it."""
    converra.instrument(prompt_id="prompt")
    saver = loaded(path)
    breakpoints = ["tools"] if kind.startswith("static") else None
    tools = [check if breakpoints else refund]
    agent = create_agent(ChatOpenAI(model="gpt-4o"), tools, checkpointer=saver, interrupt_before=breakpoints)
    given: Any = Command(resume=words) if kind == "resume" else None
    if kind.endswith("ask"):
        given = {"messages": [HumanMessage(words)]}
    asyncio.run(agent.ainvoke(given, {"configurable": {"thread_id": "t"}}))
    path.write_bytes(pickle.dumps([dict(part) for part in _parts(saver)]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
