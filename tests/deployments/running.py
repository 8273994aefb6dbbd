"""Runs the programs of these tests, and reads what arrived of their conversations."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from converra.server.run import LocalServer

BIN = Path(sys.executable).parent
SECONDS = 40.0
"""Longest wait for anything, on a busy machine."""


def wait_for(condition: Callable[[], Any], what: Callable[[], str] = lambda: "waited in vain") -> Any:
    """Wait until a condition holds, and return its value."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(what())


class Program:
    """A server or worker in a process group of its own; what it prints goes to a file."""

    def __init__(self, command: Iterable[str], folder: Path, environ: dict[str, str]) -> None:
        self._log = folder / f"{len(list(folder.glob('*.log')))}.log"
        name, *arguments = command
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [str(BIN / name) if (BIN / name).exists() else name, *arguments],
                cwd=folder,
                env=environ,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        """What it has printed."""
        return self._log.read_text()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def says(self, words: str, times: int = 1) -> Program:
        """Wait until it has printed something so often."""

        def said() -> bool:
            assert self._process.poll() is None or self.log.count(words) >= times, self.log
            return self.log.count(words) >= times

        wait_for(said, lambda: self.log)
        return self

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, wait for the end, and return the exit status."""
        self._process.send_signal(number)
        return self.ended()

    def ended(self) -> int:
        """Wait for the end, and return the exit status."""
        try:
            return self._process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(self.log) from None

    def kill(self) -> None:
        """Kill it and all its children; it may have ended already."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()


class Deployment:
    """A folder with an app, a Conversations API with a stand-in model, and the settings of both."""

    def __init__(self, server: LocalServer, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self._programs: list[Program] = []

    def write(self, name: str, source: str) -> None:
        """Write a module of the app."""
        (self.folder / name).write_text(textwrap.dedent(source))

    def environ(self, **settings: Any) -> dict[str, str]:
        """The settings as a user would give them: nothing is sent before the end because of time."""
        given = {"API_KEY": "k", "BASE_URL": self.server.base_url, "FLUSH_INTERVAL": "600", "SHUTDOWN_TIMEOUT": "20"}
        own = {f"CONVERRA_{name}": str(value) for name, value in {**given, **settings}.items()}
        model = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": self.server.openai_url}
        path = os.pathsep.join([str(self.folder), os.environ.get("PYTHONPATH", "")])
        return {**os.environ, **model, **own, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}

    def start(self, *command: str, **settings: Any) -> Program:
        """Run a program of the environment in the folder."""
        program = Program(command, self.folder, self.environ(**settings))
        self._programs.append(program)
        return program

    def run(self, source: str, **settings: Any) -> None:
        """Run a few lines of Python to their end."""
        self.write("lines.py", source)
        program = self.start("python", "lines.py", **settings)
        assert program.ended() == 0, program.log

    def kill(self) -> None:
        """Leave nothing behind."""
        for program in self._programs:
            program.kill()

    def arrived(self) -> list[Talk]:
        """All conversations that arrived, oldest first."""
        found, _ = self.server.store.conversations(limit=1000)
        ended = Counter(map(_completed, self.server.requests))
        return [
            Talk(c.status, ended[c.id], tuple(m["content"] for m in self.server.store.messages(c)))
            for c in reversed(found)
        ]


class Talk(NamedTuple):
    """One conversation as the API holds it."""

    status: str
    completions: int
    words: tuple[str, ...]


def talk(*numbers: int) -> Talk:
    """A completed conversation with these turns: see `APP`."""
    words = [word for n in numbers for word in (f"[[say:answer {n}]]", f"answer {n}")]
    return Talk("completed", 1, tuple(words))


def _completed(request: Any) -> str | None:
    """The id of the conversation that a request completes."""
    if request.method != "POST" or "/conversations/" not in request.path or request.status != 200:
        return None
    completes = msgspec.json.decode(request.body).get("status") == "completed"
    return str(request.path.split("/")[-2]) if completes else None


APP = """
import converra
from openai import OpenAI

converra.instrument("prompt")


def speak(*numbers):
    '''Hold a chat, each turn with all that came before, as a chat API wants it.'''
    history = []
    with OpenAI(max_retries=0) as client:
        for n in numbers:
            history.append({"role": "user", "content": f"[[say:answer {n}]]"})
            answer = client.chat.completions.create(model="m", messages=history)
            history.append({"role": "assistant", "content": answer.choices[0].message.content})


def speak_in_a_block(*numbers):
    with converra.conversation("prompt"):
        speak(*numbers)
"""
"""What every app here is made of: chats outside of any block, and in one."""
