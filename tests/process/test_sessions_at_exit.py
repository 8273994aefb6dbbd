"""Which conversations are completed when a process ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests import warm
from tests.integrations.langchain_app import brief

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

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
    code = THREAD.format(url=server.openai_url) + end
    ended = start(code, modules=warm.LIBRARIES, HANDLE_SIGTERM="1").ended()
    assert "converra" not in ended.err
    assert stored(server) == [("completed", [("user", "[[say:Hi]]"), ("assistant", "Hi")])]


def test_a_session_that_is_kept_open(server: LocalServer, start: Callable[..., Any]) -> None:
    """A block's session that was kept open is not: another process may go on with it."""
    start(KEPT).ended()
    assert stored(server) == [("active", [("user", "Hi"), ("assistant", "Ho")])]


LATE = """
import converra, openai
client = openai.OpenAI(base_url={url!r}, api_key="none")
history = []
def ask(word):
    history.append({{"role": "user", "content": f"[[say:{{word}}]]"}})
    answer = client.chat.completions.create(model="gpt-4o", messages=history).choices[0].message
    history.append({{"role": "assistant", "content": answer.content}})
def late():
    ask("later")
    ask("last")
{late}
converra.instrument(prompt_id="prompt")
ask("first")
"""
HANDLER = "atexit.register(late)  # before converra's handler, so it is called after that"
DAEMON = """
exiting, done = threading.Event(), threading.Event()
def waiting():
    exiting.wait()
    late()
    done.set()
def wait():
    exiting.set()
    assert done.wait(LONG)
threading.Thread(target=waiting, daemon=True).start()
atexit.register(wait)
"""


@pytest.mark.parametrize("outbox", [None, "file"])
@pytest.mark.parametrize("how", [HANDLER, DAEMON], ids=["an exit handler", "a daemon thread"])
def test_a_chat_that_continues_while_the_process_exits(
    how: str, outbox: str | None, server: LocalServer, start: Callable[..., Any], tmp_path: Path
) -> None:
    """What is recorded after the open conversations were completed is in one that names the one it continues."""
    settings = {} if outbox is None else {"OUTBOX": str(tmp_path / "outbox")}
    code = LATE.format(url=server.openai_url, late=how)
    ended = start(code, modules=warm.OPENAI, **settings).ended()
    assert (ended.status, ended.err) == (0, "")
    found, _ = server.store.conversations(limit=9)
    following = {one.metadata.get("continues"): one for one in found}
    chain, before = [], None
    while before in following:
        one = following[before]
        chain.append((one.status, [m["content"] for m in server.store.messages(one) if m["role"] != "system"]))
        before = one.id
    assert chain == [("completed", [f"[[say:{word}]]", word]) for word in ("first", "later", "last")]
