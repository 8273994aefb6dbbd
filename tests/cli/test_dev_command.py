"""`converra dev -- COMMAND`: an app is run as it is, and its conversations are here."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

import pytest
from click.testing import CliRunner

from converra.cli import child
from converra.cli.group import commands
from converra.server.store.conversations import Store
from tests.patience import LONG, UNHURRIED

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ASK = """
import sys
from openai import OpenAI

def ask(question):
    completion = OpenAI().chat.completions.create(model="m", messages=[{"role": "user", "content": question}])
    return completion.choices[0].message.content
"""


class Ran(NamedTuple):
    """How the command ended, and what it left."""

    status: int
    out: str
    err: str
    kept: list[tuple[str, list[str]]]
    """Prompt and contents of each conversation, oldest first."""


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Ran]:
    """Run `converra dev` with a program in a folder of its own."""

    def ran(program: str, *options: str, command: tuple[str, ...] = (sys.executable, "app.py")) -> Ran:
        (tmp_path / "ask.py").write_text(ASK)
        (tmp_path / "app.py").write_text(textwrap.dedent(program))
        line = [sys.executable, "-m", "converra", "dev", "--port", "0", "--db", "kept.db", *options, "--", *command]
        environ = os.environ | UNHURRIED
        ended = subprocess.run(
            line, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False, timeout=LONG
        )
        return Ran(ended.returncode, ended.stdout, ended.stderr, kept(tmp_path / "kept.db"))

    return ran


def kept(path: Path) -> list[tuple[str, list[str]]]:
    with closing(Store(path)) as store:
        found, _ = store.conversations(limit=100)
        return [(c.prompt_id, [m["content"] for m in store.messages(c)]) for c in reversed(found)]


def test_an_app_is_recorded_as_it_is(run: Callable[..., Ran]) -> None:
    """Without a change of its code, a key or a network: a line for each turn, its own output and its exit status."""
    ran = run("import sys\nfrom ask import ask\nprint(ask('[[say:Hello!]]'))\nsys.exit(3)", "--fake-llm")
    assert (ran.status, ran.out) == (3, "Hello!\n")
    assert ran.kept == [("dev", ["[[say:Hello!]]", "Hello!"])]
    lines = ran.err.splitlines()
    assert re.fullmatch(r"converra dev: conversations of this command are at http://127\.0\.0\.1:\d+", lines[0])
    assert re.fullmatch(r"dev \w{4}       user  \[\[say:Hello!\]\]", lines[1])
    assert re.fullmatch(r"dev \w{4}  assistant  Hello!  \(m-stand-in · \d+ tokens in, \d+ out · \d+ ms\)", lines[2])
    assert re.fullmatch(r"dev \w{4}  completed", lines[3])
    assert lines[4:] == []


def test_programs_can_read_the_turns(run: Callable[..., Ran]) -> None:
    """As JSON on standard error: first the addresses, then an object for each turn and one for the end."""
    first, *turns = map(
        json.loads, run("from ask import ask\nask('[[say:Hi!]]')", "--fake-llm", "--json").err.splitlines()
    )
    assert (first["db"], first["api"]) == ("kept.db", f"{first['viewer']}/api/v1")
    assert [turn.get("message", {}).get("content") for turn in turns] == ["[[say:Hi!]]", "Hi!", None]
    assert turns[-1] == {"conversationId": turns[0]["conversationId"], "promptId": "dev", "status": "completed"}


def test_pytest_and_its_child_processes_are_recorded(run: Callable[..., Ran], tmp_path: Path) -> None:
    """Whatever the command starts, and whatever `sitecustomize` of its own there is: it runs, too."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "sitecustomize.py").write_text("import os\nos.environ['CUSTOMIZED'] = __name__")
    (tmp_path / "test_app.py").write_text(
        "import os, subprocess, sys\nfrom ask import ask\n\n"
        "def test_it():\n"
        "    assert os.environ['CUSTOMIZED'] == sys.modules['sitecustomize'].__name__ == 'sitecustomize'\n"
        "    assert not any(path.endswith('hook') for path in sys.path)\n"
        "    ask('[[say:parent]]')\n"
        "    subprocess.run([sys.executable, '-c', 'from ask import ask; ask(\"[[say:child]]\")'], check=True)\n"
    )
    environ = {"PYTHONPATH": os.pathsep.join((str(tmp_path / "own"), os.environ["PYTHONPATH"]))}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", environ["PYTHONPATH"])
        patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        options = ("-m", "pytest", "-q", "-p", "converra.testing", "-p", "no:cacheprovider", "-W", "error")
        ran = run("", "--fake-llm", "--prompt-id", "prompt_tests", command=(sys.executable, *options))
    assert (ran.status, ran.out.splitlines()[-1].startswith("1 passed")) == (0, True), ran.out
    said = sorted(contents[1] for prompt, contents in ran.kept if prompt == "prompt_tests")
    assert said == ["child", "parent"]


def test_what_the_app_has_set_stays(run: Callable[..., Ran]) -> None:
    """An app that calls `instrument()` itself keeps its own prompt and redaction; its other settings stay, too."""
    ran = run(
        """
        import converra
        converra.instrument("prompt_mine", redact=lambda m: m | {"content": m["content"].upper()})
        from ask import ask
        ask("[[say:hello]]")
        """,
        "--fake-llm",
    )
    assert ran.kept == [("prompt_mine", ["[[SAY:HELLO]]", "HELLO"])]


