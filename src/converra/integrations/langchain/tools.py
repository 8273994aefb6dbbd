"""What a tool or a retriever of LangChain's gave back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from converra.integrations.langchain.messages import read
from converra.integrations.payload.fields import copied, fields, items, string

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converra.history.turn import SourceMessage
    from converra.integrations.langchain.runs import ToolRun


def results(output: Any, tool: ToolRun) -> list[SourceMessage]:
    """The answers to the call that a tool ran for, with its latency; a run that no model asked for has none."""
    return [
        msgspec.structs.replace(source, latency_ms=tool.milliseconds(), name=source.name or tool.name)
        for message in tool_messages(output)
        for source in read(message)
        if source.call_id is not None and tool.call_id in (None, source.call_id)
    ]


def tool_messages(output: Any) -> Iterator[Any]:
    """The tool messages in whatever a tool or a node returned: a message, a state, a LangGraph Command, a list."""
    own = fields(output)
    if own.get("type") == "tool":
        yield output
        return
    for one in items(output) or items(own.get("messages")):
        yield from tool_messages(one)
    update = None if own else getattr(output, "update", None)  # of a Command, which has slots
    if isinstance(update, dict | list | tuple):
        yield from tool_messages(update)


def described(documents: Any) -> list[dict[str, Any]]:
    """Retrieved documents as `metadata.documents` lists them: id, content, and the source's own metadata."""
    found = []
    for document in map(fields, items(documents)):
        record = {
            "id": string(document.get("id")),
            "content": string(document.get("page_content")),
            "metadata": copied(document.get("metadata")),
        }
        found.append({key: value for key, value in record.items() if value})
    return found
