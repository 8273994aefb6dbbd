"""Retrieval: what was found for an answer, where a handler was asked to keep it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda, RunnablePassthrough

from converra.langchain import ConverraCallbackHandler
from tests.integrations.langchain_app import App, running

if TYPE_CHECKING:
    from collections.abc import Iterator


class Shelf(BaseRetriever):
    """Finds the same two documents for every question."""

    def _get_relevant_documents(self, query: str, **kwargs: Any) -> list[Document]:
        return [
            Document("Tents are waterproof.", id="d1", metadata={"source": "faq.md", "page": 3}),
            Document("Except the red one."),
        ]


FOUND = [
    {"id": "d1", "content": "Tents are waterproof.", "metadata": {"source": "faq.md", "page": 3}},
    {"content": "Except the red one."},
]


@pytest.fixture
def app() -> Iterator[App]:
    """An app with a handler of its own."""
    with running(instrumented=False) as running_app:
        yield running_app


def rag(app: App) -> Any:
    """A chain that retrieves, then answers, then judges its answer."""
    question: Any = RunnableLambda(lambda found: f"[[say:Yes.]] {len(found['documents'])}")
    answered: Any = {"documents": Shelf(), "question": RunnablePassthrough()} | question | app.model()
    return answered | RunnableLambda(lambda _: "[[say:Good.]]") | app.model()


def documents(app: App) -> list[Any]:
    """The answers, each with what was retrieved for it."""
    answers = [message for message in app.messages() if message[0] == "assistant"]
    return [(text, facts.get("metadata", {}).get("documents")) for _, text, facts in answers]


def test_documents_are_kept_where_asked_for(app: App) -> None:
    """The answer that follows the retrieval in the same chain lists the documents, and only that one."""
    rag(app).invoke("Rain?", {"callbacks": [ConverraCallbackHandler("prompt", retrieved_documents=True)]})
    assert documents(app) == [("Yes.", FOUND), ("Good.", None)]


def test_documents_are_left_out_where_not(app: App) -> None:
    """Documents can be many and private: by default they are not kept."""
    rag(app).invoke("Rain?", {"callbacks": [ConverraCallbackHandler("prompt")]})
    assert documents(app) == [("Yes.", None), ("Good.", None)]


def test_documents_in_a_coroutine(app: App) -> None:
    """The same in an event loop."""

    async def main(app: App) -> None:
        await rag(app).ainvoke("Rain?", {"callbacks": [ConverraCallbackHandler("prompt", retrieved_documents=True)]})

    app.run(main)
    assert documents(app) == [("Yes.", FOUND), ("Good.", None)]


def test_documents_of_nobody(app: App) -> None:
    """A retriever that is called outside of a chain finds for nobody in particular."""
    handler = ConverraCallbackHandler("prompt", retrieved_documents=True)
    Shelf().invoke("Rain?", {"callbacks": [handler]})
    app.model().invoke("[[say:Yes.]]", {"callbacks": [handler]})
    assert documents(app) == [("Yes.", None)]
