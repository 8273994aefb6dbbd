"""The example of a web app, with two worker processes: what many browsers say at once is recorded as they said it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import msgspec
import pytest

from converra.server.run import LocalServer, serve
from tests.markdown import ROOT
from tests.patience import LONG, UNHURRIED

if TYPE_CHECKING:
    from collections.abc import Iterator

SESSIONS, TURNS = 50, 3
SYSTEM = "You are the support assistant of a shop for tents."


@contextlib.contextmanager
def running(server: LocalServer) -> Iterator[str]:
    """The address of the app, run as its docstring says, until it is told to end and has."""
    environment = os.environ | {
        **UNHURRIED,
        "CONVERRA_BASE_URL": server.base_url,
        "CONVERRA_API_KEY": "examples",
        "OPENAI_BASE_URL": server.openai_url,
        "OPENAI_API_KEY": "examples",
    }
    command = ["uvicorn", "web_app:app", "--app-dir", "examples", "--workers", "2", "--port", "0"]
    with subprocess.Popen(
        [sys.executable, "-m", *command], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    ) as app:
        assert app.stderr is not None
        log: list[str] = []
        try:
            while sum("startup complete" in line for line in log) < 2:  # both workers
                log.append(app.stderr.readline())
                assert log[-1], "".join(log)
            yield re.findall(r"http://127\.0\.0\.1:\d+", "".join(log))[0]
        finally:
            app.send_signal(signal.SIGTERM)
            log.append(app.communicate(timeout=LONG)[1])
    assert [line for line in "".join(log).splitlines() if "INFO" not in line] == []


class Browser:
    """One browser's session. It comes back over a new connection each time, so to whichever worker takes it."""

    def __init__(self, url: str, number: int) -> None:
        self.url = url
        self.session = f"session_{number}"
        self.history: list[dict[str, str]] = []

    async def post(self, path: str, **data: Any) -> str:
        async with httpx.AsyncClient(timeout=LONG) as client:
            response = await client.post(f"{self.url}/{path}", json={"session": self.session, **data})
            return response.raise_for_status().text

    async def chat(self) -> None:
        """The same words as in all the other sessions, twice the same, and an end."""
        for words in ["yes", "yes", *(f"turn {n}" for n in range(2, TURNS))]:
            self.history.append({"role": "user", "content": f"[[say:You said {words}.]]"})
            self.history.append({"role": "assistant", "content": await self.post("chat", history=self.history)})
            assert self.history[-1]["content"] == f"You said {words}."
        assert await self.post("end") == "Goodbye."


class Recorded(NamedTuple):
    """What the app left with the API after all sessions."""

    server: LocalServer
    browsers: list[Browser]


@pytest.fixture(scope="module")
def recorded() -> Iterator[Recorded]:
    """One run of the app for all that is promised of it."""
    with serve() as server:
        with running(server) as url:
            browsers = [Browser(url, number) for number in range(SESSIONS)]

            async def all_at_once() -> None:
                await asyncio.gather(*[browser.chat() for browser in browsers])

            asyncio.run(all_at_once())
        yield Recorded(server, browsers)


def test_each_session_is_one_conversation_with_every_turn_once(recorded: Recorded) -> None:
    """Fifty sessions at once over two processes: fifty conversations, each as its browser has it, in order."""
    found, count = recorded.server.store.conversations(limit=1000)
    held = {c.metadata["sessionId"]: _words(recorded.server, c) for c in found}
    assert count == SESSIONS
    said = {b.session: [("system", SYSTEM), *((m["role"], m["content"]) for m in b.history)] for b in recorded.browsers}
    assert held == {session: [*talk, ("system", "Conversation ended.")] for session, talk in said.items()}


def test_each_session_is_completed_once(recorded: Recorded) -> None:
    """By whichever worker was asked to: `completed` triggers an analysis."""
    found, _ = recorded.server.store.conversations(limit=1000)
    assert Counter(c.status for c in found) == Counter(completed=SESSIONS)
    sent = [r for r in recorded.server.requests if r.path.endswith("/messages") and b'"completed"' in r.body]
    completing = [r.path for r in sent if msgspec.json.decode(r.body).get("status") == "completed"]
    assert Counter(completing) == Counter(f"/api/v1/conversations/{c.id}/messages" for c in found)


def test_sessions_moved_between_the_workers(recorded: Recorded) -> None:
    """What is promised here is promised of processes that share nothing but the API."""
    found, _ = recorded.server.store.conversations(limit=1000)
    writers = [sum(name.startswith("sdkDelivered.") for name in c.metadata) for c in found]
    assert sum(count == 2 for count in writers) > SESSIONS / 4


def test_a_session_id_that_can_never_work_is_refused() -> None:
    """It comes from outside: the browser hears of it, and the app goes on."""
    with serve() as server, running(server) as url:
        for path in ("chat", "end"):
            refused = httpx.post(f"{url}/{path}", json={"session": "a\nb", "history": []}, timeout=LONG)
            assert (refused.status_code, "session_id" in refused.text) == (400, True)
        assert "<title>Tents</title>" in httpx.get(url, timeout=LONG).text
        assert server.store.conversations()[1] == 0


def _words(server: LocalServer, conversation: Any) -> list[tuple[str, str]]:
    return [(m["role"], m["content"]) for m in server.store.messages(conversation)]
