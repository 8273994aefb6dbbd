"""The types of what `converra` takes and gives, for annotations.

==================================================  ==============================================================
`Message`, `ToolCall`, `Usage`, `MessageParam`,     messages that you pass in, as objects or as dicts
`UsageParam`
`StoredConversation`, `StoredMessage`,              results of the client
`StoredToolCall`, `StoredUsage`, `Insights`,
`Page`, `AsyncPage`, `AsyncPages`, `Pagination`
`Report`, `Stats`                                   results of `converra.instrument()` and `converra.stats()`
`Transcript`                                        the result of `converra.transcript.parse()`
`APIResponse`, `APIRequest`                         the response behind a result or an error of the client
`Role`, `Status`, `AppendStatus`                    the values of a message's role and a conversation's status
==================================================  ==============================================================

Example::

    from converra.types import StoredConversation

    def words(conversation: StoredConversation) -> int:
        return sum(len(message.content.split()) for message in conversation.messages)
"""

from __future__ import annotations

from converra.api.operations import AppendStatus
from converra.api.pages import AsyncPage, AsyncPages, Page
from converra.api.results import (
    Insights,
    Pagination,
    StoredConversation,
    StoredMessage,
    StoredToolCall,
    StoredUsage,
)
from converra.capture.reports import Report
from converra.delivery.stats import Stats
from converra.errors import APIRequest, APIResponse
from converra.transcript import Transcript
from converra.wire.models import Message, MessageParam, Role, Status, ToolCall, Usage, UsageParam

__all__ = [
    "APIRequest",
    "APIResponse",
    "AppendStatus",
    "AsyncPage",
    "AsyncPages",
    "Insights",
    "Message",
    "MessageParam",
    "Page",
    "Pagination",
    "Report",
    "Role",
    "Stats",
    "Status",
    "StoredConversation",
    "StoredMessage",
    "StoredToolCall",
    "StoredUsage",
    "ToolCall",
    "Transcript",
    "Usage",
    "UsageParam",
]
