"""`converra dev -- COMMAND`: an app is run as it is, and its conversations are here."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, NamedTuple

import httpx
import pytest
from click.testing import CliRunner

from converra.cli import child
from converra.cli.group import commands
from converra.server.store.conversations import Store
from tests import warm
from tests.patience import LONG, UNHURRIED
from tests.terminal import in_a_terminal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CLOCK = r"\d\d:\d\d:\d\d"

OPENAI = """
import sys
from openai import OpenAI as Client

def ask(question):
    completion = Client().chat.completions.create(model="m", messages=[{"role": "user", "content": question}])
    return completion.choices[0].message.content
"""


ASK = OPENAI.replace("openai import OpenAI", "groq import Groq")
"""The same by a client that takes half as long to import."""


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

    def ran(program: str, *options: str, command: tuple[str, ...] = (sys.executable, "app.py"), ask: str = ASK) -> Ran:
        (tmp_path / "ask.py").write_text(ask)
        (tmp_path / "app.py").write_text(textwrap.dedent(program))
        line = [sys.executable, "-m", "converra", "dev", "--port", "0", "--db", "kept.db", *options, "--", *command]
        environ = os.environ | UNHURRIED
        ended = warm.run(
            line, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=LONG, modules=warm.COMMAND
        )
        return Ran(ended.returncode, ended.stdout, ended.stderr, kept(tmp_path / "kept.db"))

    return ran


def kept(path: Path) -> list[tuple[str, list[str]]]:
    with contextlib.closing(Store(path)) as store:
        found, _ = store.conversations(limit=100)
        return [(c.prompt_id, [m["content"] for m in store.messages(c)]) for c in reversed(found)]


def test_an_app_is_recorded_as_it_is(run: Callable[..., Ran]) -> None:
    """Without a change of its code, a key or a network: a line for each turn, its own output and its exit status."""
    ran = run("import sys\nfrom ask import ask\nprint(ask('[[say:Hello!]]'))\nsys.exit(3)", "--fake-llm", ask=OPENAI)
    assert (ran.status, ran.out) == (3, "Hello!\n")
    assert ran.kept == [("dev", ["[[say:Hello!]]", "Hello!"])]
    lines = ran.err.splitlines()
    assert re.fullmatch(r"converra dev: conversations of this command are at http://127\.0\.0\.1:\d+", lines[0]), lines
    label = lines[1].split()[2]
    facts = r"\(m-stand-in · \d+ tokens in, \d+ out · \S+ m?s\)"
    assert re.fullmatch(rf"{CLOCK} dev {label}       user  \[\[say:Hello!\]\]", lines[1])
    assert re.fullmatch(rf"{CLOCK} dev {label}  assistant  Hello!  {facts}", lines[2])
    assert re.fullmatch(rf"{CLOCK} dev {label}  completed", lines[3])
    look = f"Look: converra conversations show {label} --db kept.db, or converra dev --db kept.db"
    assert lines[4:] == [f"converra dev: 1 turn in 1 conversation. {look}"]


def test_programs_can_read_the_turns(run: Callable[..., Ran]) -> None:
    """As JSON on standard error: the addresses, an object for each turn and one for the end, and at last the counts."""
    first, *turns, result = map(
        json.loads, run("from ask import ask\nask('[[say:Hi!]]')", "--fake-llm", "--json").err.splitlines()
    )
    assert (first["db"], first["api"]) == ("kept.db", f"{first['viewer']}/api/v1")
    assert [turn.get("message", {}).get("content") for turn in turns] == ["[[say:Hi!]]", "Hi!", None]
    assert turns[-1] == {"conversationId": turns[0]["conversationId"], "promptId": "dev", "status": "completed"}
    assert result == {"result": {"turns": 1, "conversations": 1, "rejected": 0}}


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


def test_nothing_recorded_says_why(run: Callable[..., Ran], tmp_path: Path) -> None:
    """Whatever the reason is, in one line at the end, and the command's status and output stay as they are."""
    *others, last = child.libraries()
    known = f"{', '.join(others)} or {last}"
    assert known.startswith("openai, langchain, ")
    isolated = (sys.executable, "-I", "-c", "print(1)")
    ignored = "no Python of this command loaded the hook: there was none, or it ignores PYTHONPATH (python -I, -E)"
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "converra.py").write_text("raise ImportError('none')")
    broken = "import sys; sys.path.insert(0, 'broken'); print(1); import openai"
    cases = [
        (run("print(1)"), f"no Python of this command imported {known}"),
        (run("", command=isolated), ignored),
        (run("", command=("echo", "1")), ignored),
        (run("import openai; print(1)"), "openai was imported, but no call that can be recorded came"),
        (run(broken), f"1 Python could not import converra: {sys.executable} (ImportError: none)"),
    ]
    for ran, reason in cases:
        assert (ran.status, ran.out) == (0, "1\n")
        said = f"converra dev: nothing was recorded, because {reason}. `converra doctor` checks the setup."
        assert ran.err.splitlines()[-1] == said
    result = json.loads(run("print(1)", "--json").err.splitlines()[-1])["result"]
    assert result == {"turns": 0, "conversations": 0, "rejected": 0, "reason": cases[0][1]}