def test_an_app_without_a_model_costs_nothing(run: Callable[..., Ran]) -> None:
    """Nothing of ours is imported where there is nothing to capture."""
    ran = run("import sys, json\nprint([m for m in sys.modules if m.partition('.')[0] in ('converra', 'wrapt')])")
    assert (ran.status, ran.out, ran.kept) == (0, "[]\n", [])


def test_a_python_without_converra_is_told_of(tmp_path: Path) -> None:
    """The app runs all the same."""
    (tmp_path / "openai.py").write_text("name = 'openai'")
    (tmp_path / "converra.py").write_text("raise ImportError('no converra here')")
    environ = os.environ | {
        "PYTHONPATH": os.pathsep.join((str(child.HOOK), str(tmp_path))),
        "CONVERRA_DEV_MODULES": "openai",
    }
    program = "import openai; print(openai.name)"
    ended = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True)
    assert ended.stdout == "openai\n"
    assert ended.stderr.startswith(f"converra dev: {sys.executable} cannot import converra, nothing is recorded: ")


WAITS = """
import signal, sys, time
signal.signal(signal.{name}, lambda *_: sys.exit(7))
print("ready", flush=True)
time.sleep(120)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_signals_reach_the_command(tmp_path: Path, name: str) -> None:
    """They are passed on, and the command decides how to end."""
    line = [sys.executable, "-m", "converra", "dev", "--port", "0", "--db", ":memory:"]
    program = WAITS.format(name=name)
    with subprocess.Popen(
        [*line, "--", sys.executable, "-c", program],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(getattr(signal, name))
        assert process.wait(LONG) == 7


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (["sh", "-c", "kill -KILL $$"], 128 + signal.SIGKILL),
        (["no-such-command-anywhere"], 127),
        (["/"], 126),
    ],
)
def test_other_ends(command: list[str], status: int) -> None:
    """As a shell says them: 128 + n for signal n, 127 for no such command, 126 for one that cannot be run."""
    ran = CliRunner().invoke(commands, ["dev", "--port", "0", "--db", ":memory:", "--", *command])
    assert ran.exit_code == status
    if status < 128:
        assert ran.output.splitlines()[-1].startswith(f"converra dev: cannot run {command[0]}: ")


def test_a_command_at_a_taken_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for by number: an error. Not asked for: a free one instead."""
    from converra.cli.commands import dev as dev_module
    from converra.server.run import listen

    with closing(listen(0)) as taken:
        port = taken.getsockname()[1]
        ran = CliRunner().invoke(commands, ["dev", "--port", str(port), "--db", ":memory:", "--", "true"])
        monkeypatch.setattr(dev_module, "PORT", port)
        free = CliRunner().invoke(commands, ["dev", "--db", ":memory:", "--", "true"])
    expected = f"Error: port {port} cannot be used: Address already in use; --port 0 takes a free one\n"
    assert (ran.exit_code, ran.output) == (1, expected)
    assert (free.exit_code, f":{port}\n" in free.output) == (0, False)


def test_options_of_a_command_need_one() -> None:
    """Said before anything is served."""
    ran = CliRunner().invoke(commands, ["dev", "--fake-llm"])
    assert ran.exit_code == 2
    assert "--fake-llm and --prompt-id are for a command" in ran.output


def test_the_environment_of_a_command() -> None:
    """Everything that would lead its conversations elsewhere is gone; what it had of its own stays."""
    before = {
        "HOME": "/h",
        "PYTHONPATH": "/mine",
        "NO_PROXY": "internal",
        "CONVERRA_API_KEY": "real",
        "CONVERRA_BASE_URL": "https://example.org",
        "CONVERRA_PROMPT_ID": "prompt_env",
        "CONVERRA_OUTBOX": "/outbox",
        "CONVERRA_ENABLED": "false",
        "CONVERRA_SAMPLE_RATE": "0.1",
        "CONVERRA_SILENCED": "pytest",
        "CONVERRA_FLUSH_INTERVAL": "9",
        "OPENAI_API_KEY": "real",
    }
    after = child.environment(before, base_url="http://here", openai_url=None, prompt_id=None)
    modules = after.pop("CONVERRA_DEV_MODULES").split(",")
    assert "openai" in modules
    assert after == {
        "HOME": "/h",
        "PYTHONPATH": f"{child.HOOK}{os.pathsep}/mine",
        "NO_PROXY": "internal,127.0.0.1",
        "no_proxy": "127.0.0.1",
        "CONVERRA_API_KEY": "dev",
        "CONVERRA_BASE_URL": "http://here",
        "CONVERRA_PROMPT_ID": "prompt_env",
        "CONVERRA_FLUSH_INTERVAL": "9",
        "CONVERRA_PYTEST_SEND": "1",
        "OPENAI_API_KEY": "real",
    }
    faked = child.environment({}, base_url="http://here", openai_url="http://model", prompt_id="p")
    assert (faked["OPENAI_BASE_URL"], faked["OPENAI_API_KEY"]) == ("http://model", "dev")
    assert (faked["CONVERRA_PROMPT_ID"], faked["PYTHONPATH"]) == ("p", str(child.HOOK))


def test_at_a_terminal_keys_reach_the_command_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is not passed on a second time there; what others send is."""
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, lambda *_: sys.exit(7)); "
        "import os, time; os.kill(os.getppid(), signal.SIGINT); time.sleep(0.3); "
        "signal.signal(signal.SIGUSR1, lambda *_: sys.exit(8)); os.kill(os.getppid(), signal.SIGUSR1); time.sleep(120)"
    )
    monkeypatch.setattr(os, "tcgetpgrp", lambda _: os.getpgrp())
    status = child.run([sys.executable, "-S", "-c", program], os.environ, lambda: None)
    assert status == 8
