"""Conversations that a test holds, as the local API has stored them: without ids and times."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from converra.capture.recorder import Recorder
from converra.config import load
from tests.patience import LONG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from converra.server.run import LocalServer

FACTS = ("model", "tokens", "usage", "toolCalls")
NOT_COMPARED = ("messageId", "timeToFirstTokenMs")


@contextlib.contextmanager
def recorder_for(server: LocalServer, **settings: Any) -> Iterator[Recorder]:
    """Yield an instrumented recorder that delivers to the server when it is flushed or shut down."""
    defaults = {"api_key": "k", "base_url": server.base_url, "flush_interval": 3600, "timeout": LONG}
    recorder = Recorder(load({**defaults, **settings}, {}))
    recorder.instrument()
    try:
        yield recorder
    finally:
        recorder.uninstrument()
        assert recorder.shutdown(LONG)


def stored(
    server: LocalServer, recorder: Recorder, talk: Callable[[], Any], *, answered: bool = True
) -> list[dict[str, Any]]:
    """Run `talk` in a conversation, and return the messages that the API holds of it then."""
    with recorder.conversation("prompt_1") as conversation:
        talk()
    assert recorder.flush(timeout=LONG)
    found = server.store.find(None, conversation.id or "")
    assert found is not None
    assert found.status == ("completed" if answered else "abandoned")
    return [bare(message) for message in server.store.messages(found)]


def bare(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message without ids and times."""
    assert message.get("latencyMs", 1) >= 0
    record = {name: message[name] for name in ("role", "content", *FACTS) if message.get(name) is not None}
    metadata = {k: v for k, v in (message.get("metadata") or {}).items() if k not in NOT_COMPARED}
    return record | ({"metadata": metadata} if metadata else {})
