"""Which conversations are completed when a process ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.integrations.langchain_app import brief

if TYPE_CHECKING:
    from collections.abc import Callable

    from converra.server.run import LocalServer

THREAD = """
import converra
from langchain_openai import ChatOpenAI
converra.instrument(prompt_id="prompt")
model = ChatOpenAI(model="gpt-4o", base_url={url!r}, api_key="none")
model.invoke("[[say:Hi]]", {{"metadata": {{"thread_id": "t"}}}})
"""
KEPT = """
import converra
converra.instrument()
with converra.conversation("prompt", session_id="s", keep_open=True) as conversation:
    conversation.add_message("user", "Hi")
    conversation.add_message("assistant", "Ho")
"""
SIGTERM = "\nos.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(LONG)"


def stored(server: LocalServer) -> list[Any]:
    """Status and words of every conversation."""
    found, _ = server.store.conversations(limit=9)
    return [(one.status, [message[:2] for message in brief(server.store.messages(one))]) for one in found]


@pytest.mark.parametrize("end", ["", SIGTERM], ids=["falls off the end", "SIGTERM"])
def test_an_open_thread_at_exit(end: str, server: LocalServer, start: Callable[..., Any]) -> None:
    """The session of a framework is completed when the process ends: no other one knows that it is open."""
    ended = start(THREAD.format(url=server.openai_url) + end, HANDLE_SIGTERM="1").ended()
    assert "converra" not in ended.err
    assert stored(server) == [("completed", [("user", "[[say:Hi]]"), ("assistant", "Hi")])]


def test_a_session_that_is_kept_open(server: LocalServer, start: Callable[..., Any]) -> None:
    """A block's session that was kept open is not: another process may go on with it."""
    start(KEPT).ended()
    assert stored(server) == [("active", [("user", "Hi"), ("assistant", "Ho")])]
