"""The command `converra` itself: found, listed, and clear about what is not installed."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

import converra.cli
from converra._version import __version__
from converra.cli.group import _COMMANDS, commands
from converra.server.run import serve
from tests import warm
from tests.cli.recorded import CHAT, record
from tests.patience import until

if TYPE_CHECKING:
    from pathlib import Path

BLOCKED = """
import sys
sys.modules[{module!r}] = None
sys.argv = ["converra", "dev", "--help"]
from converra.cli import main
main()
"""


def test_python_dash_m_is_the_command() -> None:
    """`python -m converra` works where the script is not on the path."""
    command = [sys.executable, "-m", "converra", "--version"]
    found = warm.run(command, capture_output=True, text=True, check=True, modules=warm.COMMAND)
    assert found.stdout == f"converra, version {__version__}\n"


@pytest.mark.parametrize(("module", "extra"), [("click", "cli"), ("starlette", "server"), ("uvicorn", "server")])
def test_a_missing_extra_is_named(module: str, extra: str) -> None:
    """The entry point exists without the extras; it says which one to install, and no traceback."""
    ran = subprocess.run(
        [sys.executable, "-c", BLOCKED.format(module=module)], capture_output=True, text=True, check=False
    )
    hint = f'converra: {module} is not installed; this command needs: pip install "converra[{extra}]"\n'
    assert (ran.returncode, ran.stdout, ran.stderr) == (1, "", hint)


def test_any_other_missing_module_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what an extra brings is explained; the rest is a bug with its traceback."""
    monkeypatch.setitem(sys.modules, "converra.cli.group", None)
    with pytest.raises(ModuleNotFoundError, match=r"converra\.cli\.group"):
        converra.cli.main()


def test_every_command_is_listed_with_a_line() -> None:
    """The list needs no command's own dependencies, and each command explains itself."""
    listed = CliRunner().invoke(commands, ["--help"])
    assert listed.exit_code == 0
    for name, row in _COMMANDS.items():
        assert f"{name} " in listed.output
        assert row.summary in listed.output
        assert CliRunner().invoke(commands, [name, "--help"]).exit_code == 0


def printed_by(command: list[str]) -> str:
    return str(warm.run(command, stdout=subprocess.PIPE, text=True, check=True, modules=warm.COMMAND).stdout)


def test_help_has_a_short_name() -> None:
    """As many type it first."""
    command = [sys.executable, "-m", "converra", "conversations", "show"]
    asked = [printed_by([*command, option]) for option in ("--help", "-h")]
    assert asked[0] == asked[1]
    assert "  -h, --help " in asked[0]


def test_commands_are_completed() -> None:
    """In the order of the list, for the shell's completion."""
    assert commands.list_commands(click.Context(commands)) == list(_COMMANDS)


def test_output_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """A full disk ends in a line, as everything else that goes wrong."""
    record(tmp_path / "db")
    command = [sys.executable, "-m", "converra", "conversations", "list", "--db", str(tmp_path / "db")]
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        ran = warm.run(command, stdout=full, stderr=subprocess.PIPE, text=True, modules=warm.COMMAND)
    assert ran.returncode != 0
    assert ran.stderr.splitlines()[0] == "Error: No space left on device"


def test_a_reader_that_has_enough_ends_it(tmp_path: Path) -> None:
    """As `| head` does, without a word."""
    record(tmp_path / "db", [{"role": "user", "content": "x" * 90_000}, CHAT[4]])
    command = [sys.executable, "-m", "converra", "export", "--format", "transcript", "--db", str(tmp_path / "db")]
    pipe = subprocess.PIPE
    with warm.Popen(command, modules=warm.COMMAND, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""


def test_an_unknown_command_is_refused() -> None:
    """With the usual status of wrong usage."""
    ran = CliRunner().invoke(commands, ["devv"])
    assert (ran.exit_code, "No such command 'devv'" in ran.output) == (2, True)


def test_a_misspelt_command_gets_a_suggestion() -> None:
    """The command that was meant; and `help` is --help, of a command as well."""
    ran = CliRunner().invoke(commands, ["conversation", "list"])
    assert (ran.exit_code, "No such command 'conversation'. Did you mean 'conversations'?" in ran.output) == (2, True)
    assert CliRunner().invoke(commands, ["help"]).output == CliRunner().invoke(commands, ["--help"]).output
    asked = [CliRunner().invoke(commands, words).output for words in (["help", "tail"], ["tail", "--help"])]
    assert asked[0] == asked[1]


def completed(words: str, **environ: str) -> list[str]:
    """What bash offers for the last of some words."""
    given = {"_CONVERRA_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    program = "from converra.cli import main; main()"
    ended = warm.run(
        [sys.executable, "-c", program],
        modules=warm.COMMAND,
        env={**os.environ, **given, **environ},
        capture_output=True,
        text=True,
    )
    assert ended.stderr == ""
    return [line.partition(",")[2] for line in ended.stdout.splitlines() if line]


def test_the_shell_completes(tmp_path: Path) -> None:
    """Commands and ids, of the file or of the API; where neither can be read, only what is known anyway."""
    db = tmp_path / "db"
    made = record(db)
    show = f"converra conversations show --db {db}"
    assert completed("converra conv") == ["conversations"]
    assert completed(f"{show} ") == ["last", made]
    assert completed(f"{show} {made[:7]}") == completed(f"{show} {made[-5:]}") == [made]
    assert completed(f"converra push --db {db} {made[:7]}") == [made]
    assert completed("converra export la") == ["last"]
    assert completed(f"{show}-missing con") == []
    with serve(path=db) as server:
        api = {"CONVERRA_API_KEY": "dev", "CONVERRA_BASE_URL": server.base_url}
        until(lambda: completed("converra export con", **api), [made])  # it gives up on an API that is slow


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_is_printed(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the shell that is named, or of the user's; what is none is refused."""
    printed = CliRunner().invoke(commands, ["completion", shell])
    assert (printed.exit_code, f"_CONVERRA_COMPLETE={shell}_complete" in printed.stdout) == (0, True)
    monkeypatch.setenv("SHELL", f"/usr/bin/{shell}")
    assert CliRunner().invoke(commands, ["completion"]).stdout == printed.stdout
    monkeypatch.setenv("SHELL", "/bin/csh")
    assert CliRunner().invoke(commands, ["completion"]).exit_code == 2
