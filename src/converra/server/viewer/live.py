"""Server-sent events: a page that is open learns what has changed, and asks for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.responses import StreamingResponse

from converra.server.store.changes import DRAFTS, ELSEWHERE, REQUESTS, WEBHOOKS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterator

    from starlette.requests import Request
    from starlette.responses import Response

    from converra.server.store.conversations import Store

_LOOK_SECONDS = 1.0
"""Seconds between polls for changes by other processes."""

_APART = (REQUESTS, WEBHOOKS, DRAFTS)
_PAUSE_SECONDS = 0.05
"""Between two events of a stream: changes in between are sent together."""


async def live(request: Request) -> Response:
    """GET /live: an event for `conversations`, `requests` and `webhooks` as they change.

    With `conversation` only that one's changes, as `changed`, and `draft` while the stand-in model speaks.
    `seen` is the version that the page shows; later changes are sent first.
    """
    store: Store = request.app.state.store
    seen, conversation = request.query_params.get("seen"), request.query_params.get("conversation")
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return StreamingResponse(_events(store, seen, conversation), 200, headers, "text/event-stream")


async def _events(store: Store, seen: str | None, conversation: str | None) -> AsyncIterator[bytes]:
    with store.changes.listening() as listener:
        topics: Collection[str] = [] if seen == store.changes.version else [conversation or "", *_APART]
        yield b"retry: 500\n\n"
        while not listener.closed:
            for name in _names(topics, conversation):
                yield f"event: {name}\ndata: -\n\n".encode()
            if topics:
                await asyncio.sleep(_PAUSE_SECONDS)
            topics = await listener.next(_LOOK_SECONDS)
            if not topics:
                store.poll_changes()
                yield b": still here\n\n"


def _names(topics: Collection[str], conversation: str | None) -> Iterator[str]:
    """The events that tell of some topics; of a page for one conversation, that one only."""
    if conversation is not None:
        if conversation in topics or ELSEWHERE in topics:
            yield "changed"
        if DRAFTS in topics:
            yield "draft"
        return
    if any(topic not in _APART for topic in topics):
        yield "conversations"
    yield from (topic for topic in (REQUESTS, WEBHOOKS) if topic in topics)