REJECTED = """
import httpx, os, sys
headers = {"Authorization": "Bearer dev"}
httpx.post(os.environ["CONVERRA_BASE_URL"] + "/conversations", json={"content": "x"}, headers=headers)
"""


def test_rejected_requests_are_shown(run: Callable[..., Ran]) -> None:
    """With their status and the reason, for people and for programs; and they are counted."""
    ran = run(REJECTED)
    target = "POST /api/v1/conversations: 400"
    assert re.fullmatch(rf"{CLOCK} rejected  {target}  \S.*promptId.*", ran.err.splitlines()[1]), ran.err
    assert "because 1 request of this command was rejected" in ran.err.splitlines()[-1]
    _, rejected, result = map(json.loads, run(REJECTED, "--json").err.splitlines())
    fields = {name: rejected["rejected"][name] for name in ("method", "path", "status")}
    assert fields == {"method": "POST", "path": "/api/v1/conversations", "status": 400}
    assert result["result"]["rejected"] == 1
    both = run(f"{REJECTED}\nfrom ask import ask\nask('[[say:Hi!]]')", "--fake-llm", "--quiet").err.splitlines()
    assert len(both) == 2
    assert both[1].startswith("converra dev: 1 turn in 1 conversation. 1 request rejected. Look: ")


def test_nothing_to_look_at_later_is_not_offered(run: Callable[..., Ran]) -> None:
    """Conversations that are kept in memory are counted only; several are listed."""
    program = "from ask import ask\nask('[[say:Hi!]]')\nask('[[say:Ho!]]')"
    kept = run(program, "--fake-llm", "--quiet").err.splitlines()
    look = "Look: converra conversations list --db kept.db, or converra dev --db kept.db"
    assert kept[1:] == [f"converra dev: 2 turns in 2 conversations. {look}"]
    forgotten = run(program, "--fake-llm", "--quiet", "--db", ":memory:").err.splitlines()
    assert forgotten[1:] == ["converra dev: 2 turns in 2 conversations."]


def test_the_viewer_may_stay(tmp_path: Path) -> None:
    """With --stay until Ctrl-C, and with the status of the command; another command's conversations come there too."""
    there = [sys.executable, "-m", "converra", "dev", "--db", str(tmp_path / "db"), "--quiet", "--fake-llm"]
    (tmp_path / "ask.py").write_text(ASK + "\nask('[[say:Hi!]]')\nsys.exit(3)")
    line = [*there, "--port", "0", "--stay", "--", sys.executable, str(tmp_path / "ask.py")]
    with (
        warm.Popen(
            line, stderr=subprocess.PIPE, text=True, env=os.environ | UNHURRIED, modules=warm.COMMAND
        ) as process,
        contextlib.ExitStack() as at_last,
    ):
        at_last.callback(process.kill)
        assert process.stderr is not None
        url = process.stderr.readline().rstrip().removeprefix("converra dev: conversations of this command are at ")
        said = process.stderr.readline()
        page = httpx.get(said.split()[8])
        other = warm.run(
            [*there, "--", sys.executable, str(tmp_path / "ask.py")],
            capture_output=True,
            text=True,
            env=os.environ | UNHURRIED,
            modules=warm.COMMAND,
        )
        process.send_signal(signal.SIGINT)
        assert process.wait(LONG) == 3
    assert said.startswith(f"converra dev: 1 turn in 1 conversation. Look: {url}/conversations/conv_"), said
    assert said.endswith(" Ctrl-C ends the viewer.\n")
    assert (page.status_code, "[[say:Hi!]]" in page.text) == (200, True)
    first, last = other.stderr.splitlines()
    assert first == f"converra dev: conversations of this command are at {url}"
    assert re.fullmatch(rf"converra dev: 1 turn in 1 conversation\. Look: {url}/conversations/conv_\w+", last)
    assert other.returncode == 3
    assert len(kept(tmp_path / "db")) == 2


