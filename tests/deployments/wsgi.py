"""What the tests of gunicorn and uWSGI share: an app, the servers that run it, and what arrived of it."""

from __future__ import annotations

import collections
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from converra.server.run import LocalServer, serve
from tests.delivery.harness import held

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

APP = """
import os, time
import converra

{before}
converra.instrument()

def talk(name, turns=2):
    with converra.conversation("prompt") as conversation:
        for number in range(turns):
            conversation.add_message("user", f"question {{name}}.{{number}}")
            time.sleep(0.002)
            conversation.add_message("assistant", f"answer {{name}}.{{number}}", latency_ms=1.0)

def application(environ, start_response):
    talk(environ["PATH_INFO"].strip("/"))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]

async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({{"type": f"{{kind}}.complete"}})
            if kind == "lifespan.shutdown":
                converra.shutdown()
                return
    talk(scope["path"].strip("/"))
    await send({{"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}})
    await send({{"type": "http.response.body", "body": str(os.getpid()).encode()}})

{after}
"""

FILL = """
import converra
converra.instrument(base_url="http://127.0.0.1:9/api/v1", shutdown_timeout=0.1)
for number in range({count}):
    with converra.conversation("prompt") as conversation:
        for turn in range(2):
            conversation.add_message("user", f"question old-{{number}}.{{turn}}")
            conversation.add_message("assistant", f"answer old-{{number}}.{{turn}}", latency_ms=1.0)
"""


class Deployment:
    """A WSGI server with the app, against a local server of the API."""

    def __init__(self, api: LocalServer, directory: Path) -> None:
        self.api = api
        self.outbox = directory / "outbox.sqlite3"
        self._directory = directory
        self._log = directory / "server.log"
        self._running: subprocess.Popen[bytes] | None = None
        self.port = _free_port()
        self.first = 0
        """The process that has served the first request."""
        self.settings = {"API_KEY": "k", "BASE_URL": api.base_url, "FLUSH_INTERVAL": "0.3", "TIMEOUT": "5"}
        self.settings["SHUTDOWN_TIMEOUT"] = "20"
        self.write()

    def write(self, before: str = "", after: str = "") -> None:
        """Write the app, with lines of its own before `instrument()` and at the end."""
        app = APP.format(before=textwrap.dedent(before), after=textwrap.dedent(after))
        (self._directory / "shop.py").write_text(app)

    @property
    def log(self) -> str:
        """What the server has written."""
        return self._log.read_text(errors="replace")

    def fill(self, count: int) -> None:
        """Leave conversations in the outbox file, and have the app use it."""
        self.settings["OUTBOX"] = str(self.outbox)
        subprocess.run(
            [sys.executable, "-c", FILL.format(count=count)],
            env=self._environ(),
            check=True,
            stderr=subprocess.DEVNULL,
        )

    def gunicorn(self, *options: str) -> None:
        """Start gunicorn."""
        self._start(str(BIN / "gunicorn"), "-b", f"127.0.0.1:{self.port}", "--graceful-timeout", "25", *options)

    def uwsgi(self, *options: str) -> None:
        """Start uWSGI, so that SIGTERM stops it."""
        python = ("--home", sys.prefix, "--pythonpath", str(self._directory), "--pythonpath", str(ROOT))
        address = ("--http-socket", f"127.0.0.1:{self.port}", "--die-on-term", "--worker-reload-mercy", "25")
        self._start(str(BIN / "uwsgi"), *address, *python, "--module", "shop", "--need-app", *options)

    def _start(self, *command: str) -> None:
        with self._log.open("ab") as log:
            self._running = subprocess.Popen(
                command, cwd=self._directory, env=self._environ(), stdout=log, stderr=log, start_new_session=True
            )
        self.first = self.get("warm", within=30)

    def _environ(self) -> dict[str, str]:
        path = os.pathsep.join([str(self._directory), str(ROOT), os.environ.get("PYTHONPATH", "")])
        own = {f"CONVERRA_{name}": value for name, value in self.settings.items()}
        return {**os.environ, **own, "PYTHONPATH": path, "OPENAI_BASE_URL": self.api.openai_url}

    def get(self, path: str, *, within: float = 20) -> int:
        """Make a request; returns the process that served it. Waits for a server that is just starting."""
        until = time.monotonic() + within
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=20) as answer:
                    return int(answer.read())
            except OSError:
                assert self._running is not None
                if self._running.poll() is not None or time.monotonic() > until:
                    raise AssertionError(self.log) from None
                time.sleep(0.1)

    def talk(self, name: str, count: int) -> set[int]:
        """Make requests, several at a time; returns the processes that served them."""
        with ThreadPoolExecutor(4) as pool:
            return set(pool.map(self.get, numbered(name, count)))

    def signal(self, number: int) -> None:
        """Send a signal to the main process."""
        assert self._running is not None
        self._running.send_signal(number)

    def stop(self) -> None:
        """Stop the server as a deployment does, and wait for all of its processes.

        A moment after the last answer: uWSGI runs no exit functions in a worker that is busy with a request.
        """
        time.sleep(0.5)
        self.signal(signal.SIGTERM)
        assert self._running is not None
        self._running.wait(40)

    def kill(self) -> None:
        """Leave nothing behind."""
        if self._running is not None:
            try:
                os.killpg(self._running.pid, signal.SIGKILL)
            except ProcessLookupError:
                return
            self._running.wait(10)

    def arrived(self, *names: str) -> dict[str, list[str]]:
        """What is wrong with what arrived, where conversations of these names are expected; see `problems`."""
        return problems(self.api, ("warm", *names))


NOTHING: dict[str, list[str]] = {"mixed": [], "twice": [], "lost": [], "open": []}


def numbered(name: str, count: int) -> list[str]:
    """The names of conversations."""
    return [f"{name}-{number}" for number in range(count)]


def problems(api: LocalServer, names: Iterable[str]) -> dict[str, list[str]]:
    """Find words of two conversations in one, words that came twice, lost ones, and conversations that are open."""
    heard: collections.Counter[str] = collections.Counter()
    found: dict[str, list[str]] = {"mixed": [], "open": []}
    for conversation in held(api):
        told = [word for word in conversation.words if word != "Conversation ended."]
        heard.update(told)
        if len({word.split()[1].partition(".")[0] for word in told}) > 1:
            found["mixed"].append(str(told))
        if conversation.status != "completed":
            found["open"].append(str(told))
    expected = {f"{kind} {name}.{turn}" for kind in ("question", "answer") for name in names for turn in range(2)}
    found["twice"] = sorted(word for word, times in heard.items() if times > 1)
    found["lost"] = sorted(expected - heard.keys())
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    """A server that is not started yet."""
    with serve() as api:
        api.faults.add("any", "delay", times=None, seconds=0.02)
        made = Deployment(api, tmp_path)
        yield made
        made.kill()


def eventually(condition: Callable[[], Any], seconds: float = 20) -> bool:
    """Wait for something that another process does."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True
