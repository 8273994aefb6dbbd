"""The command `converra` itself: found, listed, and clear about what is not installed."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

import converra.cli
from converra._version import __version__
from converra.cli.group import _COMMANDS, commands
from tests.cli.recorded import CHAT, record

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
    found = subprocess.run([sys.executable, "-m", "converra", "--version"], capture_output=True, text=True, check=True)
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


def test_help_has_a_short_name() -> None:
    """As many type it first."""
    command = [sys.executable, "-m", "converra", "conversations", "show"]
    asked = [subprocess.check_output([*command, option], text=True) for option in ("--help", "-h")]
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
        ran = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ran.returncode != 0
    assert ran.stderr.splitlines()[0] == "Error: [Errno 28] No space left on device"


def test_a_reader_that_has_enough_ends_it(tmp_path: Path) -> None:
    """As `| head` does, without a word."""
    record(tmp_path / "db", [{"role": "user", "content": "x" * 90_000}, CHAT[4]])
    command = [sys.executable, "-m", "converra", "export", "--format", "transcript", "--db", str(tmp_path / "db")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""


def test_an_unknown_command_is_refused() -> None:
    """With the usual status of wrong usage."""
    ran = CliRunner().invoke(commands, ["devv"])
    assert (ran.exit_code, "No such command 'devv'" in ran.output) == (2, True)
