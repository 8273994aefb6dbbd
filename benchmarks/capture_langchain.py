"""Shapes of running LangChain: a real `ChatOpenAI` on a client that is stubbed as in `capture_openai`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI

from benchmarks import capture_openai
from benchmarks.interleaved import Scope, Shape

if TYPE_CHECKING:
    from pydantic import SecretStr

KEY: SecretStr | Any = "benchmark"

model = ChatOpenAI(model=capture_openai.MODEL, api_key=KEY)
chain = ChatPromptTemplate.from_messages([("system", "Be kind."), ("user", "{question}")]) | model | StrOutputParser()


def invoked(scope: Scope) -> None:
    """Run a chat of 20 short turns; the history grows from two messages to 40."""
    history: list[Any] = [SystemMessage("You are the support assistant of a shop for tents.")]
    with scope():
        for turn in range(20):
            history.append(HumanMessage(f"Question {turn}?"))
            history.append(model.invoke(history))


def awaited(scope: Scope) -> None:
    """Run the same chat in an event loop."""

    async def chat() -> None:
        history: list[Any] = [SystemMessage("You are the support assistant of a shop for tents.")]
        for turn in range(20):
            history.append(HumanMessage(f"Question {turn}?"))
            history.append(await model.ainvoke(history))

    with scope():
        capture_openai.loop.run_until_complete(chat())


def chained(scope: Scope) -> None:
    """Run a chain of prompt, model and parser 20 times."""
    with scope():
        for turn in range(20):
            chain.invoke({"question": f"Question {turn}?"})


def streamed(scope: Scope) -> None:
    """Stream five answers in 300 chunks each."""
    with scope():
        for turn in range(5):
            for _ in model.stream([HumanMessage(f"Question {turn}?")]):
                pass


SHAPES = (
    Shape("LangChain call", invoked, 20),
    Shape("LangChain async call", awaited, 20),
    Shape("LangChain chain", chained, 20),
    Shape("LangChain stream of 300 chunks", streamed, 5),
)
