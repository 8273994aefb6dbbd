"""`converra run -- COMMAND`: an app is recorded to the API of its settings, without a change of its code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

from converra.cli import launch
from converra.errors import InvalidArgumentError
from converra.server.run import serve
from tests import warm
from tests.cli.test_dev_command import ASK, OPENAI
from tests.patience import LONG, UNHURRIED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from converra.server.run import LocalServer

RUN = [sys.executable, "-m", "converra", "run"]


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with serve() as running:
        yield running


def settings(server: LocalServer, **more: str) -> dict[str, str]:
    """The environment of a command that has a key for the server, and its model."""
    return {
        **os.environ,
        **UNHURRIED,
        "CONVERRA_BASE_URL": server.base_url,
        "CONVERRA_API_KEY": "real",
        "CONVERRA_PROMPT_ID": "prompt_env",
        "OPENAI_BASE_URL": server.openai_url,
        "OPENAI_API_KEY": "x",
        "GROQ_BASE_URL": f"{server.url}/",
        "GROQ_API_KEY": "x",
        **more,
    }


def ran(command: Sequence[str], environ: dict[str, str], **more: Any) -> subprocess.CompletedProcess[str]:
    return warm.run(
        [*RUN, *command], env=environ, capture_output=True, text=True, timeout=LONG, modules=warm.COMMAND, **more
    )


def recorded(server: LocalServer) -> list[tuple[str, list[str]]]:
    """Prompt, question and answer of each conversation; a busy machine completes them in a request of its own."""
    found, _ = server.store.conversations(limit=100)
    return sorted((each.prompt_id, [m["content"] for m in server.store.messages(each)][:2]) for each in found)


def test_a_command_is_recorded_as_it_is(server: LocalServer, tmp_path: Path) -> None:
    """A script, a module and a console script with their child processes: same input, output and exit status."""
    (tmp_path / "ask.py").write_text(ASK)
    program = """
        import subprocess, sys
        from ask import ask
        print(ask(f"[[say:{sys.stdin.read()}]]"))
        subprocess.run([sys.executable, "-c", "from ask import ask; ask('[[say:child]]')"], check=True)
        sys.exit(7)
    """
    (tmp_path / "app.py").write_text(textwrap.dedent(program))
    console = tmp_path / "console"
    console.write_text(f"#!{sys.executable}\nimport runpy\nrunpy.run_module('app', run_name='__main__')\n")
    console.chmod(0o755)
    environ = settings(server, PYTHONPATH=os.pathsep.join((str(tmp_path), os.environ["PYTHONPATH"])))
    commands = ([sys.executable, "app.py"], [sys.executable, "-m", "app"], [str(console)])
    for number, command in enumerate(commands):
        ended = ran(["--prompt-id", f"p{number}", "--", *command], environ, cwd=tmp_path, input="Hello!")
        assert (ended.returncode, ended.stdout, ended.stderr) == (7, "Hello!\n", "")
    assert recorded(server) == [
        (f"p{number}", [f"[[say:{word}]]", word]) for number in range(3) for word in ("Hello!", "child")
    ]


def test_settings_of_the_environment_hold(server: LocalServer, tmp_path: Path) -> None:
    """The prompt among them; without a prompt a line says which calls are recorded, and the others run unrecorded."""
    (tmp_path / "ask.py").write_text(f"{OPENAI}\nprint(ask('[[say:Hi!]]'))")
    command = ["--", sys.executable, "ask.py"]
    assert ran(command, settings(server), cwd=tmp_path).stderr == ""
    assert recorded(server) == [("prompt_env", ["[[say:Hi!]]", "Hi!"])]
    note = "only calls inside a conversation() will be recorded; --prompt-id gives the others a prompt"
    ended = ran(command, settings(server, CONVERRA_PROMPT_ID=""), cwd=tmp_path)
    assert (ended.stdout, ended.stderr.splitlines()[0]) == ("Hi!\n", f"converra run: {note}")
    off = ran(command, settings(server, CONVERRA_ENABLED="0", CONVERRA_API_KEY=""), cwd=tmp_path)
    said = "converra run: CONVERRA_ENABLED switches capture off: nothing will be recorded\n"
    assert (off.stdout, off.stderr) == ("Hi!\n", said)
    assert len(recorded(server)) == 1
    silenced = launch.notes({"CONVERRA_SILENCED": "pytest"})
    assert silenced == ["CONVERRA_SILENCED switches capture off: nothing will be recorded"]


def test_the_command_takes_the_place_of_the_process(tmp_path: Path) -> None:
    """It has the process id that a supervisor knows, the usual dispositions of signals, and ends by its own signal."""
    program = "import os, signal; print(os.getpid(), flush=True); signal.pause()"
    environ = {**os.environ, "CONVERRA_API_KEY": "real", "CONVERRA_PROMPT_ID": "p"}
    command = [*RUN, "--", sys.executable, "-c", program]
    with warm.Popen(command, env=environ, stdout=subprocess.PIPE, text=True, modules=warm.COMMAND) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) == process.pid
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONG) == -signal.SIGTERM
    status = ran(["--", "sh", "-c", "grep SigIgn /proc/$$/status"], environ)
    assert int(status.stdout.split()[1], 16) & (1 << (signal.SIGPIPE - 1)) == 0


def test_what_cannot_work_is_said(tmp_path: Path) -> None:
    """No key, a setting that cannot work, no command, one that is not there: with the exit status of each."""
    environ = {**os.environ, "CONVERRA_API_KEY": "real", "CONVERRA_PROMPT_ID": "p"}
    none = ran(["--", "echo", "1"], dict(os.environ))
    said = "Error: no API key: set CONVERRA_API_KEY; converra dev -- COMMAND records on this machine without one\n"
    assert (none.returncode, none.stdout, none.stderr) == (4, "", said)
    wrong = ran(["--", "echo", "1"], {**environ, "CONVERRA_TIMEOUT": "soon"})
    assert (wrong.returncode, wrong.stderr) == (2, "Error: CONVERRA_TIMEOUT is 'soon', expected seconds\n")
    assert ran([], environ).returncode == 2
    missing = ran(["--", "no-such-command-anywhere"], environ)
    said = "converra run: cannot run no-such-command-anywhere: No such file or directory\n"
    assert (missing.returncode, missing.stderr) == (127, said)
    (tmp_path / "app.py").write_text("")
    script = ran(["--", "./app.py"], environ, cwd=tmp_path)
    said = "converra run: cannot run ./app.py: Permission denied; did you mean python ./app.py?\n"
    assert (script.returncode, script.stderr) == (126, said)


def test_a_python_that_cannot_import_converra_runs(tmp_path: Path) -> None:
    """One line on standard error says that it is not recorded; the app does the same as without."""
    (tmp_path / "openai.py").write_text("name = 'openai'")
    (tmp_path / "converra.py").write_text("raise RuntimeError('for another Python')")
    environ = {**os.environ, "CONVERRA_API_KEY": "real", "CONVERRA_PROMPT_ID": "p"}
    command = [
        "--",
        sys.executable,
        "-c",
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import openai; print(1)",
    ]
    ended = ran(command, environ)
    assert (ended.returncode, ended.stdout) == (0, "1\n")
    reason = "cannot import converra, nothing is recorded: RuntimeError: for another Python"
    assert ended.stderr == f"converra: {sys.executable} {reason}\n"


def test_the_environment_of_a_command() -> None:
    """It has the settings of the launcher and the hook; nothing leads its conversations elsewhere."""
    before = {"PYTHONPATH": "/mine", "CONVERRA_API_KEY": "real", "OPENAI_API_KEY": "x"}
    after = launch.environment(before, "p")
    added = {name: value for name, value in after.items() if before.get(name) != value}
    assert added.keys() == {"PYTHONPATH", "CONVERRA_HOOK_MODULES", "CONVERRA_PROMPT_ID"}
    assert after["PYTHONPATH"].endswith(f"hook{os.pathsep}/mine")
    with pytest.raises(InvalidArgumentError, match="CONVERRA_SAMPLE_RATE"):
        launch.environment({**before, "CONVERRA_SAMPLE_RATE": "2"}, None)
