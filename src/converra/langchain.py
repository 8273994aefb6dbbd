"""LangChain and LangGraph by hand: `ConverraCallbackHandler`, for those who do not call `converra.instrument()`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra._default import capture, recorder
from converra.capture.spec import checked_id, checked_metadata
from converra.history.turn import Origin
from converra.integrations.langchain.handler import RunHandler
from converra.integrations.langchain.pauses import watch

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ConverraCallbackHandler"]


class ConverraCallbackHandler(RunHandler):
    """Records the runs that it is given to, in LangChain's `callbacks` or `config={"callbacks": [...]}`.

    One handler may serve any number of chains at a time. A run belongs to the `converra.conversation()` that is active;
    else to its LangGraph thread; else to the session `session_id`; else to the conversation of this handler whose
    history it continues.

    Args:
        prompt_id: The prompt of the conversations. Default: that of `converra.instrument()`.
        session_id: The session of runs that have no LangGraph thread. Default: none.
        metadata: Metadata of the conversations that this handler opens, as a dict that JSON can hold.
        retrieved_documents: True: an answer's metadata lists the documents that the chain's retrievers found for it.

    Raises:
        InvalidArgumentError: An argument can never work, such as an empty prompt id.

    Example::

        handler = ConverraCallbackHandler("prompt_support", session_id="ticket-7")
        chain.invoke({"question": "Where is my order?"}, {"callbacks": [handler]})
        handler.complete()

    """

    def __init__(
        self,
        prompt_id: str | None = None,
        session_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        retrieved_documents: bool = False,
    ) -> None:
        self._given = Origin(
            None if prompt_id is None else checked_id("prompt_id", prompt_id),
            None if session_id is None else checked_id("session_id", session_id),
            checked_metadata({} if metadata is None else metadata),
        )
        super().__init__(capture, self._given, retrieved=retrieved_documents)

    def __repr__(self) -> str:
        return f"ConverraCallbackHandler(prompt_id={self._given.prompt_id!r}, session_id={self._given.session_id!r})"

    def _outermost(self) -> None:
        """Observe pauses of graphs, which LangGraph does not report to callbacks."""
        if recorder().config.enabled:
            watch()

    def complete(self) -> None:
        """Complete the conversations that this handler's runs were recorded in; later runs open new ones."""
        capture().complete_origin(self._given)
