"""The commands that need no extra, where click is not installed: a server that only records has no command line."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from converra._version import __version__
from converra.cli import launch
from converra.cli.diagnosis import diagnose
from converra.cli.failures import exit_status, explained
from converra.errors import ConverraError

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Run one of the commands; its exit status."""
    given = _parser().parse_args(arguments)
    if given.which == "doctor":
        return diagnose(offline=given.offline, as_json=given.json, verbose=given.verbose, outbox=given.outbox)
    command = given.command[1:] if given.command[:1] == ["--"] else given.command
    if not command:
        return _failed("give a command: converra run -- python app.py", 2)
    try:
        launch.run(command, given.prompt_id)
    except ConverraError as error:
        return _failed(explained(error), exit_status(error))


def _parser() -> argparse.ArgumentParser:
    more = 'The other commands need: pip install "converra[cli]", or "converra[server]" for all.'
    parser = argparse.ArgumentParser(prog="converra", epilog=more)
    parser.add_argument("--version", action="version", version=f"converra, version {__version__}")
    commands = parser.add_subparsers(dest="which", required=True)
    run = commands.add_parser("run", help="Run a command and record its calls to the API.")
    run.add_argument("--prompt-id", metavar="ID", help="Prompt of the command's calls outside a conversation().")
    run.add_argument("command", metavar="COMMAND", nargs=argparse.REMAINDER)
    doctor = commands.add_parser("doctor", help="Check the settings, and that the libraries are patched.")
    doctor.add_argument("--offline", action="store_true", help="Ask the API nothing.")
    doctor.add_argument("--verbose", "-v", action="store_true", help="Also list what is as expected.")
    doctor.add_argument("--outbox", metavar="URL", help="Also check a fleet's Redis.")
    doctor.add_argument("--json", action="store_true", help="Print JSON, for programs.")
    return parser


def _failed(message: str, status: int) -> int:
    sys.stderr.write(f"Error: {message}\n")
    return status