def test_lines_begin_at_the_left_edge(tmp_path: Path) -> None:
    """Wherever the app has left the cursor of the terminal that both print to; other streams get no such thing.

    With --log they go to a file, and the terminal is the app's but for the first and the last line.
    """
    (tmp_path / "ask.py").write_text(ASK + "\nsys.stdout.write('Is'); sys.stdout.flush(); ask('[[say:Hi!]]')")
    command = [sys.executable, "-m", "converra", "dev", "--port", "0", "--db", ":memory:", "--fake-llm", "--"]
    program = [sys.executable, str(tmp_path / "ask.py")]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in UNHURRIED.items():
            patch.setenv(name, value)
        seen = in_a_terminal([*command, *program], columns=100, wishes={"NO_COLOR": "1"})
        dumb = in_a_terminal([*command, *program], columns=100, wishes={"TERM": "dumb"})
        command[-1:-1] = ["--log", str(tmp_path / "log")]
        logged = in_a_terminal([*command, *program], columns=100)
    first, app, last, *_ = on_screen(logged.screen, 100)
    assert (app, first[:13], last[:22]) == ("Is", "converra dev:", "converra dev: 1 turn i"), logged.screen
    kept_apart = (tmp_path / "log").read_text()
    assert re.match(rf"{CLOCK} dev \w+       user  \[\[say:Hi!\]\]\n{CLOCK} dev \w+  assistant  Hi!", kept_apart), (
        kept_apart
    )
    assert "\x1b" not in kept_apart
    rows = on_screen(seen.screen, 100)
    assert rows[1] == "Is"
    assert re.match(rf"{CLOCK} dev \w+       user  ", rows[2]), rows
    assert "" not in rows[:-1]
    assert "\x1b[K" not in dumb.screen


def on_screen(printed: str, columns: int) -> list[str]:
    """Rows of a terminal that puts a wrap off until the next character, as xterm does."""
    rows, at = [""], 0
    for character in printed.replace("\r\n", "\n").replace("\x1b[K", "\v"):
        if character in "\r\n":
            at = 0
        if character == "\n":
            rows.append("")
        elif character == "\v":
            rows[-1] = rows[-1][:at]
        elif character != "\r":
            if at == columns:
                rows.append("")
                at = 0
            rows[-1] = f"{rows[-1][:at].ljust(at)}{character}{rows[-1][at + 1 :]}"
            at += 1
    return [row.rstrip() for row in rows]


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


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("raise ImportError('none here')", "ImportError: none here"),
        ("x = y", "NameError: name 'y' is not defined"),
        ("raise RuntimeError('for another\\nPython')", "RuntimeError: for another Python"),
    ],
)
def test_a_python_without_converra_is_told_of(tmp_path: Path, source: str, error: str) -> None:
    """The app runs all the same, in whatever way the import fails."""
    (tmp_path / "openai.py").write_text("name = 'openai'")
    (tmp_path / "converra.py").write_text(source)
    environ = os.environ | {
        "PYTHONPATH": os.pathsep.join((str(child.HOOK), str(tmp_path))),
        "CONVERRA_HOOK_MODULES": "openai",
    }
    program = "import openai; print(openai.name)"
    ended = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True)
    assert ended.stdout == "openai\n"
    said = f"converra: {sys.executable} cannot import converra, nothing is recorded: {error}\n"
    assert ended.stderr == said


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
    with warm.Popen(
        [*line, "--", sys.executable, "-c", program],
        modules=warm.COMMAND,
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
    if status in (126, 127):
        assert ran.output.splitlines()[-1].startswith(f"converra dev: cannot run {command[0]}: ")


def test_a_command_at_a_taken_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for by number: an error. Not asked for: a free one instead."""
    from converra.cli.commands import dev as dev_module
    from converra.server.run import listen

    with contextlib.closing(listen(0)) as taken:
        port = taken.getsockname()[1]
        ran = CliRunner().invoke(commands, ["dev", "--port", str(port), "--db", ":memory:", "--", "true"])
        monkeypatch.setattr(dev_module, "PORT", port)
        free = CliRunner().invoke(commands, ["dev", "--db", ":memory:", "--", "true"])
    expected = f"Error: port {port} cannot be used: Address already in use; --port 0 takes a free one\n"
    assert (ran.exit_code, ran.output) == (1, expected)
    assert (free.exit_code, f":{port} " in free.output) == (0, False)
    assert free.output.splitlines()[0].endswith(f" (port {port} is taken)")


def test_options_of_a_command_need_one() -> None:
    """Said before anything is served."""
    ran = CliRunner().invoke(commands, ["dev", "--fake-llm"])
    assert ran.exit_code == 2
    assert "--fake-llm, --prompt-id and --stay are for a command" in " ".join(ran.output.split())


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
    modules = after.pop("CONVERRA_HOOK_MODULES").split(",")
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
    assert (faked["ANTHROPIC_BASE_URL"], faked["ANTHROPIC_API_KEY"]) == ("http://model/anthropic", "dev")
    assert faked["AWS_ENDPOINT_URL_BEDROCK_RUNTIME"] == "http://model/bedrock"
    assert (faked["OLLAMA_HOST"], faked["MISTRAL_SERVER_URL"]) == ("http://model/ollama", "http://model/mistral")
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
